"""A row that another transaction has locked. After a second or two, only work on this row waits."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.task import State
from service.flows.concurrency import TaskPool
from service.flows.submission import run as submission_run
from service.store import upstreams as upstream_store
from service.store.database import StoreLocked, StoreUnavailable
from service.store.writer import Writers
from tests.support.values import opened
from tests.support.world import World

LIMITED = {"DOVECOTE_UPSTREAMS__ELKAPI__OPEN_TASKS": "50"}


@contextlib.asynccontextmanager
async def locked(url: str, statement: str, *arguments: object) -> AsyncIterator[None]:
    """Hold a lock in an idle transaction of another session while the block runs."""
    session = await asyncpg.connect(url)
    try:
        async with session.transaction():
            await session.execute(statement, *arguments)
            yield
    finally:
        await session.close()


async def touch(connection: AsyncConnection, names: Sequence[str]) -> list[str]:
    for name in names:
        await connection.execute(text("UPDATE upstreams SET credit = 1 WHERE name = :name"), {"name": name})
    return list(names)


async def test_locked_write_fails_alone_and_the_rest_of_its_batch_commits(postgresql_url: str) -> None:
    async with opened(postgresql_url) as database, Writers(database).running() as writers:
        async with database.writing() as connection:
            await upstream_store.lock(connection, ["a", "b", "c"])
        async with locked(postgresql_url, "UPDATE upstreams SET credit = 0 WHERE name = 'b'"):
            writes = [writers.journeys.batch(touch, name) for name in ("a", "b", "c")]
            answers = await asyncio.gather(*writes, return_exceptions=True)
        assert [answers[0], answers[2]] == ["a", "c"]
        assert isinstance(answers[1], StoreLocked)
        assert str(answers[1]) == "a row is locked by another transaction"
        assert await writers.journeys.batch(touch, "b") == "b"


async def test_task_that_is_locked_holds_up_no_other_submission(postgresql_url: str) -> None:
    async with World.opened(postgresql_url) as world:
        first, *others = [await world.submit(f"dove {number}") for number in range(5)]
        async with locked(postgresql_url, "SELECT 1 FROM tasks WHERE id = $1 FOR UPDATE", first.id):
            await world.work()
            assert {(await world.task(task)).state for task in others} == {State.SUBMITTED}
        await world.work()
        assert (await world.task(first)).state is State.SUBMITTED


async def test_waiting_task_that_is_locked_holds_up_no_other_waiting_task(postgresql_url: str) -> None:
    async with World.opened(postgresql_url, DOVECOTE_UPSTREAMS__ELKAPI__OPEN_TASKS="1") as world:
        serving, first, second = [await world.submit(f"dove {number}") for number in range(3)]
        await world.work()
        assert [(await world.task(each)).waits_for is not None for each in (serving, first, second)] == [
            False,
            True,
            True,
        ]
        async with locked(postgresql_url, "SELECT 1 FROM tasks WHERE id = $1 FOR UPDATE", first.id):
            async with world.context.database.writing() as connection:
                await connection.execute(text("UPDATE upstreams SET submit_slot_at = NULL"))
                taken = await submission_run.queue.claim_waiting(connection, [first.id, second.id], until=world.clock())
            assert [task.id for task in taken] == [second.id]


async def test_upstream_that_is_locked_holds_up_only_its_own_tasks(postgresql_url: str) -> None:
    more = {
        **LIMITED,
        "COMETAPI_KEY": "sandbox-key",
        "DOVECOTE_UPSTREAMS__COMETAPI__BASE_URL": "http://sandbox.test",
        "DOVECOTE_UPSTREAMS__COMETAPI__OPEN_TASKS": "50",
    }
    async with World.opened(postgresql_url, **more) as world:
        async with world.context.database.writing() as connection:
            await upstream_store.lock(connection, ["elkapi", "cometapi"])
        here, elsewhere = await world.submit(route=["elkapi"]), await world.submit(route=["cometapi"])
        async with locked(postgresql_url, "SELECT 1 FROM upstreams WHERE name = 'elkapi' FOR UPDATE"):
            pool = TaskPool(10)
            assert await submission_run.run_due(world.context, pool) == 2
            await pool.finish()
            waiting = await world.task(here)
            assert (await world.task(elsewhere)).state is State.SUBMITTED
            assert waiting.state is State.QUEUED
            assert waiting.last_error == "another transaction of the database has locked elkapi"
        await world.work()
        assert (await world.task(here)).state is State.SUBMITTED


async def test_callback_of_a_locked_task_holds_up_no_other_callback(postgresql_url: str) -> None:
    async with World.opened(postgresql_url) as world:
        tasks = [await world.submit(f"dove {number}") for number in range(3)]
        await world.work()
        world.clock.forward(11)
        await world.sandbox.deliver_due()
        async with locked(postgresql_url, "SELECT 1 FROM tasks WHERE id = $1 FOR UPDATE", tasks[0].id):
            from service.flows.callbacks import process

            await process.run_due(world.context)
            states = [(await world.task(task)).state for task in tasks]
            assert states[0] is State.SUBMITTED
            assert set(states[1:]) == {State.SUCCEEDED}


async def test_request_that_gets_no_commit_is_answered_in_time(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.writer.MAX_STALL", 0.05)
    never = asyncio.Event()

    async def stuck(_: AsyncConnection, items: Sequence[int]) -> list[int]:
        await never.wait()
        return list(items)

    async with opened(postgresql_url) as database, Writers(database).running() as writers:
        with pytest.raises(StoreUnavailable, match="the database does not answer"):
            await writers.requests.batch(stuck, 1)
        never.set()
