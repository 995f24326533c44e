"""Choose the messages to claim, fairly: by client, then by destination, within the slots that each has."""

import functools
import heapq
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import bindparam, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.destination_slots import Destination, DestinationSlots
from service.store.prepared import Prepared
from service.store.tables import DUE, webhook_messages

_COLUMNS = (
    webhook_messages.c.id,
    webhook_messages.c.client,
    webhook_messages.c.destination,
    webhook_messages.c.url,
    webhook_messages.c.due_at,
)
_HEAD = Prepared(
    select(*_COLUMNS)
    .where(DUE, webhook_messages.c.due_at <= bindparam("now"))
    .order_by(webhook_messages.c.due_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_OF_DESTINATION = (
    select(*_COLUMNS)
    .where(
        DUE,
        webhook_messages.c.due_at <= bindparam("now"),
        webhook_messages.c.client == bindparam("of_client"),
        webhook_messages.c.destination == bindparam("of_destination"),
    )
    .order_by(webhook_messages.c.due_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)


def _order(table: Any) -> tuple[Any, ...]:
    return table.c.client, table.c.destination, table.c.due_at


def _waiting() -> Any:
    """Select the longest due message of each destination of each client, with one index lookup for each."""
    first = select(webhook_messages.c.id).where(DUE).order_by(*_order(webhook_messages)).limit(1).scalar_subquery()
    found = select(first.label("id")).cte("found", recursive=True)
    before, after = webhook_messages.alias("before"), webhook_messages.alias("after")
    following = (
        select(after.c.id)
        .where(
            after.c.due_at.is_not(None),
            tuple_(after.c.client, after.c.destination) > tuple_(before.c.client, before.c.destination),
        )
        .order_by(*_order(after))
        .limit(1)
        .correlate(before)
        .scalar_subquery()
    )
    found = found.union_all(select(following).select_from(found).join(before, before.c.id == found.c.id))
    return (
        select(webhook_messages.c.client, webhook_messages.c.destination, webhook_messages.c.url)
        .select_from(found)
        .join(webhook_messages, webhook_messages.c.id == found.c.id)
        .where(webhook_messages.c.due_at <= bindparam("now"))
        .order_by(webhook_messages.c.due_at)
    )


_WAITING = _waiting()


def destination_of(row: Any) -> Destination:
    """Return the destination of a message."""
    return Destination(row.client, row.destination, host_of(row.url))


@functools.lru_cache(maxsize=4096)
def host_of(url: str) -> str:
    """Return the host and port of a URL."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return url


async def choose(connection: AsyncConnection, *, now: datetime, most: int, slots: DestinationSlots) -> list[UUID]:
    """Choose and lock due messages, as far as there are free slots for their clients, hosts and destinations.

    Each slot goes to the client with the fewest deliveries under way, and to its destination that waits longest.
    """
    planned = slots.copy()
    head = await _HEAD.rows(connection, {"now": now, "most": most})
    if len(head) < most:  # the head holds every due message
        return [row.id for row in _share(head, planned, most)]
    rows = [row async for row in _of_each_destination(connection, now, most, planned)]
    return [row.id for row in _share(rows, planned, most)]


async def _of_each_destination(
    connection: AsyncConnection, now: datetime, most: int, slots: DestinationSlots
) -> AsyncIterator[Any]:
    """Yield the due messages of every destination, as many as it has free slots."""
    destinations: Counter[str] = Counter()
    for waiting in (await connection.execute(_WAITING, {"now": now})).all():
        if destinations[waiting.client] >= most or not slots.is_free(destination_of(waiting)):
            continue
        destinations[waiting.client] += 1
        wanted = {
            "of_client": waiting.client,
            "of_destination": waiting.destination,
            "now": now,
            "most": min(slots.free(destination_of(waiting)), most),
        }
        for row in (await connection.execute(_OF_DESTINATION, wanted)).all():
            yield row


def _share(rows: Sequence[Any], slots: DestinationSlots, most: int) -> Iterator[Any]:
    """Yield the messages that get a slot, and take it."""
    queues = {client: _by_turns(own) for client, own in _grouped(rows, "client").items()}
    turns = [(slots.of_client(client), number, client) for number, client in enumerate(queues)]
    heapq.heapify(turns)
    count = 0
    while turns and count < most:
        running, number, client = heapq.heappop(turns)
        row = next((row for row in queues[client] if slots.try_acquire(destination_of(row))), None)
        if row is not None:
            count += 1
            yield row
            heapq.heappush(turns, (running + 1, number, client))


def _by_turns(rows: Sequence[Any]) -> Iterator[Any]:
    """Yield one message of each destination in turn."""
    queues = _grouped(rows, "destination").values()
    return (row for turn in itertools.zip_longest(*queues) for row in turn if row is not None)


def _grouped(rows: Sequence[Any], column: str) -> dict[str, list[Any]]:
    """Group rows by a column, in the order in which its values first appear."""
    grouped: dict[str, list[Any]] = {}
    for row in rows:
        grouped.setdefault(getattr(row, column), []).append(row)
    return grouped
