"""SQL for the counters of budgets: what is held and spent, exact over any number of processes."""

from collections.abc import Collection, Mapping
from decimal import Decimal

from sqlalchemy import and_, bindparam, delete, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.money.budgets import Counter, Key
from service.store.tables import budget_counters, insert_for

_ADD = insert_for(lambda insert: insert(budget_counters).on_conflict_do_nothing())
_SAVE = (
    update(budget_counters)
    .where(
        budget_counters.c.budget == bindparam("of_budget"),
        budget_counters.c.scope == bindparam("of_scope"),
        budget_counters.c.period == bindparam("of_period"),
    )
    .values({name: bindparam(name) for name in ("held", "spent", "soft_noted")})
)
_KEY = tuple_(budget_counters.c.budget, budget_counters.c.scope, budget_counters.c.period)
# The name of a day begins with that of its month, so that names of both kinds compare by time.
_ENDED = select(budget_counters.c.budget, budget_counters.c.scope, budget_counters.c.period).where(
    budget_counters.c.period < bindparam("before"), budget_counters.c.held == Decimal(0)
)
_REMOVE_ENDED = delete(budget_counters).where(_KEY.in_(_ENDED.limit(bindparam("most"))))
CHUNK = 100
"""Counters that one statement reads."""


async def read(connection: AsyncConnection, keys: Collection[Key]) -> dict[Key, Counter]:
    """Read counters; one that was never used is missing."""
    return await _read(connection, keys, lock=False)


async def lock(connection: AsyncConnection, keys: Mapping[Key, str]) -> dict[Key, Counter]:
    """Read counters and lock them until the transaction ends, in the order of their keys. Missing ones are made.

    :param keys: with the unit of each
    """
    if not keys:
        return {}
    known = await _read(connection, keys, lock=True)
    missing = sorted(keys.keys() - known.keys())
    if missing:
        rows = [
            {
                "budget": budget,
                "scope": scope,
                "period": period,
                "unit": keys[budget, scope, period],
                "held": Decimal(0),
                "spent": Decimal(0),
                "soft_noted": False,
            }
            for budget, scope, period in missing
        ]
        await connection.execute(_ADD[connection.dialect.name], rows)
        known = await _read(connection, keys, lock=True)
    return known


async def _read(connection: AsyncConnection, keys: Collection[Key], *, lock: bool) -> dict[Key, Counter]:
    found: dict[Key, Counter] = {}
    ordered = sorted(keys)
    table = budget_counters.c
    for start in range(0, len(ordered), CHUNK):
        wanted = or_(
            *(
                and_(table.budget == budget, table.scope == scope, table.period == period)
                for budget, scope, period in ordered[start : start + CHUNK]
            )
        )
        statement = select(budget_counters).where(wanted).order_by(table.budget, table.scope, table.period)
        for row in await connection.execute(statement.with_for_update() if lock else statement):
            found[row.budget, row.scope, row.period] = Counter(row.held, row.spent, row.soft_noted)
    return found


async def save(connection: AsyncConnection, counters: Mapping[Key, Counter]) -> None:
    """Write counters that this transaction has locked."""
    if counters:
        rows = [
            {
                "of_budget": budget,
                "of_scope": scope,
                "of_period": period,
                "held": counter.held,
                "spent": counter.spent,
                "soft_noted": counter.soft_noted,
            }
            for (budget, scope, period), counter in sorted(counters.items())
        ]
        await connection.execute(_SAVE, rows)


async def of_budgets(
    connection: AsyncConnection, names: Collection[str], periods: Collection[str]
) -> dict[Key, Counter]:
    """Read every counter of some budgets in some periods."""
    table = budget_counters.c
    statement = select(budget_counters).where(table.budget.in_(sorted(names)), table.period.in_(sorted(periods)))
    rows = await connection.execute(statement)
    return {(row.budget, row.scope, row.period): Counter(row.held, row.spent, row.soft_noted) for row in rows}


async def remove_ended(connection: AsyncConnection, before: str, *, most: int) -> int:
    """Remove counters that hold nothing of periods before a month, such as ``2026-11``; return how many."""
    return (await connection.execute(_REMOVE_ENDED, {"before": before, "most": most})).rowcount
