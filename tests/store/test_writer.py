"""The batching writer: one commit for many writes, an answer after the commit, isolated failures, and an orderly close."""

import asyncio
import contextlib
import dataclasses
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.task import Task
from service.store import tasks as task_store
from service.store.database import Database, StoreBusy, StoreUnavailable, out_of_reach
from service.store.writer import BATCH_SIZE, MAX_WAITING, Writers
from tests.conftest import run_sql
from tests.support.values import a_task, opened
from tests.support.waiting import LIMIT

BROKEN = dataclasses.replace(a_task(), due_at=None)
"""The schema refuses it: an open task that nobody would ever look at."""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as found:
        yield found


def happenings(database: Database) -> list[str]:
    """Record every transaction of the writer's connections."""
    noted: list[str] = []
    event.listen(database.writer.sync_engine, "commit", lambda _: noted.append("commit"))
    event.listen(database.writer.sync_engine, "rollback", lambda _: noted.append("rollback"))
    return noted


async def stored(database: Database) -> int:
    async with database.reading() as connection:
        return sum((await task_store.count_by_state(connection)).values())


async def test_concurrent_writes_share_a_commit(database: Database) -> None:
    noted = happenings(database)

    async def write(writers: Writers) -> None:
        await writers.requests.batch(task_store.accept, a_task())
        noted.append("answer")

    async with Writers(database).running() as writers:
        await asyncio.gather(*(write(writers) for _ in range(BATCH_SIZE)))
    assert noted == ["commit", *["answer"] * BATCH_SIZE]
    assert await stored(database) == BATCH_SIZE


async def test_batch_size_is_bounded(database: Database) -> None:
    sizes: list[int] = []

    async def count(_: AsyncConnection, items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        return list(items)

    async with Writers(database).running() as writers:
        answers = await asyncio.gather(*(writers.requests.batch(count, number) for number in range(3 * BATCH_SIZE + 1)))
    assert answers == list(range(3 * BATCH_SIZE + 1))
    assert sizes == [BATCH_SIZE, BATCH_SIZE, BATCH_SIZE, 1]


async def test_failing_item_does_not_fail_its_batch(database: Database) -> None:
    noted = happenings(database)
    async with Writers(database).running() as writers:
        items = [a_task(), a_task(), BROKEN, a_task()]
        answers = await asyncio.gather(
            *(writers.requests.batch(task_store.accept, each) for each in items), return_exceptions=True
        )
        assert isinstance(answers[2], IntegrityError)
        assert [answers[number].task.id for number in (0, 1, 3)] == [items[number].id for number in (0, 1, 3)]  # type: ignore[union-attr]
        assert await stored(database) == 3
        assert noted[:5] == ["rollback", "commit", "commit", "rollback", "commit"]  # the batch, then each in its own
        assert (await writers.requests.batch(task_store.accept, a_task())).new


async def test_mixed_batch_is_retried_item_by_item_after_a_failure(
    database: Database,
) -> None:
    async def nonsense(connection: AsyncConnection, _: Sequence[int]) -> list[None]:
        await connection.execute(text("SELECT nonsense"))
        return [None]

    async with Writers(database).running() as writers:
        answers = await asyncio.gather(
            writers.requests.batch(task_store.accept, a_task()),
            writers.requests.batch(nonsense, 1),
            return_exceptions=True,
        )
    assert isinstance(answers[1], Exception)
    assert not isinstance(answers[0], Exception)
    assert await stored(database) == 1


async def test_write_whose_caller_has_gone_is_not_committed_after_a_failed_batch(database: Database) -> None:
    alone, go_on, calls = asyncio.Event(), asyncio.Event(), list[int]()

    async def fail_together(connection: AsyncConnection, items: Sequence[Task]) -> Sequence[task_store.Accepted]:
        calls.append(len(items))
        if len(calls) == 1:
            await connection.execute(text("SELECT nonsense"))
        alone.set()
        await go_on.wait()
        return await task_store.accept(connection, items)

    async with Writers(database).running() as writers:
        first = asyncio.create_task(writers.requests.batch(fail_together, a_task()))
        gone = asyncio.create_task(writers.requests.batch(task_store.accept, a_task()))
        await alone.wait()
        gone.cancel()
        await asyncio.sleep(0)
        go_on.set()
        assert (await first).new
    assert await stored(database) == 1


async def test_write_is_refused_when_the_queue_is_full(database: Database) -> None:
    writers = Writers(database)  # it does not run: nothing is taken off the line
    waiting = [asyncio.create_task(writers.requests.batch(task_store.accept, BROKEN)) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(StoreBusy):
        await asyncio.wait_for(writers.requests.batch(task_store.accept, BROKEN), LIMIT)
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    async with writers.running():  # the write of a cancelled caller is dropped
        pass
    assert await stored(database) == 0


class Slow:
    """A batch that waits until the test releases it."""

    def __init__(self) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def accept(self, connection: AsyncConnection, items: Sequence[Task]) -> Sequence[task_store.Accepted]:
        self.begun.set()
        await self.go_on.wait()
        return await task_store.accept(connection, items)


async def test_cancelled_waiter_does_not_affect_others(database: Database) -> None:
    slow, noted = Slow(), happenings(database)
    async with Writers(database).running() as writers:
        under_way = [asyncio.create_task(writers.requests.batch(slow.accept, a_task())) for _ in range(2)]
        await slow.begun.wait()
        waiting = [asyncio.create_task(writers.requests.batch(task_store.accept, a_task())) for _ in range(3)]
        await asyncio.sleep(0)
        under_way[0].cancel()
        waiting[0].cancel()
        slow.go_on.set()
        answers = await asyncio.gather(*under_way, *waiting, return_exceptions=True)
    assert [isinstance(each, asyncio.CancelledError) for each in answers] == [True, False, True, False, False]
    assert noted == ["commit", "commit"]
    assert await stored(database) == 4  # the write in flight could not be cancelled


async def test_pending_writes_are_committed_at_shutdown(database: Database) -> None:
    slow, writers = Slow(), Writers(database)
    async with writers.running():
        under_way = asyncio.create_task(writers.requests.batch(slow.accept, a_task()))
        await slow.begun.wait()
        waiting = [
            asyncio.create_task(writers.requests.batch(task_store.accept, a_task())) for _ in range(BATCH_SIZE + 1)
        ]
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(slow.go_on.set)
    answers = await asyncio.gather(under_way, *waiting)
    assert all(each.new for each in answers)
    assert await stored(database) == BATCH_SIZE + 2
    with pytest.raises(StoreBusy, match="shutting down"):
        await writers.requests.batch(task_store.accept, a_task())


async def end_own_session(connection: AsyncConnection, items: Sequence[int]) -> list[int]:
    await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    return list(items)


async def test_connection_that_breaks_fails_the_whole_batch_once_and_is_replaced(postgresql_url: str) -> None:
    async with opened(postgresql_url) as database, Writers(database).running() as writers:
        noted = happenings(database)
        broken = writers.requests.batch(end_own_session, 1)
        writes = (writers.requests.batch(task_store.accept, a_task()) for _ in range(20))
        answers = await asyncio.gather(*writes, broken, return_exceptions=True)
        assert {type(each) for each in answers} == {StoreUnavailable}
        assert "commit" not in noted
        assert (await writers.requests.batch(task_store.accept, a_task())).new
        assert await stored(database) == 1


async def test_connections_that_the_server_ended_are_replaced_before_use(postgresql_url: str) -> None:
    async with opened(postgresql_url) as database, Writers(database).running() as writers:
        await asyncio.gather(*(stored(database) for _ in range(5)))
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        await run_sql(postgresql_url, others)
        await sessions_have_ended(postgresql_url)
        await asyncio.gather(*(stored(database) for _ in range(5)))
        assert (await writers.requests.batch(task_store.accept, a_task())).new


async def sessions_have_ended(url: str) -> None:
    """Wait until the server has no session on the database except that of this query."""
    connection = await asyncpg.connect(url)
    rest = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    async with asyncio.timeout(60):
        while await connection.fetchval(rest):  # noqa: ASYNC110 - the server tells nobody when a session has ended
            await asyncio.sleep(0.01)
    await connection.close()


async def test_unreachable_database_is_reported_as_unavailable() -> None:
    async with opened("postgresql://nobody@127.0.0.1:1/nothing") as database, Writers(database).running() as writers:
        with pytest.raises(StoreUnavailable):
            await writers.requests.batch(task_store.accept, a_task())


def test_sqlite_operational_errors_are_distinguished(tmp_path: Path) -> None:
    """A locked or missing file means that the database is away. A wrong statement would fail again."""
    path = tmp_path / "some.db"
    with (
        contextlib.closing(sqlite3.connect(path)) as holder,
        contextlib.closing(sqlite3.connect(path, timeout=0)) as other,
    ):
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError) as locked:
            other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError) as wrong:
            other.execute("SELECT nonsense FROM nowhere")
    with pytest.raises(sqlite3.OperationalError) as unopened:
        sqlite3.connect(tmp_path)
    assert [out_of_reach(found.value) for found in (locked, unopened, wrong)] == [True, True, False]
