"""SQL for balances of accounts, and for the windows between two of them."""

import dataclasses
from datetime import datetime
from typing import Any

from sqlalchemy import and_, bindparam, delete, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.money.attribution import Snapshot
from service.domain.task import UNANSWERED, WITHOUT_PURCHASE
from service.store.tables import OCCUPIES_SLOT, balances, money_entries, submissions, tasks

_LAST = (
    select(balances)
    .where(balances.c.upstream == bindparam("of_upstream"))
    .order_by(balances.c.at.desc(), balances.c.id.desc())
    .limit(2)
)
_BUSY = select(func.count()).select_from(tasks).where(tasks.c.upstream == bindparam("of_upstream"), OCCUPIES_SLOT)
_AT_UPSTREAM = exists().where(submissions.c.upstream == bindparam("of_upstream"))
_RECENT = select(  # two conditions, so that an index serves each
    or_(
        _AT_UPSTREAM.where(submissions.c.sent_at > bindparam("since")),
        _AT_UPSTREAM.where(submissions.c.settled_at > bindparam("since")),
    )
)
_BOOKED = select(
    exists().where(
        money_entries.c.upstream == bindparam("of_upstream"),
        money_entries.c.superseded_at.is_(None),
        money_entries.c.booked_at > bindparam("since"),
    )
)
_ENTRIES = select(money_entries).where(
    money_entries.c.upstream == bindparam("of_upstream"),
    money_entries.c.superseded_at.is_(None),
    money_entries.c.purchased_at > bindparam("since"),
)
_UNBOOKED = (
    select(func.count())
    .select_from(submissions)
    .where(
        submissions.c.upstream == bindparam("of_upstream"),
        submissions.c.sent_at > bindparam("since"),
        or_(
            submissions.c.outcome.in_(sorted(map(str, UNANSWERED))),
            and_(
                submissions.c.outcome.not_in(sorted(map(str, WITHOUT_PURCHASE))),
                ~exists().where(money_entries.c.submission_id == submissions.c.id),
            ),
        ),
    )
)


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """A stored balance."""

    snapshot: Snapshot
    unit: str


async def last_two(connection: AsyncConnection, upstream: str) -> list[Kept]:
    """Read the latest balances of an account, the newest first."""
    rows = await connection.execute(_LAST, {"of_upstream": upstream})
    return [Kept(Snapshot(row.at, row.amount), row.unit) for row in rows]


async def add(connection: AsyncConnection, upstream: str, snapshot: Snapshot, unit: str) -> None:
    """Insert a balance, and remove those that are of no use any more."""
    row = {"upstream": upstream, "at": snapshot.at, "amount": snapshot.amount, "unit": unit}
    kept = select(balances.c.id).where(balances.c.upstream == upstream).order_by(balances.c.at.desc()).limit(1)
    old = balances.c.id.not_in(kept.scalar_subquery())
    await connection.execute(delete(balances).where(balances.c.upstream == upstream, old))
    await connection.execute(balances.insert(), [row])


async def is_quiet(connection: AsyncConnection, upstream: str, *, since: datetime) -> bool:
    """Return whether an upstream works on nothing, and nothing about it has changed since a time."""
    given: dict[str, Any] = {"of_upstream": upstream}
    if await connection.scalar(_BUSY, given):
        return False
    given["since"] = since
    return not (await connection.scalar(_RECENT, given) or await connection.scalar(_BOOKED, given))


async def entries_since(connection: AsyncConnection, upstream: str, *, since: datetime) -> list[Any]:
    """Read the entries that count of what was bought at an upstream since a time."""
    return list((await connection.execute(_ENTRIES, {"of_upstream": upstream, "since": since})).all())


async def unbooked(connection: AsyncConnection, upstream: str, *, since: datetime) -> int:
    """Count the submissions since a time that may have cost something, and of which no price is booked."""
    return int(await connection.scalar(_UNBOOKED, {"of_upstream": upstream, "since": since}) or 0)
