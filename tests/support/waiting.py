"""Waits for a condition, with a limit that no busy machine reaches."""

import asyncio
from collections.abc import Callable

from service.store.database import Database

LIMIT = 60.0
"""Seconds after which what a test waits for is taken not to happen."""


async def until(true: Callable[[], object], *, every: float = 0.005) -> None:
    """Wait until a condition is true that no event announces."""
    async with asyncio.timeout(LIMIT):
        while not true():  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(every)


async def until_idle(database: Database) -> None:
    """Wait until no connection of a database is in use in this process."""
    pools = [engine.pool for engine in {database.writer, database.reader}]
    idle = 0
    async with asyncio.timeout(LIMIT):
        while idle < 5:  # a single check may fall between two statements of one request
            idle = 0 if any(pool.checkedout() for pool in pools) else idle + 1  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)
