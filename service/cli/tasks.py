"""``dovecote tasks``: list, show, cancel, refresh, retry and erase tasks, and send the input that one waits for."""

import datetime as dt
import functools
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from dovecote import Erasure, Task
from service.cli import exits
from service.cli.adopt import command as adopt
from service.cli.api_client import collect, open_client
from service.cli.arguments import read_input, read_moment
from service.cli.layout import WIDE_ENOUGH, events_table, task_sheet, tasks_table
from service.cli.listen import event_line, message_of
from service.cli.options import OUTPUT, server_options
from service.cli.printing import console, json_text, print_json, print_out, print_page, say
from service.cli.saving import check_folder
from service.cli.watching import wait_for_end
from service.domain.task import State

_STATE: Final = click.Choice([str(state) for state in State])
_ID: Final = click.argument("task_id", metavar="ID", type=click.UUID)


@click.group("tasks")
def command() -> None:
    """List, show, watch, cancel, refresh, retry and erase tasks."""


command.add_command(adopt)


@command.command("list")
@click.option(
    "--state", "states", multiple=True, type=_STATE, metavar="STATE", help=f"Only {', '.join(State)}; may be repeated."
)
@click.option("--family", metavar="NAME", help="Only tasks of this family.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only tasks with this label; repeated: with all of them.",
)
@click.option("--client", metavar="NAME", help="Only tasks of this client; needs an API key with the scope admin.")
@click.option("--since", metavar="SPAN|TIME", help="Only tasks accepted since: 15m, 2h, 1d, or a time.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Maximum number of tasks.")
@server_options
def list_tasks(
    *,
    states: tuple[str, ...],
    family: str | None,
    labels: tuple[str, ...],
    client: str | None,
    since: str | None,
    limit: int,
    url: str,
    as_json: bool,
) -> None:
    """List tasks, newest first."""
    filters: dict[str, Any] = {
        "state": list(states) or None,
        "family": family,
        "client": client,
        "labels": _labels(labels),
        "created_after": None if since is None else read_moment(since, now=_now()),
    }
    with open_client(url) as api:
        tasks, cursor = collect(functools.partial(api.page, **filters), limit)
    print_page(
        "tasks",
        tasks,
        cursor,
        table=functools.partial(tasks_table, now=_now(), wide=console().width >= WIDE_ENOUGH),
        fewer="--state or --since",
        as_json=as_json,
    )


@command.command()
@_ID
@click.option("--wait", is_flag=True, help="Wait for the end, and print the results.")
@OUTPUT
@server_options
def show(task_id: uuid.UUID, url: str, *, wait: bool, output: Path | None, as_json: bool) -> None:
    """Show a task: its state, and why it is not finished yet."""
    check_folder(output)
    with open_client(url) as client:
        task = client.get(task_id)
        if wait or output is not None:
            wait_for_end(client, task, as_json=as_json, output=output)
        else:
            _print(task, as_json=as_json)


@command.command()
@click.argument("task_id", metavar="[ID]", type=click.UUID, required=False)
@server_options
def watch(task_id: uuid.UUID | None, url: str, *, as_json: bool) -> None:
    """Watch a task until its end, or all your tasks from now on until Ctrl-C.

    A task is shown with its progress; at its end its results are printed. All tasks are shown as one line for each event,
    with --json as one JSON object a line.
    """
    with open_client(url) as client:
        if task_id is not None:
            wait_for_end(client, client.get(task_id), as_json=as_json)
            return
        say("Watching all tasks. Ctrl-C ends it.")
        for event in client.stream():
            click.echo(json_text(message_of(event)) if as_json else event_line(event))


@command.command()
@_ID
@server_options
def events(task_id: uuid.UUID, url: str, *, as_json: bool) -> None:
    """Show the events of a task, oldest first."""
    with open_client(url) as client:
        found = [event.document for event in client.history(task_id)]
    if as_json:
        print_json({"events": found})
    else:
        print_out(events_table(found))


@command.command()
@_ID
@server_options
def cancel(task_id: uuid.UUID, url: str, *, as_json: bool) -> None:
    """Cancel a task, at the provider where the provider supports it."""
    with open_client(url) as client:
        task = client.cancel(task_id)
    if not task.ended:
        say("The cancellation is accepted. It is carried out as soon as the provider's id of the task is known.")
    _print(task, as_json=as_json)


@command.command()
@_ID
@server_options
def refresh(task_id: uuid.UUID, url: str, *, as_json: bool) -> None:
    """Query the provider now, outside the schedule."""
    with open_client(url) as client:
        task = client.refresh(task_id)
    _print(task, as_json=as_json)


@command.command()
@_ID
@click.option("--confirm-double-payment", is_flag=True, help="Accept that the task may be paid for twice. Required.")
@server_options
def retry(task_id: uuid.UUID, url: str, *, confirm_double_payment: bool, as_json: bool) -> None:
    """Submit an unconfirmed task again.

    A task is unconfirmed when its submission got no usable response: the provider may have the job, and may charge for
    it. Submitting it again can therefore pay twice.
    """
    if not confirm_double_payment:
        raise click.UsageError(
            "the provider may have this job already, so a retry can pay for it twice: "
            "repeat the command with --confirm-double-payment to accept that"
        )
    with open_client(url) as client:
        task = client.retry(task_id, confirm_double_payment=True)
    _print(task, as_json=as_json)


@command.command()
@click.argument("task_id", metavar="[ID]", type=click.UUID, required=False)
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Erase all tasks with these labels.")
@click.option("--client", metavar="NAME", help="Only tasks of this client; needs an API key with the scope admin.")
@click.option("--cancel", is_flag=True, help="Cancel open tasks. Without it they are erased when they have ended.")
@click.option("--dry-run", is_flag=True, help="Only count the tasks with these labels.")
@click.option("--yes", is_flag=True, help="Erase without a question.")
@server_options
def erase(
    *,
    task_id: uuid.UUID | None,
    labels: tuple[str, ...],
    client: str | None,
    cancel: bool,
    dry_run: bool,
    yes: bool,
    url: str,
    as_json: bool,
) -> None:
    """Erase the content of a task, or of all tasks with some labels.

    Input, results, callbacks and messages are removed, and the provider is asked to delete the job where it can. What was
    paid stays in the ledger. An erasure cannot be undone.
    """
    if (task_id is None) == (not labels) or (task_id is not None and (client or dry_run)):
        raise click.UsageError(
            "name either the ID of a task, or labels with --label; --client and --dry-run go with labels"
        )
    chosen = _labels(labels) or {}
    with open_client(url) as api:
        if task_id is not None:
            _confirm(f"Erase the content of task {task_id}?", yes=yes)
            _print_erasure(api.erase(task_id, cancel=cancel), as_json=as_json)
            return
        counted = api.erase_labelled(chosen, client=client, dry_run=True)
        if dry_run or not counted.tasks:
            _print_erasure(counted, as_json=as_json)
            return
        _confirm(f"Erase the content of {counted.tasks} tasks, of which {counted.open} are open?", yes=yes)
        _print_erasure(api.erase_labelled(chosen, client=client, cancel=cancel), as_json=as_json)


@command.command()
@click.argument("erasure_id", metavar="ID", type=click.UUID)
@server_options
def erasure(erasure_id: uuid.UUID, url: str, *, as_json: bool) -> None:
    """Show how far an erasure has come."""
    with open_client(url) as api:
        _print_erasure(api.erasure(str(erasure_id)), as_json=as_json)


def _confirm(question: str, *, yes: bool) -> None:
    """Ask the user before content is erased, except with ``--yes``."""
    if not yes and not click.confirm(question, err=True):
        raise click.exceptions.Exit(exits.USAGE)


def _print_erasure(erasure: Erasure, *, as_json: bool) -> None:
    if as_json:
        print_json(dict(erasure.document))
        return
    if erasure.state == "counted":
        say(f"{erasure.tasks} tasks have these labels, {erasure.open} of them are open. Nothing was erased.")
        return
    say(f"{erasure.erased} of {erasure.tasks} tasks are erased; {erasure.open} are erased when they have ended.")
    if erasure.state == "pending":
        say(f"Some work is left. Show it with: dovecote tasks erasure {erasure.id}")
    if erasure.failed_at_provider:
        say(f"The providers of {erasure.failed_at_provider} tasks did not delete their jobs.")


@command.command("input")
@_ID
@click.argument("values", nargs=-1, required=True, metavar="KEY=VALUE...")
@server_options
def send_input(task_id: uuid.UUID, values: tuple[str, ...], url: str, *, as_json: bool) -> None:
    """Send the input that a task in awaiting_input waits for.

    `dovecote tasks show ID` lists the fields. Values are written as for `dovecote submit`.
    """
    with open_client(url) as client:
        awaits = client.get(task_id).awaits or {}
        task = client.send_input(task_id, read_input(values, awaits.get("input") or {}))
    _print(task, as_json=as_json)


def _labels(written: tuple[str, ...]) -> Mapping[str, str] | None:
    for each in written:
        if "=" not in each:
            raise click.UsageError(f"{each[:80]!r} is not of the form key=value")
    return dict(each.split("=", 1) for each in written) or None


def _print(task: Task, *, as_json: bool) -> None:
    if as_json:
        print_json(task.document)
    else:
        print_out(task_sheet(task.document, now=_now()))


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
