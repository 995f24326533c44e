"""SQL for rows that a process has claimed as it wrote them, and does not process after all."""

from collections.abc import Collection
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from sqlalchemy import Table, bindparam, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.tables import DUE, callbacks, tasks, webhook_messages

_TABLES: Final[dict[str, Table]] = {"tasks": tasks, "callbacks": callbacks, "webhook_messages": webhook_messages}
_RELEASE: Final = {
    name: update(table)
    .where(table.c.id.in_(bindparam("ids", expanding=True)), table.c.attempts == 1, DUE)
    .values(due_at=bindparam("now"), attempts=0)
    for name, table in _TABLES.items()
}


async def release(
    connection: AsyncConnection,
    table: Literal["tasks", "callbacks", "webhook_messages"],
    ids: Collection[UUID],
    *,
    now: datetime,
) -> None:
    """Make rows due now that are still in the lease with which they were written."""
    if ids:
        await connection.execute(_RELEASE[table], {"ids": sorted(ids), "now": now})
