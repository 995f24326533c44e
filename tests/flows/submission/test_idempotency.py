"""Equal submits with one key at two real web processes at the same time: one task, one job, one answer."""

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from service.cli.practice import SANDBOX_KEY
from service.cli.processes import ProcessGroup
from service.sandbox import Sandbox, running
from tests.conftest import migrated, run_sql
from tests.support.fleet import all_tasks, client_of, dovecote, until, with_sandboxes

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("demo")]

JOB_SECONDS = 1.0
LOCK_TIMEOUT = 3.0
"""Seconds that a statement of these processes waits for a lock. By default it is 30: too long for a test."""


@dataclasses.dataclass(slots=True)
class Twins:
    """Two web processes over one database."""

    clients: tuple[httpx.AsyncClient, httpx.AsyncClient]
    sandbox: Sandbox
    database_url: str

    async def submit(self, twin: int, key: str, prompt: str = "a dove") -> httpx.Response:
        request = {"family": "runway", "operation": "text_to_video", "input": {"prompt": prompt}}
        return await self.clients[twin % 2].post("/v1/tasks", json=request, headers={"Idempotency-Key": key})

    @contextlib.asynccontextmanager
    async def held_back(self) -> AsyncIterator[None]:
        """Delay every commit of a new task by a lock on the table of events."""
        connection = await asyncpg.connect(self.database_url)
        try:
            await connection.execute("BEGIN; LOCK TABLE events IN EXCLUSIVE MODE")
            yield
        finally:
            await connection.close()

    async def waiting(self, count: int) -> None:
        """Wait until this number of statements waits for a lock."""
        asks = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        connection = await asyncpg.connect(self.database_url)

        async def there() -> bool:
            return bool(await connection.fetchval(asks) >= count)

        await until(there)
        await connection.close()


async def test_hundred_equal_submits_to_two_processes_create_one_task(
    empty_postgresql_url: str, tmp_path: Path
) -> None:
    url = empty_postgresql_url
    await migrated(url)
    name = url.partition("?")[0].rpartition("/")[2]
    await run_sql(url, f"ALTER DATABASE {name} SET lock_timeout = '{LOCK_TIMEOUT:g}s'")
    sandbox = Sandbox(seconds=JOB_SECONDS, key=SANDBOX_KEY)
    async with running(sandbox) as upstream:
        settings = with_sandboxes(JOB_SECONDS, elkapi=upstream)
        webs = [dovecote(tmp_path, url, f"web-{number}", role="web", **settings) for number in range(2)]
        worker = dovecote(tmp_path, url, "worker", role="worker", public=webs[0].url, **settings)
        with ProcessGroup() as group:
            for served in webs:
                group.start(served)
            for served in webs:
                await asyncio.to_thread(served.wait_ready)
            async with client_of(webs[0]) as one, client_of(webs[1]) as other:
                twins = Twins((one, other), sandbox, url)
                await waits_for_the_first(twins)
                await is_told(twins)
                group.start(worker)  # only now: before this no other statement may wait for a lock
                await at_once(twins)
                await crossing(twins)
                await nothing_was_made_twice(twins)


async def at_once(twins: Twins) -> None:
    """Check that a hundred concurrent submits all return one task."""
    answers = await asyncio.gather(*(twins.submit(number, "hundred", "hundred") for number in range(100)))
    assert Counter(answer.status_code for answer in answers) == {202: 100}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert Counter(answer.headers.get("idempotency-replayed") for answer in answers) == {"true": 99, None: 1}
    other = await twins.submit(1, "hundred", "another body")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def crossing(twins: Twins) -> None:
    """Check that submits with many keys in opposite orders do not deadlock."""
    keys = [f"key {number:02}" for number in range(40)]
    orders = [(twin, key) for pair in zip(keys, reversed(keys), strict=True) for twin, key in enumerate(pair)]
    answers = await asyncio.gather(*(twins.submit(twin, key, key) for twin, key in orders * 3))
    assert Counter(answer.status_code for answer in answers) == {202: len(answers)}
    made: dict[str, set[Any]] = {}
    for (_, key), answer in zip(orders * 3, answers, strict=True):
        made.setdefault(key, set()).add(answer.json()["id"])
    assert {len(ids) for ids in made.values()} == {1}


async def waits_for_the_first(twins: Twins) -> None:
    """Check that the second request waits for a slow first one and returns its task."""
    async with twins.held_back():
        first = asyncio.create_task(twins.submit(0, "slow", "slow"))
        await twins.waiting(1)
        second = asyncio.create_task(twins.submit(1, "slow", "slow"))
        await twins.waiting(2)
        assert not first.done()
        assert not second.done()
    answers = [await first, await second]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert [answer.headers.get("idempotency-replayed") for answer in answers] == [None, "true"]
    assert answers[0].json()["id"] == answers[1].json()["id"]


async def is_told(twins: Twins) -> None:
    """Check that a repetition gets Retry-After when the first request takes too long, and that one task remains."""
    async with twins.held_back():
        answers = await asyncio.gather(*(twins.submit(twin, "slower", "slower") for twin in range(2)))
        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(503, "unavailable")] * 2
        assert {answer.headers["retry-after"] for answer in answers} == {"5"}
    again = await asyncio.gather(*(twins.submit(twin, "slower", "slower") for twin in range(2)))
    assert [answer.status_code for answer in again] == [202, 202]
    assert len({answer.json()["id"] for answer in again}) == 1


async def nothing_was_made_twice(twins: Twins) -> None:
    """Check that every key has one task, and every task one job."""

    async def ended() -> bool:
        return all(task["finished_at"] for task in await all_tasks(twins.clients[0]))

    await until(ended)
    tasks = await all_tasks(twins.clients[0])
    prompts = Counter(task["input"]["prompt"] for task in tasks)
    assert len(tasks) == 43
    assert set(prompts.values()) == {1}
    assert Counter(job.prompt for job in twins.sandbox.ledger.jobs) == prompts
