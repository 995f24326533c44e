"""``dovecote callbacks``: list, show and run again the stored callbacks of providers."""

import datetime as dt
import functools
import uuid
from collections.abc import Sequence
from typing import Final

import click
from rich.table import Table

from service.cli.api_client import collect, open_client
from service.cli.backup import callbacks as stored
from service.cli.layout import Document, add_last_column, age, one_line, plain_table, shown
from service.cli.options import server_options
from service.cli.printing import print_json, print_out, print_page, say

DECISIONS: Final = (
    "applied", "duplicate", "ignored", "stale", "late", "unreadable", "forged", "unmatched", "hastened", "parked",
)  # fmt: skip
_STYLES: Final = {"applied": "green", "unreadable": "red", "forged": "red", "unmatched": "yellow", "parked": "yellow"}
_DECISION: Final = click.option(
    "--decision",
    "decisions",
    multiple=True,
    type=click.Choice(DECISIONS),
    help="Only callbacks with this decision; may be repeated.",
)


@click.group("callbacks")
def command() -> None:
    """List, show and run again the callbacks of providers."""


@command.command("list")
@_DECISION
@click.option("--task", metavar="ID", type=click.UUID, help="Only callbacks about this task.")
@click.option("--upstream", metavar="NAME", help="Only callbacks of this upstream.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Maximum number of callbacks.")
@server_options
def list_callbacks(
    *,
    decisions: tuple[str, ...],
    task: uuid.UUID | None,
    upstream: str | None,
    limit: int,
    url: str,
    as_json: bool,
) -> None:
    """List callbacks, newest first. A key without the scope admin must name a task."""
    with open_client(url) as client:
        read = functools.partial(client.callbacks.page, decision=list(decisions) or None, task=task, upstream=upstream)
        callbacks, cursor = collect(read, limit)
    print_page("callbacks", callbacks, cursor, table=_table, fewer="--decision", as_json=as_json)


@command.command()
@click.argument("callback_id", metavar="ID", type=click.UUID)
@server_options
def show(callback_id: uuid.UUID, url: str, *, as_json: bool) -> None:
    """Show a callback, and what this version reads in it."""
    with open_client(url) as client:
        callback = client.callbacks.get(callback_id).document
    if as_json:
        print_json(callback)
        return
    print_out(_table([callback]))
    say(f"Today's reader: {callback['reads_as'] or callback['reading_error'] or 'nothing'}")
    print_out(one_line(callback["body"]))


@command.command()
@click.argument("callback_ids", metavar="[ID]...", nargs=-1, type=click.UUID)
@_DECISION
@click.option("--limit", type=click.IntRange(1, 1000), help="Maximum number of callbacks with a --decision.")
@server_options
def rerun(
    callback_ids: tuple[uuid.UUID, ...], *, decisions: tuple[str, ...], limit: int | None, url: str, as_json: bool
) -> None:
    """Process callbacks again, as this version reads them: those with the IDs, or all with a decision."""
    if bool(callback_ids) == bool(decisions):
        raise click.UsageError("name the callbacks: give either IDs or --decision")
    if callback_ids and limit is not None:
        raise click.UsageError("--limit goes with --decision, not with IDs")
    with open_client(url) as client:
        if callback_ids:
            for each in callback_ids:
                client.callbacks.rerun(each)
            count = len(callback_ids)
        else:
            count = client.callbacks.rerun_all(*decisions, limit=limit)
    if as_json:
        print_json({"rerun": count})
    else:
        say(f"{count} callback{'s are' if count != 1 else ' is'} processed again.")


command.add_command(stored)


def _table(callbacks: Sequence[Document]) -> Table:
    """Return a table of callbacks, one a line."""
    table = plain_table("id", "age", "upstream", "decision", "task")
    add_last_column(table, "detail")
    for each in callbacks:
        table.add_row(
            shown(each["id"]),
            age(each["received_at"], now=_now()),
            shown(each["upstream"] or "unknown"),
            shown(each["decision"] or "pending", _STYLES.get(each["decision"] or "", "")),
            shown(each["task_id"] or ""),
            one_line(each["detail"] or ""),
        )
    return table


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
