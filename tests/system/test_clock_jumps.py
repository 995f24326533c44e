"""Real processes whose clock jumps. libfaketime sets it while they run; the tests are skipped where it is missing."""

import asyncio
import contextlib
import dataclasses
import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from service.cli.practice import SANDBOX_KEY
from service.cli.processes import ProcessGroup, Served
from service.sandbox import Receiver, Sandbox, running
from service.store.database import Database
from tests.support.fleet import all_tasks, client_of, dovecote, until, with_sandboxes

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
pytestmark = [
    pytest.mark.long,
    pytest.mark.xdist_group("demo"),
    pytest.mark.skipif(LIBRARY is None, reason="libfaketime is missing: apt-get install faketime"),
]

JOB_SECONDS = 2.0
TASKS = 20
SLOW = 240.0
"""Seconds: after a jump a task may wait for the longest interval between polls, which is a minute."""
JUMPS = {"an hour back": -3600, "an hour ahead": 3600, "a day back": -86_400, "a day ahead": 86_400}


class FakeClock:
    """The clock of some processes. A file holds its offset."""

    def __init__(self, folder: Path, ahead: int = 0) -> None:
        self._file = folder / f"clock-{ahead}"
        self.ahead = ahead
        self.set(ahead)

    def set(self, ahead: int) -> None:
        """Set the clock, in seconds ahead of the right time."""
        written = self._file.with_suffix(".new")
        written.write_text(f"{ahead:+d}")
        written.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def given_to(self, served: Served) -> Served:
        return dataclasses.replace(served, environment={**served.environment, **self.environment})


@contextlib.asynccontextmanager
async def outside() -> AsyncIterator[tuple[Sandbox, dict[str, str], Receiver, str]]:
    elk = Sandbox(seconds=JOB_SECONDS, key=SANDBOX_KEY)
    receiver = Receiver(None)  # signatures of a server whose clock is wrong are refused for good reason
    async with running(elk) as upstream, running(receiver) as hook:
        # No callbacks: every task must be brought home by polling.
        settings = with_sandboxes(JOB_SECONDS, elkapi=upstream) | {"DOVECOTE_UPSTREAMS__ELKAPI__CALLBACKS": "off"}
        yield elk, settings, receiver, hook


async def submit(client: httpx.AsyncClient, hook: str, count: int, **more: object) -> None:
    """Submit tasks. As a client does, repeat a submit that a busy server answers with 503."""
    for number in range(count):
        request = {"family": "runway", "operation": "text_to_video", "input": {"prompt": f"dove {number}"}}
        document = {**request, "callback_url": f"{hook}/done", **more}
        headers = {"Idempotency-Key": f"dove {number}"}

        async def accepted(document: dict[str, Any] = document, headers: dict[str, str] = headers) -> bool:
            answer = await client.post("/v1/tasks", json=document, headers=headers)
            assert answer.status_code in {200, 202, 503}, answer.text
            return answer.status_code != 503

        await until(accepted)


class Tasks:
    """The tasks of a server when they were last read."""

    def __init__(self, client: httpx.AsyncClient, *logs: Served) -> None:
        self._client, self._logs = client, logs
        self._seen: list[dict[str, Any]] = []

    async def are_home(self) -> bool:
        self._seen = await all_tasks(self._client)
        return len(self._seen) > 0 and all(task["state"] == "succeeded" for task in self._seen)

    def why_not(self) -> object:
        open_ones = [task for task in self._seen if task["state"] != "succeeded"]
        return [(task["state"], task["explanation"]) for task in open_ones], [each.tail() for each in self._logs]


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS.keys())
async def test_tasks_end_although_the_clock_jumps(database_url: str, tmp_path: Path, jump: int) -> None:
    clock = FakeClock(tmp_path)
    async with outside() as (elk, settings, receiver, hook):
        served = clock.given_to(dovecote(tmp_path, database_url, "server", **settings))
        with ProcessGroup() as group:
            group.start(served)
            await asyncio.to_thread(served.wait_ready)
            async with client_of(served) as client:
                await submit(client, hook, TASKS, deadline=600)

                async def under_way() -> bool:
                    return len(elk.ledger.jobs) >= TASKS // 2

                await until(under_way)
                clock.set(jump)
                tasks = Tasks(client, served)
                await until(tasks.are_home, tasks.why_not, limit=SLOW)

                async def delivered() -> bool:
                    return len(receiver.received) >= TASKS

                await until(delivered)
                log = served.log.read_text()
    assert elk.ledger.paid() == TASKS
    assert len({each.task_id for each in receiver.received}) == TASKS
    assert log.count("clock jumped") == 1


async def test_jump_ahead_does_not_expire_tasks_that_were_never_tried(database_url: str, tmp_path: Path) -> None:
    clock = FakeClock(tmp_path)
    async with outside() as (elk, settings, _, hook):
        settings |= {"DOVECOTE_UPSTREAMS__ELKAPI__OPEN_TASKS": "1"}
        served = clock.given_to(dovecote(tmp_path, database_url, "server", **settings))
        with ProcessGroup() as group:
            group.start(served)
            await asyncio.to_thread(served.wait_ready)
            async with client_of(served) as client:
                await submit(client, hook, 5, deadline=300)
                clock.set(86_400)
                tasks = Tasks(client, served)
                await until(tasks.are_home, tasks.why_not, limit=SLOW)
    assert elk.ledger.paid() == 5


async def test_two_workers_with_different_clocks_pay_and_notify_once(postgresql_url: str, tmp_path: Path) -> None:
    ahead = FakeClock(tmp_path, 90)
    async with outside() as (elk, settings, receiver, hook):
        web = dovecote(tmp_path, postgresql_url, "web", role="web", **settings)
        right = dovecote(tmp_path, postgresql_url, "right", role="worker", public=web.url, **settings)
        skewed = ahead.given_to(dovecote(tmp_path, postgresql_url, "skewed", role="worker", public=web.url, **settings))
        with ProcessGroup() as group:
            for each in (web, right, skewed):
                group.start(each)
            for each in (web, right, skewed):
                await asyncio.to_thread(each.wait_ready)
            async with client_of(web) as client:
                await submit(client, hook, TASKS * 3)
                tasks = Tasks(client, right, skewed)
                await until(tasks.are_home, tasks.why_not, limit=SLOW)

                async def delivered() -> bool:
                    return len({each.task_id for each in receiver.received}) >= TASKS * 3

                await until(delivered)
            log = skewed.log.read_text()
        database = Database(postgresql_url)
        async with database.reading() as connection:
            attempts = (await connection.execute(text("SELECT attempts FROM webhook_messages"))).scalars().all()
            written = (await connection.execute(text("SELECT max(at) FROM events"))).scalar_one()
        await database.close()
    assert elk.ledger.paid() == TASKS * 3
    assert len(receiver.received) == TASKS * 3, "no message goes out twice"
    assert set(attempts) == {1}
    assert "clock differs from the database's" in log
    assert written < dt.datetime.now(dt.UTC) + dt.timedelta(seconds=5), (
        "times of rows are those of the database's clock"
    )
