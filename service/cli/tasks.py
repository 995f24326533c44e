"""``dovecote tasks``: look at tasks, and ask for something to be done about one."""

import datetime as dt
import uuid
from typing import Any, Final

import click

from service.cli.api import Api
from service.cli.arguments import read_moment
from service.cli.layout import WIDE_ENOUGH, events_table, task_sheet, tasks_table
from service.cli.options import asks_a_server
from service.cli.printing import console, print_json, print_out, say
from service.cli.watching import wait_for_end
from service.domain.task import State

_STATE: Final = click.Choice([str(state) for state in State])
_PAGE: Final = 100
_ACCEPTED: Final = 202
_ID: Final = click.argument("task_id", metavar="ID", type=click.UUID)


@click.group("tasks")
def command() -> None:
    """Look at tasks, cancel or refresh one."""


@command.command("list")
@click.option(
    "--state", "states", multiple=True, type=_STATE, metavar="STATE", help=f"Only {', '.join(State)}; may be repeated."
)
@click.option("--family", metavar="NAME", help="Only of this family.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only with this label; all must match.")
@click.option("--since", metavar="SPAN|TIME", help="Only accepted since: 15m, 2h, 1d, or a time.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many at most.")
@asks_a_server
def list_tasks(
    *,
    states: tuple[str, ...],
    family: str | None,
    labels: tuple[str, ...],
    since: str | None,
    limit: int,
    url: str,
    as_json: bool,
) -> None:
    """List tasks, newest first."""
    wanted = {
        "state": list(states),
        "family": family,
        "label": list(labels),
        "created_after": None if since is None else read_moment(since, now=_now()),
    }
    with Api.at(url) as api:
        tasks, following = gather(api, wanted, limit)
    if as_json:
        print_json({"tasks": tasks, "next": following})
    elif tasks:
        print_out(tasks_table(tasks, now=_now(), wide=console().width >= WIDE_ENOUGH))
        if following is not None:
            say(
                f"There are more than these {len(tasks)}: ask for more with --limit, or for fewer with --state or --since."
            )
    else:
        say("There are no such tasks.")


@command.command()
@_ID
@click.option("--wait", is_flag=True, help="Wait for the end, and print the results.")
@asks_a_server
def show(task_id: uuid.UUID, url: str, *, wait: bool, as_json: bool) -> None:
    """Show a task: where it stands, and why it is not finished yet."""
    with Api.at(url) as api:
        task = api.get(f"/v1/tasks/{task_id}")
        if wait:
            wait_for_end(api, task, as_json=as_json)
        else:
            _print(task, as_json=as_json)


@command.command()
@_ID
@asks_a_server
def events(task_id: uuid.UUID, url: str, *, as_json: bool) -> None:
    """Show what happened to a task, oldest first."""
    with Api.at(url) as api:
        found = api.get(f"/v1/tasks/{task_id}/events")
    if as_json:
        print_json(found)
    else:
        print_out(events_table(found["events"]))


@command.command()
@_ID
@asks_a_server
def cancel(task_id: uuid.UUID, url: str, *, as_json: bool) -> None:
    """Cancel a task: at the provider where that can be done, else here."""
    with Api.at(url) as api:
        reply = api.ask("POST", f"/v1/tasks/{task_id}/cancel")
    if reply.status == _ACCEPTED:
        say("Noted: it is carried out as soon as the provider's id for the task is known.")
    _print(reply.document, as_json=as_json)


@command.command()
@_ID
@asks_a_server
def refresh(task_id: uuid.UUID, url: str, *, as_json: bool) -> None:
    """Ask the provider now, outside the schedule."""
    with Api.at(url) as api:
        reply = api.ask("POST", f"/v1/tasks/{task_id}/refresh")
    _print(reply.document, as_json=as_json)


def gather(api: Api, wanted: dict[str, Any], limit: int) -> tuple[list[dict[str, Any]], str | None]:
    """Turn pages until there are enough tasks, or no more."""
    tasks: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = api.get("/v1/tasks", {**wanted, "limit": min(limit - len(tasks), _PAGE), "cursor": cursor})
        tasks += page["tasks"]
        cursor = page["next"]
        if cursor is None or len(tasks) >= limit:
            return tasks, cursor


def _print(task: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(task)
    else:
        print_out(task_sheet(task, now=_now()))


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
