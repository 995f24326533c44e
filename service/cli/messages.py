"""``dovecote messages``: look at what clients were told, and have it delivered again."""

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any, Final

import click
from rich.table import Table

from service.cli.api import Api
from service.cli.arguments import read_moment
from service.cli.layout import Document, add_last_column, age, one_line, plain_table, shown
from service.cli.options import asks_a_server
from service.cli.printing import print_json, print_out, say

_PAGE: Final = 100
_BATCH: Final = 1000
_STATE: Final = click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(["pending", "delivered", "exhausted", "discarded"]),
    help="Only in this state; may be repeated.",
)
_TYPE: Final = click.option(
    "--type", "types", multiple=True, metavar="TYPE", help="Only of this type; may be repeated."
)
_ENDPOINT: Final = click.option("--endpoint", metavar="ID", type=click.UUID, help="Only to this endpoint.")


@click.group("messages")
def command() -> None:
    """Look at messages to clients, have some delivered again."""


@command.command("list")
@_STATE
@_TYPE
@_ENDPOINT
@click.option("--task", metavar="ID", type=click.UUID, help="Only about this task.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many at most.")
@asks_a_server
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
    wanted = {"state": list(states), "type": list(types), "endpoint": _text(endpoint), "task": _text(task)}
    with Api.at(url) as api:
        messages, following = _gather(api, wanted, limit)
    if as_json:
        print_json({"messages": messages, "next": following})
    elif messages:
        print_out(_table(messages))
        if following is not None:
            say(f"There are more than these {len(messages)}: ask for more with --limit, or for fewer with --state.")
    else:
        say("There are no such messages.")


@command.command()
@click.argument("message_id", metavar="ID", type=click.UUID)
@asks_a_server
def show(message_id: uuid.UUID, url: str, *, as_json: bool) -> None:
    """Show a message and every attempt to deliver it."""
    with Api.at(url) as api:
        message = api.get(f"/v1/messages/{message_id}")
    if as_json:
        print_json(message)
        return
    print_out(_table([message]))
    if message["deliveries"]:
        print_out(_deliveries(message["deliveries"]))


@command.command()
@click.argument("message_ids", metavar="[ID]...", nargs=-1, type=click.UUID)
@click.option("--since", metavar="SPAN|TIME", help="Those written since: 15m, 2h, 1d, or a time.")
@click.option("--before", metavar="SPAN|TIME", help="Those written before.")
@_STATE
@_TYPE
@_ENDPOINT
@asks_a_server
def replay(
    message_ids: tuple[uuid.UUID, ...],
    *,
    since: str | None,
    before: str | None,
    states: tuple[str, ...],
    types: tuple[str, ...],
    endpoint: uuid.UUID | None,
    url: str,
    as_json: bool,
) -> None:
    """Deliver messages again: those with the IDs, or what nobody took since some time.

    Without --state those that are exhausted or discarded; all to where they were to go, under the same webhook-id.
    """
    if bool(message_ids) == (since is not None):
        raise click.UsageError("say which: give IDs, or --since")
    if message_ids and (before or states or types or endpoint):
        raise click.UsageError("--before, --state, --type and --endpoint go with --since, not with IDs")
    with Api.at(url) as api:
        if since is None:
            for each in message_ids:
                api.ask("POST", f"/v1/messages/{each}/replay")
            count = len(message_ids)
        else:
            span = {"after": read_moment(since, now=_now()), "before": before and read_moment(before, now=_now())}
            given = {**span, "state": list(states), "type": list(types), "endpoint": _text(endpoint)}
            count = _replay_all(api, {name: value for name, value in given.items() if value})
    if as_json:
        print_json({"replayed": count})
    else:
        say(f"{count} messages are due now." if count != 1 else "1 message is due now.")


def _replay_all(api: Api, wish: dict[str, Any]) -> int:
    """Ask again and again until there are no more."""
    count = 0
    cursor: str | None = None
    while True:
        more = {} if cursor is None else {"cursor": cursor}
        document = api.ask("POST", "/v1/messages/replay", document={**wish, **more, "limit": _BATCH}).document
        count, cursor = count + int(document["replayed"]), document["next"]
        if cursor is None:
            return count


def _gather(api: Api, wanted: dict[str, Any], limit: int) -> tuple[list[dict[str, Any]], str | None]:
    """Turn pages until there are enough messages, or no more."""
    messages: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = api.get("/v1/messages", {**wanted, "limit": min(limit - len(messages), _PAGE), "cursor": cursor})
        messages += page["messages"]
        cursor = page["next"]
        if cursor is None or len(messages) >= limit:
            return messages, cursor


def _table(messages: Sequence[Document]) -> Table:
    """Lay messages out, one a line."""
    table = plain_table("id", "age", "type", "state", "#")
    add_last_column(table, "to")
    for message in messages:
        trouble = "" if message["last_error"] is None else f"  ({message['last_error']})"
        table.add_row(
            shown(message["id"]),
            age(message["created_at"], now=_now()),
            shown(message["type"]),
            shown(message["state"], _STYLES.get(message["state"], "")),
            str(message["attempts"]),
            one_line(f"{message['url']}{trouble}"),
        )
    return table


def _deliveries(made: Sequence[Document]) -> Table:
    """Lay the attempts to deliver a message out, oldest first."""
    table = plain_table("#", "age", "status", "took")
    add_last_column(table, "what was said")
    for each in made:
        table.add_row(
            str(each["attempt"]),
            age(each["at"], now=_now()),
            "" if each["status"] is None else str(each["status"]),
            f"{each['duration_ms']} ms",
            one_line(each["answer"] or each["error"] or ""),
        )
    return table


_STYLES: Final = {"delivered": "green", "exhausted": "red", "discarded": "yellow"}


def _text(wanted: uuid.UUID | None) -> str | None:
    return None if wanted is None else str(wanted)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
