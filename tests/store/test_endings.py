"""Reads of ended tasks: what they cost does not grow with the callbacks of other tasks."""

import datetime as dt
import re

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from bench.growth.plans import Act, plans_of, statements_of
from service.domain.task import State
from service.store import endings, tables
from tests.support.query_plans import fill
from tests.support.values import NOW
from tests.support.world import World

SINCE = NOW - dt.timedelta(days=7)


async def _statistics(connection: AsyncConnection) -> object:
    return await endings.recent_endings(connection, since=SINCE, most=3000)


async def _overview(connection: AsyncConnection) -> object:
    return await endings.recent_finished(connection, since=SINCE, most=3000)


@pytest.mark.parametrize("read", [_statistics, _overview])
async def test_callbacks_are_read_by_the_submissions_of_each_task(database_url: str, read: Act) -> None:
    async with World.opened(database_url) as world, world.context.database.writing() as connection:
        await fill(connection)
        await connection.execute(update(tables.tasks).values(**_ENDED))
        if connection.dialect.name == "postgresql":
            await connection.exec_driver_sql("ANALYZE")
        plan = await plans_of(connection, await statements_of(connection, read))
    assert re.search(r"Seq Scan on (callbacks|submissions)|SCAN callbacks|ix_callbacks_decision", plan) is None, plan
    assert "submissions_task" in plan


_ENDED = {
    "state": str(State.SUCCEEDED),
    "finished_at": NOW,
    "submitted_at": NOW,
    "decided_by": "provider",
    "due_at": None,
    "updated_at": NOW,
}
