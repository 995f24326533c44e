"""Watches the rows of the database during a round, so that the verifier sees what was overwritten meanwhile."""

import asyncio
import contextlib
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select

from service.store.database import Database, StoreUnavailable
from service.store.tables import tasks, webhook_messages
from tests.chaos.evidence import Evidence, Seen

EVERY: Final = 0.7
"""Seconds between two readings."""
_MESSAGES: Final = select(webhook_messages.c.id, webhook_messages.c.state, webhook_messages.c.attempts)
_TASKS: Final = select(tasks.c.id, tasks.c.state, tasks.c.sequence, tasks.c.external_id, tasks.c.decided_by)


async def watch(database_url: str, evidence: Evidence) -> None:
    """Read the rows until cancelled. While the database is away there is nothing to see."""
    database = Database(database_url, pool_size=1)
    known: dict[UUID, tuple[Any, ...]] = {}
    try:
        while True:
            with contextlib.suppress(StoreUnavailable):
                await _read(database, evidence, known)
            await asyncio.sleep(EVERY)
    finally:
        await database.close()


async def _read(database: Database, evidence: Evidence, known: dict[UUID, tuple[Any, ...]]) -> None:
    async with database.reading() as connection:
        found = [("message", *row, None, None) for row in await connection.execute(_MESSAGES)]
        found += [("task", *row) for row in await connection.execute(_TASKS)]
    for row in found:
        table, key, state, number, job, decided_by = row
        if known.get(key) != row:
            known[key] = row
            final = state == "delivered" or decided_by == "provider"
            evidence.add(Seen(table=table, id=str(key), state=state, number=number, final=final, job=job))
