"""``dovecote messages``: list, show and replay the messages to clients."""

import datetime as dt
import functools
import uuid
from collections.abc import Sequence
from typing import Any, Final

import click
from rich.table import Table

from service.cli.api_client import collect, open_client
from service.cli.arguments import read_moment
from service.cli.layout import Document, add_last_column, age, one_line, plain_table, shown, until
from service.cli.options import server_options
from service.cli.printing import print_json, print_out, print_page, say

_STATE: Final = click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(["pending", "delivered", "exhausted", "discarded"]),
    help="Only messages in this state; may be repeated.",
)
_TYPE: Final = click.option(
    "--type", "types", multiple=True, metavar="TYPE", help="Only messages of this type; may be repeated."
)
_ENDPOINT: Final = click.option("--endpoint", metavar="ID", type=click.UUID, help="Only messages to this endpoint.")


@click.group("messages")
def command() -> None:
    """List, show and replay messages to clients."""


@command.command("list")
@_STATE
@_TYPE
@_ENDPOINT
@click.option("--task", metavar="ID", type=click.UUID, help="Only messages about this task.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Maximum number of messages.")
@server_options
def list_messages(
    *,
    states: tuple[str, ...],
    types: tuple[str, ...],
    endpoint: uuid.UUID | None,
    task: uuid.UUID | None,
    limit: int,
    url: str,
    as_json: bool,
) -> None:
    """List messages, newest first."""
    filters: dict[str, Any] = {
        "state": list(states) or None,
        "type": list(types) or None,
        "endpoint": endpoint,
        "task": task,
    }
    with open_client(url) as client:
        messages, cursor = collect(functools.partial(client.messages.page, **filters), limit)
    print_page("messages", messages, cursor, table=messages_table, fewer="--state", as_json=as_json)


@command.command()
@click.argument("message_id", metavar="ID", type=click.UUID)
@server_options
def show(message_id: uuid.UUID, url: str, *, as_json: bool) -> None:
    """Show a message and every attempt to deliver it."""
    with open_client(url) as client:
        message = client.messages.get(message_id).document
    print_message(message, as_json=as_json)


@command.command()
@click.argument("message_ids", metavar="[ID]...", nargs=-1, type=click.UUID)
@click.option("--since", metavar="SPAN|TIME", help="Messages written since: 15m, 2h, 1d, or a time.")
@click.option("--before", metavar="SPAN|TIME", help="Messages written before.")
@_STATE
@_TYPE
@_ENDPOINT
@click.option("--dry-run", is_flag=True, help="Count the messages only; deliver none.")
@server_options
def replay(
    message_ids: tuple[uuid.UUID, ...],
    *,
    since: str | None,
    before: str | None,
    states: tuple[str, ...],
    types: tuple[str, ...],
    endpoint: uuid.UUID | None,
    dry_run: bool,
    url: str,
    as_json: bool,
) -> None:
    """Deliver messages again: those with the IDs, or all that match since some time.

    Without --state, those that are exhausted or discarded. The webhook-id stays the same.
    """
    if bool(message_ids) == (since is not None):
        raise click.UsageError("name the messages: give either IDs or --since")
    if message_ids and (before or states or types or endpoint or dry_run):
        raise click.UsageError("--before, --state, --type, --endpoint and --dry-run go with --since, not with IDs")
    with open_client(url) as client:
        if since is None:
            for each in message_ids:
                client.messages.replay(each)
            count = len(message_ids)
        else:
            count = client.messages.replay_all(
                after=read_moment(since, now=_now()),
                before=None if before is None else read_moment(before, now=_now()),
                state=list(states) or None,
                type=list(types) or None,
                endpoint=None if endpoint is None else str(endpoint),
                dry_run=dry_run or None,
            )
    if as_json:
        print_json({"replayed": 0, "would_be_replayed": count} if dry_run else {"replayed": count})
    elif dry_run:
        say(f"{count} messages would be delivered again." if count != 1 else "1 message would be delivered again.")
    else:
        say(f"{count} messages are due now." if count != 1 else "1 message is due now.")


def print_message(message: Document, *, as_json: bool) -> None:
    """Print a message and every attempt to deliver it."""
    if as_json:
        print_json(message)
        return
    print_out(messages_table([message]))
    if message["deliveries"]:
        print_out(_deliveries_table(message["deliveries"]))


def messages_table(messages: Sequence[Document]) -> Table:
    """Return a table of messages, one a line."""
    table = plain_table("id", "age", "type", "state", "#", "next attempt")
    add_last_column(table, "to")
    for message in messages:
        error = "" if message["last_error"] is None else f"  ({message['last_error']})"
        table.add_row(
            shown(message["id"]),
            age(message["created_at"], now=_now()),
            shown(message["type"]),
            shown(message["state"], _STYLES.get(message["state"], "")),
            str(message["attempts"]),
            until(message["next_attempt_at"], now=_now()),
            one_line(f"{message['url']}{error}"),
        )
    return table


def _deliveries_table(deliveries: Sequence[Document]) -> Table:
    """Return a table of the attempts to deliver a message, oldest first."""
    table = plain_table("#", "age", "status", "took")
    add_last_column(table, "response")
    for each in deliveries:
        table.add_row(
            str(each["attempt"]),
            age(each["at"], now=_now()),
            "" if each["status"] is None else str(each["status"]),
            f"{each['duration_ms']} ms",
            one_line(each["answer"] or each["error"] or ""),
        )
    return table


_STYLES: Final = {"delivered": "green", "exhausted": "red", "discarded": "yellow"}


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
