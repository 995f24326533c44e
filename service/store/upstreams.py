"""SQL for upstreams: rate limit slots and account credit, shared by all processes."""

import dataclasses
from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import bindparam, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.tables import insert_for, upstreams


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """The state of an upstream that all processes share."""

    name: str
    submit_slot_at: datetime | None = None
    """The earliest time of the next submit within the rate limit."""
    poll_slot_at: datetime | None = None
    """The earliest time of the next poll within the rate limit."""
    credit: float | None = None
    """Credit left on the account at ``credit_at``."""
    credit_unit: str | None = None
    credit_error: str | None = None
    """Why the credit could not be read."""
    credit_at: datetime | None = None


_ADD = insert_for(lambda insert: insert(upstreams).on_conflict_do_nothing())
_LOCK = (
    select(upstreams)
    .where(upstreams.c.name.in_(bindparam("names", expanding=True)))
    .order_by(upstreams.c.name)
    .with_for_update()
)
_LOCK_FREE = _LOCK.with_for_update(skip_locked=True)
_SLOT = update(upstreams).where(upstreams.c.name == bindparam("of_upstream"))
_SUBMIT_SLOT = _SLOT.values(submit_slot_at=bindparam("slot_at"))
_POLL_SLOT = _SLOT.values(poll_slot_at=bindparam("slot_at"))
_CREDIT = _SLOT.values({name: bindparam(name) for name in ("credit", "credit_unit", "credit_error", "credit_at")})


async def lock(
    connection: AsyncConnection, names: Collection[str], *, skip_locked: bool = False
) -> dict[str, Upstream]:
    """Read upstreams and lock their rows until the transaction ends, so that no other process admits tasks to them.

    :param skip_locked: leave out rows that another transaction has locked, instead of waiting for them
    """
    if not names:
        return {}
    await connection.execute(_ADD[connection.dialect.name], [{"name": name} for name in sorted(names)])
    rows = await connection.execute(_LOCK_FREE if skip_locked else _LOCK, {"names": sorted(names)})
    return {row.name: Upstream(**row._mapping) for row in rows}  # noqa: SLF001 - the documented way to a row's names


async def all_known(connection: AsyncConnection) -> dict[str, Upstream]:
    """Read every upstream that has a row."""
    rows = await connection.execute(select(upstreams))
    return {row.name: Upstream(**row._mapping) for row in rows}  # noqa: SLF001 - the documented way to a row's names


async def move_submit_slot(connection: AsyncConnection, name: str, slot_at: datetime) -> None:
    """Write the earliest time of the next submit to a locked upstream."""
    await connection.execute(_SUBMIT_SLOT, {"of_upstream": name, "slot_at": slot_at})


async def move_poll_slot(connection: AsyncConnection, name: str, slot_at: datetime) -> None:
    """Write the earliest time of the next poll of a locked upstream."""
    await connection.execute(_POLL_SLOT, {"of_upstream": name, "slot_at": slot_at})


_CLAIM_CREDIT = (
    update(upstreams)
    .where(upstreams.c.name == bindparam("of_upstream"))
    .where(or_(upstreams.c.credit_at.is_(None), upstreams.c.credit_at <= bindparam("before")))
    .values(credit_at=bindparam("now"))
    .returning(*upstreams.c)
)


async def claim_credit(
    connection: AsyncConnection, names: Sequence[str], *, now: datetime, before: datetime
) -> list[Upstream]:
    """Claim the upstreams whose credit was last read before a time; each goes to one process. Return their rows."""
    await connection.execute(_ADD[connection.dialect.name], [{"name": name} for name in sorted(names)])
    claimed: list[Upstream] = []
    for name in sorted(names):  # the order in which others lock them: no deadlocks
        rows = await connection.execute(_CLAIM_CREDIT, {"of_upstream": name, "now": now, "before": before})
        claimed += [Upstream(**row._mapping) for row in rows]  # noqa: SLF001 - the documented way to a row's names
    return claimed


async def save_credit(connection: AsyncConnection, found: Sequence[Upstream]) -> None:
    """Write the credit that is left on accounts."""
    if not found:
        return
    ordered = sorted(found, key=lambda each: each.name)
    await connection.execute(_ADD[connection.dialect.name], [{"name": each.name} for each in ordered])
    await connection.execute(
        _CREDIT,
        [
            {
                "of_upstream": each.name,
                "credit": each.credit,
                "credit_unit": each.credit_unit,
                "credit_error": each.credit_error,
                "credit_at": each.credit_at,
            }
            for each in ordered
        ],
    )
