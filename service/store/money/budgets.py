"""SQL for the budgets that an operator has set."""

import dataclasses
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.money.budgets import Budget, budget_of
from service.store.prepared import Prepared
from service.store.tables import budgets, insert_for

MAX_BUDGETS = 1_000
"""Budgets that operators may set."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A budget that an operator has set."""

    budget: Budget
    by: str
    """The client whose key did it."""
    changed_at: datetime


_ALL = Prepared(select(budgets).order_by(budgets.c.name))
_PUT = insert_for(
    lambda insert: insert(budgets).on_conflict_do_update(
        index_elements=["name"],
        set_={name: insert(budgets).excluded[name] for name in ("fields", "by", "changed_at")},
    )
)
_REMOVE = delete(budgets).where(budgets.c.name == bindparam("of_budget"))
_OTHERS = select(func.count()).select_from(budgets).where(budgets.c.name != bindparam("of_budget"))


def _of_row(row: Any) -> Stored:
    return Stored(budget=budget_of(row.name, row.fields), by=row.by, changed_at=row.changed_at)


async def all_stored(connection: AsyncConnection) -> list[Stored]:
    """Read every budget that an operator has set."""
    return [_of_row(row) for row in await _ALL.rows(connection, {})]


async def put(connection: AsyncConnection, stored: Stored) -> bool:
    """Write a budget, new or changed; return False where there are too many."""
    budget = stored.budget
    if (await connection.scalar(_OTHERS, {"of_budget": budget.name}) or 0) >= MAX_BUDGETS:
        return False
    row = {"name": budget.name, "fields": budget.as_json(), "by": stored.by, "changed_at": stored.changed_at}
    await connection.execute(_PUT[connection.dialect.name], row)
    return True


async def remove(connection: AsyncConnection, name: str) -> bool:
    """Remove a budget; return whether there was one."""
    return (await connection.execute(_REMOVE, {"of_budget": name})).rowcount > 0
