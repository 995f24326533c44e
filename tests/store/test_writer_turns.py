"""The batching writer's queues: waiting writes share a commit in order, and no queue starves the other."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store import callbacks as callback_store
from service.store import tasks as task_store
from service.store import writer as writer_module
from service.store.database import Database
from service.store.writer import Batch, Writers
from tests.support.loop_clock import LoopClock
from tests.support.values import a_callback, a_task, new_id, opened

JOURNEYS_WAIT = 1000.0
"""Seconds, far more than any machine takes for these tests: only the writes of the test let time pass."""
MAX_WRITES = 200
"""Without turns there is no end of the writes of one kind."""


class Lines:
    """Two kinds of write. They are only counted, and take some seconds of the loop's clock."""

    def __init__(self, *, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.happened: list[str] = []
        self.busy = asyncio.Event()
        self._clock = LoopClock()

    async def door(self, _: AsyncConnection, items: Sequence[None]) -> Sequence[None]:
        return await self._write("door", items)

    async def journey(self, _: AsyncConnection, items: Sequence[None]) -> Sequence[None]:
        return await self._write("journey", items)

    async def _write(self, line: str, items: Sequence[None]) -> Sequence[None]:
        self.happened.append(line)
        self.busy.set()
        assert len(self.happened) < MAX_WRITES, "one kind of write starves the other"
        self._clock.forward(self.seconds)
        await asyncio.sleep(0)
        return items


Ask = Callable[[Batch[None, None], None], Awaitable[None]]


@contextlib.asynccontextmanager
async def never_empty(ask: Ask, batch: Batch[None, None], lines: Lines) -> AsyncIterator[None]:
    """Keep a queue full: while one write is under way another waits, and each is repeated when it is answered."""

    async def keep_asking() -> None:
        while True:
            await ask(batch, None)

    asking = [asyncio.create_task(keep_asking())]
    await lines.busy.wait()
    asking.append(asyncio.create_task(keep_asking()))
    try:
        yield
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


@pytest.fixture(autouse=True)
def _long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "JOURNEYS_WAIT", JOURNEYS_WAIT)
    monkeypatch.setattr(writer_module, "MAX_STALL", JOURNEYS_WAIT * MAX_WRITES)


@pytest.fixture
async def writers(sqlite_url: str) -> AsyncIterator[Writers]:
    database = Database(sqlite_url)
    yield Writers(database)
    await database.close()


@contextlib.asynccontextmanager
async def without_end(ask: object, line: object) -> AsyncIterator[None]:
    """Keep a queue full: each of several callers writes again as soon as it is answered."""

    async def keep_asking() -> None:
        while True:
            await ask(line, None)

    asking = [asyncio.create_task(keep_asking()) for _ in range(8)]
    await asyncio.sleep(0)
    yield
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


DOORS = {
    "callbacks": (callback_store.receive, a_callback),
    "submits": (task_store.accept, a_task),
    "keyed submits": (task_store.accept, lambda: a_task(idempotency_key=str(new_id()), labels={"project": "intro"})),
}


@pytest.mark.parametrize("door", DOORS)
async def test_concurrent_requests_share_a_commit(database_url: str, door: str) -> None:
    """They are not committed one by one. A statement that fails for many rows only would be slow and would never raise."""
    batch, made = DOORS[door]
    commits: list[object] = []
    async with opened(database_url) as database:
        event.listen(database.writer.sync_engine, "commit", commits.append)
        writers = Writers(database)
        asked = [asyncio.ensure_future(writers.requests.batch(batch, made())) for _ in range(64)]
        await asyncio.sleep(0)
        async with writers.running():
            await asyncio.gather(*asked)
    assert len(commits) == 1


async def test_request_is_written_before_an_earlier_journey(writers: Writers) -> None:
    lines = Lines()
    asked = [
        asyncio.ensure_future(writers.journeys.batch(lines.journey, None)),
        asyncio.ensure_future(writers.requests.batch(lines.door, None)),
    ]
    await asyncio.sleep(0)
    async with writers.running():
        await asyncio.gather(*asked)
    assert lines.happened == ["door", "journey"]


async def test_constant_requests_do_not_starve_a_journey(writers: Writers) -> None:
    lines = Lines(seconds=JOURNEYS_WAIT / 10)
    async with writers.running(), never_empty(writers.requests.batch, lines.door, lines):
        before = len(lines.happened)
        await writers.journeys.batch(lines.journey, None)
        doors_before_it = lines.happened.index("journey") - before
    assert doors_before_it > 2


async def test_constant_journeys_do_not_starve_a_request(writers: Writers) -> None:
    lines = Lines(seconds=JOURNEYS_WAIT * 1.2)
    async with writers.running(), never_empty(writers.journeys.batch, lines.journey, lines):
        await writers.journeys.batch(lines.journey, None)
        before = len(lines.happened)
        await writers.requests.batch(lines.door, None)
    assert "door" in lines.happened[before : before + 2]


class Held:
    """A journey's write that is under way until it is released."""

    def __init__(self) -> None:
        self.under_way = asyncio.Event()
        self.released = asyncio.Event()

    async def journey(self, _: AsyncConnection, items: Sequence[None]) -> Sequence[None]:
        self.under_way.set()
        await self.released.wait()
        return items


@pytest.mark.parametrize("wait", [JOURNEYS_WAIT, 0.0], ids=["as long as it may", "no longer than it may"])
async def test_request_waits_for_a_journey_that_is_under_way(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch, wait: float
) -> None:
    monkeypatch.setattr(writer_module, "JOURNEYS_WAIT", wait)
    held, lines = Held(), Lines()
    async with opened(postgresql_url) as database:
        writers = Writers(database)
        async with writers.running():
            journey = asyncio.create_task(writers.journeys.batch(held.journey, None))
            await held.under_way.wait()
            request = asyncio.create_task(writers.requests.batch(lines.door, None))
            try:
                for _ in range(5 if wait else 0):  # as long as some other transactions take
                    await database.ping()
                assert lines.happened == []
            finally:
                if wait:
                    held.released.set()
            await request
            assert journey.done() == bool(wait)
            held.released.set()
            await journey
