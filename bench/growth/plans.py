"""The statements of a function, and the plans by which a database runs them."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection

Act = Callable[[AsyncConnection], Awaitable[Any]]
Statement = tuple[str, Any]
"""The text of a statement, and its parameters."""


async def statements_of(connection: AsyncConnection, act: Act) -> list[Statement]:
    """Run a function, and return its statements."""
    ran: list[Statement] = []

    def note(*heard: Any) -> None:
        ran.append((heard[2], heard[3]))

    engine = connection.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        await act(connection)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return ran


async def plans_of(connection: AsyncConnection, ran: Sequence[Statement]) -> str:
    """Return the plans of some statements."""
    explain = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN (COSTS OFF)"
    plans = []
    for statement, parameters in ran:
        rows = await connection.exec_driver_sql(f"{explain} {statement}", parameters)
        plans.append("\n".join(str(row[-1]) for row in rows))
    return "\n".join(plans)
