"""SQL for reservations: the frozen quote of each submission, and what it holds of budgets."""

import dataclasses
from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Row, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.money.budgets import Hold
from service.domain.money.quotes import Quote
from service.store.tables import reservations


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """The possible price of one submission, and what it holds of budgets."""

    submission_id: UUID
    task_id: UUID
    upstream: str
    dialect: str
    quote: Quote
    holds: tuple[Hold, ...] = ()
    reserved_at: datetime
    settled_at: datetime | None = None
    check_at: datetime | None = None
    """When it is checked whether its submission has ended."""


def _of_row(row: Row[tuple[object, ...]]) -> Reservation:
    kept = dict(row._mapping)  # noqa: SLF001 - the documented way to a row's names
    kept["quote"] = Quote.from_json(kept["quote"])
    kept["holds"] = tuple(map(Hold.from_json, kept["holds"]))
    return Reservation(**kept)


_OF_TASKS = select(reservations).where(reservations.c.task_id.in_(bindparam("ids", expanding=True)))
_SETTLE = (
    update(reservations)
    .where(reservations.c.submission_id == bindparam("of_submission"))
    .values(settled_at=bindparam("at"), check_at=None)
)
_DUE = (
    select(reservations.c.submission_id, reservations.c.task_id)
    .where(reservations.c.check_at.is_not(None), reservations.c.check_at <= bindparam("now"))
    .order_by(reservations.c.check_at)
    .limit(bindparam("most"))
)
_POSTPONE = (
    update(reservations)
    .where(reservations.c.submission_id.in_(bindparam("ids", expanding=True)), reservations.c.check_at.is_not(None))
    .values(check_at=bindparam("until"))
)


async def insert(connection: AsyncConnection, made: Sequence[Reservation]) -> None:
    """Insert the reservations of submissions that begin in this transaction."""
    if made:
        rows = [
            {
                "submission_id": each.submission_id,
                "task_id": each.task_id,
                "upstream": each.upstream,
                "dialect": each.dialect,
                "quote": each.quote.as_json(),
                "holds": [hold.as_json() for hold in each.holds],
                "reserved_at": each.reserved_at,
                "settled_at": None,
                "check_at": each.check_at,
            }
            for each in made
        ]
        await connection.execute(reservations.insert(), rows)


async def of_tasks(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, Reservation]:
    """Read the reservations of some tasks, by submission."""
    rows = await connection.execute(_OF_TASKS, {"ids": sorted(ids)})
    return {row.submission_id: _of_row(row) for row in rows}


async def settle(connection: AsyncConnection, ids: Collection[UUID], *, at: datetime) -> None:
    """Mark reservations as settled: their holds are released in the same transaction."""
    if ids:
        await connection.execute(_SETTLE, [{"of_submission": each, "at": at} for each in sorted(ids)])


async def due(connection: AsyncConnection, *, now: datetime, most: int) -> list[tuple[UUID, UUID]]:
    """Return the submissions and tasks of open reservations that are to be checked."""
    rows = await connection.execute(_DUE, {"now": now, "most": most})
    return [(row.submission_id, row.task_id) for row in rows]


async def postpone(connection: AsyncConnection, ids: Collection[UUID], *, until: datetime) -> None:
    """Move the next check of reservations."""
    if ids:
        await connection.execute(_POSTPONE, {"ids": sorted(ids), "until": until})
