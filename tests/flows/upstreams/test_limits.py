"""Limits, Retry-After and the circuit over real sockets. Two real workers share them over PostgreSQL."""

import asyncio
import contextlib
import dataclasses
import datetime as dt
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update

from service.cli.practice import SANDBOX_KEY, plug
from service.cli.processes import LOOPBACK, ProcessGroup, free_ports
from service.sandbox import Job, Sandbox, running
from service.store.database import Database
from service.store.tables import circuits, submissions, tasks
from tests.support.fleet import all_tasks, client_of, dovecote, until

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("demo")]

JOB_SECONDS = 0.5
OPEN_TASKS = 3
PER_SECOND = 5
LIMITS = {
    "DOVECOTE_UPSTREAMS__ELKAPI__OPEN_TASKS": str(OPEN_TASKS),
    "DOVECOTE_UPSTREAMS__COMETAPI__SUBMITS_PER_SECOND": str(PER_SECOND),
}


@dataclasses.dataclass(slots=True)
class Stage:
    """Two workers, a web process, and three upstreams: one with slots, one with a rate, one that can fail."""

    database: Database
    client: httpx.AsyncClient
    places: Sandbox
    rate: Sandbox
    falling: Sandbox
    port: int
    """Where the last one is served, when it is."""

    async def submit(self, upstream: str, prompt: str) -> str:
        request = {"family": "runway", "operation": "text_to_video", "upstream": upstream, "input": {"prompt": prompt}}
        answer = await self.client.post("/v1/tasks", json=request)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    @contextlib.asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        async with running(self.falling, port=self.port):
            yield

    async def circuit(self) -> dict[str, Any] | None:
        """Return the circuit of the failing upstream as a client sees it."""
        shown = (await self.client.get("/v1/upstreams")).json()["upstreams"]
        [upstream] = [each for each in shown if each["name"] == "runwayml"]
        return next((each for each in upstream["circuits"] if each["opened_at"] is not None), None)

    async def tries(self) -> int:
        """Count the submissions to the failing upstream."""
        return len(await self.rows(select(submissions).where(submissions.c.upstream == "runwayml")))

    async def rows(self, statement: Any) -> list[Any]:
        async with self.database.reading() as connection:
            return list(await connection.execute(statement))

    async def later(self) -> None:
        """Advance the time until the upstream may be probed again, by the row that all processes share."""
        now = dt.datetime.now(dt.UTC)
        async with self.database.writing() as connection:
            await connection.execute(update(circuits).where(circuits.c.open_until.is_not(None)).values(open_until=now))


@contextlib.asynccontextmanager
async def stage(database_url: str, folder: Path) -> AsyncIterator[Stage]:
    places, rate, falling = (Sandbox(seconds=JOB_SECONDS, key=SANDBOX_KEY) for _ in range(3))
    (port,) = free_ports(1)
    async with (
        running(places) as first,
        running(rate) as second,
        contextlib.aclosing(Closing(Database(database_url))) as c,
    ):
        settings = {
            **plug(first, JOB_SECONDS, "elkapi"),
            **plug(second, JOB_SECONDS, "cometapi"),
            **plug(f"http://{LOOPBACK}:{port}", JOB_SECONDS, "runwayml"),
            **LIMITS,
        }
        web = dovecote(folder, database_url, "web", role="web", **settings)
        workers = [
            dovecote(folder, database_url, name, role="worker", public=web.url, **settings) for name in ("one", "two")
        ]
        with ProcessGroup() as group:
            for served in (web, *workers):
                group.start(served)
            for served in (web, *workers):
                await asyncio.to_thread(served.wait_ready)
            async with client_of(web) as client:
                yield Stage(c.database, client, places, rate, falling, port)


@dataclasses.dataclass(slots=True)
class Closing:
    database: Database

    async def aclose(self) -> None:
        await self.database.close()


async def test_two_workers_share_the_limits_of_an_upstream(postgresql_url: str, tmp_path: Path) -> None:
    async with stage(postgresql_url, tmp_path) as shared:
        given = [shared.submit("elkapi", f"place {number}") for number in range(24)]
        given += [shared.submit("cometapi", f"rate {number}") for number in range(25)]
        busy = [shared.submit("cometapi", f"[429] busy {number}") for number in range(2)]
        await asyncio.gather(*given, *busy)
        await breaks_and_heals(shared)

        async def ended() -> bool:
            return all(task["finished_at"] for task in await all_tasks(shared.client))

        await until(ended)
        assert {task["state"] for task in await all_tasks(shared.client)} == {"succeeded"}
        assert [len(each.ledger.jobs) for each in (shared.places, shared.rate, shared.falling)] == [24, 27, 4]
        assert most_at_once(shared.places.ledger.jobs) == OPEN_TASKS
        await holds_the_rate(shared)
        await comes_again_when_asked(shared)


def most_at_once(jobs: Iterable[Job]) -> int:
    """Return the highest number of concurrent jobs, by the provider's own clock."""
    moments = sorted(moment for job in jobs for moment in ((job.life.created_at, 1), (job.life.ended_at, -1)))
    most = now = 0
    for _, step in moments:
        now += step
        most = max(most, now)
    return most


async def holds_the_rate(shared: Stage) -> None:
    """Check the submits in every interval: at most the rate, plus one second's submits in advance."""
    sent = select(submissions.c.sent_at).where(submissions.c.upstream == "cometapi").order_by(submissions.c.sent_at)
    times = [row.sent_at.timestamp() for row in await shared.rows(sent)]
    assert len(times) == 29
    for first, start in enumerate(times):
        for last, end in enumerate(times[first:], first):
            # One more: a round reads the clock a moment before it records the submission.
            assert last - first + 1 <= PER_SECOND * (end - start) + PER_SECOND + 1, (first, last, end - start)
    came = [job.created_at for job in shared.rate.ledger.jobs]  # a busy machine is late now and then, by no two seconds
    assert max(came) - min(came) >= (len(came) - PER_SECOND) / PER_SECOND - 2


async def comes_again_when_asked(shared: Stage) -> None:
    """Check that no process repeated before the second that the upstream had asked for."""
    asked = (
        select(submissions)
        .join(tasks, tasks.c.id == submissions.c.task_id)
        .where(submissions.c.task_id.in_(select(submissions.c.task_id).where(submissions.c.outcome == "unavailable")))
        .where(submissions.c.upstream == "cometapi")
        .order_by(submissions.c.task_id, submissions.c.sent_at)
    )
    rows = await shared.rows(asked)
    assert [row.outcome for row in rows] == ["unavailable", "taken"] * 2
    for before, after in zip(rows[::2], rows[1::2], strict=True):
        assert (after.sent_at - before.settled_at).total_seconds() >= 1.0


async def breaks_and_heals(shared: Stage) -> None:
    """Check an upstream's failure: both workers avoid it, one probes it, and all go on when it is back."""
    for number in range(4):
        await shared.submit("runwayml", f"patient {number}")

    async def opened() -> bool:
        return await shared.circuit() is not None

    await until(opened)
    await in_line(shared, 4)
    tried = await shared.tries()
    assert tried >= 5
    await shared.later()

    async def tried_once() -> bool:
        circuit = await shared.circuit()
        return await shared.tries() > tried and circuit is not None and circuit["state"] == "open"

    await until(tried_once)
    await in_line(shared, 4)
    assert await shared.tries() == tried + 1, "one tries, for both"
    async with shared.up():
        await shared.later()

        async def healed() -> bool:
            return await shared.circuit() is None and len(shared.falling.ledger.jobs) == 4

        await until(healed)
        assert await shared.tries() == tried + 1 + 4

        async def done() -> bool:
            return all(task["finished_at"] for task in await all_tasks(shared.client) if task["upstream"] == "runwayml")

        await until(done)


async def in_line(shared: Stage, count: int) -> None:
    """Wait until all tasks wait for the upstream's recovery and both workers have noticed it."""

    async def all_waiting() -> bool:
        waits = select(tasks.c.id).where(tasks.c.waits_for == "runwayml runway/official")
        return len(await shared.rows(waits)) == count

    await until(all_waiting)
    before = await shared.tries()
    await asyncio.sleep(0.2)
    assert await shared.tries() == before
