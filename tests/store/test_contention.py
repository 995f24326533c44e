"""Several processes contend for one PostgreSQL: no request is refused, and nothing is created twice."""

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.task import Task
from service.store import tasks as task_store
from service.store.database import Database
from service.store.writer import Writers
from tests.support.values import a_task, opened
from tests.support.waiting import LIMIT

LOCKED = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def waiting(connection: Any, count: int) -> None:
    """Wait until this number of statements waits for a lock."""
    async with asyncio.timeout(LIMIT):
        while await connection.fetchval(LOCKED) < count:  # noqa: ASYNC110 - it happens in PostgreSQL
            await asyncio.sleep(0.01)


async def test_transaction_is_retried_after_a_deadlock(postgresql_url: str) -> None:
    tries: list[int] = []

    async def slow_down(connection: AsyncConnection, names: Sequence[str]) -> list[str]:
        tries.append(1)
        for name in ("a", "b"):
            await connection.execute(text(f"UPDATE upstreams SET credit = credit + 1 WHERE name = '{name}'"))  # noqa: S608
        return list(names)

    other, watcher = await asyncpg.connect(postgresql_url), await asyncpg.connect(postgresql_url)
    await watcher.execute("INSERT INTO upstreams (name, credit) VALUES ('a', 0), ('b', 0)")
    # PostgreSQL ends the session that detects the deadlock. The other one checks later, so that it is the writer.
    await other.execute(
        "SET deadlock_timeout = '60s'; BEGIN; UPDATE upstreams SET credit = credit + 1 WHERE name = 'b'"
    )
    async with opened(postgresql_url) as database, Writers(database).running() as writers:
        doing = asyncio.create_task(writers.journeys.batch(slow_down, "x"))
        await waiting(watcher, 1)
        await other.execute("UPDATE upstreams SET credit = credit + 1 WHERE name = 'a'")
        await other.execute("COMMIT")
        assert await asyncio.wait_for(doing, LIMIT) == "x"
    assert [row["credit"] for row in await watcher.fetch("SELECT credit FROM upstreams ORDER BY name")] == [2, 2]
    assert len(tries) == 2
    await asyncio.gather(other.close(), watcher.close())


async def accept(database: Database, *keys: str) -> list[task_store.Accepted]:
    async with database.writing() as connection:
        return await task_store.accept(connection, [with_key(key) for key in keys])


def with_key(key: str) -> Task:
    return dataclasses.replace(a_task(), idempotency_key=key)


async def test_opposite_key_orders_do_not_deadlock(postgresql_url: str) -> None:
    watcher = await asyncpg.connect(postgresql_url)
    async with opened(postgresql_url) as database:
        for number in range(4):  # the order after the lock is random
            a, b = f"a{number}", f"b{number}"
            async with database.writing() as first:
                # Both wait for the first key. Had one taken the second key before, the other would now wait for it.
                await task_store.accept(first, [with_key(a)])
                both = [asyncio.create_task(accept(database, *keys)) for keys in ((a, b), (b, a))]
                await waiting(watcher, 2)
                await first.rollback()
            answers = [each for answer in await asyncio.gather(*both) for each in answer]
            assert len({(each.task.idempotency_key, each.task.id) for each in answers}) == 2
            assert sum(each.new for each in answers) == 2
    await watcher.close()
