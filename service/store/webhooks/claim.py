"""Choose the messages to claim, fairly: no destination gets more than its free slots."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.tables import DUE, webhook_messages

_HEAD = (
    select(webhook_messages.c.id, webhook_messages.c.destination)
    .where(DUE, webhook_messages.c.due_at <= bindparam("now"))
    .order_by(webhook_messages.c.due_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_OF_DESTINATION = (
    select(webhook_messages.c.id)
    .where(
        DUE,
        webhook_messages.c.due_at <= bindparam("now"),
        webhook_messages.c.destination == bindparam("of_destination"),
    )
    .order_by(webhook_messages.c.due_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)


def _waiting() -> Any:
    """Select the destinations with due messages, longest due first, with one index lookup for each."""
    first = (
        select(webhook_messages.c.destination)
        .where(DUE)
        .order_by(webhook_messages.c.destination)
        .limit(1)
        .scalar_subquery()
    )
    found = select(first.label("destination")).cte("found", recursive=True)
    after = (
        select(webhook_messages.c.destination)
        .where(DUE, webhook_messages.c.destination > found.c.destination)
        .order_by(webhook_messages.c.destination)
        .limit(1)
        .correlate(found)
        .scalar_subquery()
    )
    found = found.union_all(select(after).where(found.c.destination.is_not(None)))
    since = (
        select(func.min(webhook_messages.c.due_at))
        .where(DUE, webhook_messages.c.destination == found.c.destination)
        .correlate(found)
        .scalar_subquery()
    )
    each = select(found.c.destination, since.label("since")).where(found.c.destination.is_not(None)).subquery()
    return select(each.c.destination).where(each.c.since <= bindparam("now")).order_by(each.c.since)


_WAITING = _waiting()


async def choose(
    connection: AsyncConnection, *, now: datetime, most: int, each: int, slots: Mapping[str, int]
) -> list[UUID]:
    """Choose and lock the messages that are longest due, as far as their destinations have free slots.

    :param each: slots of a destination
    :param slots: free slots of destinations that have fewer
    """
    head = (await connection.execute(_HEAD, {"now": now, "most": most})).all()
    chosen = _within(head, each, slots)
    if len(chosen) == len(head) or len(head) < most:
        return chosen
    # Rows of full destinations fill the head, and rows of others may follow: choose by destination.
    chosen = []
    for destination in (await connection.scalars(_WAITING, {"now": now})).all():
        room = min(slots.get(destination, each), most - len(chosen))
        if room > 0:
            wanted = {"of_destination": destination, "now": now, "most": room}
            chosen += (await connection.scalars(_OF_DESTINATION, wanted)).all()
        if len(chosen) >= most:
            break
    return chosen


def _within(rows: Sequence[Any], each: int, slots: Mapping[str, int]) -> list[UUID]:
    taken: Counter[str] = Counter()
    chosen = []
    for row in rows:
        if taken[row.destination] < slots.get(row.destination, each):
            taken[row.destination] += 1
            chosen.append(row.id)
    return chosen
