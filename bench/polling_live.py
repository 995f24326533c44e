"""The poll plan in real time: ``python -m bench polling --live``.

A real server has a thousand open tasks at a simulated provider, whose jobs take as long as the simulation says. The polls that arrive
there are counted, and the ends are read from the database.
"""

import asyncio
import contextlib
import dataclasses
import math
import random
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx

from bench.polling import LOST, Economy
from service.cli.practice import SANDBOX_KEY, plug
from service.cli.processes import LOOPBACK, ProcessGroup, Served, clean_environment, free_ports
from service.sandbox import Sandbox, running

POLLED: Final = "/runway/feed"
"""The path at which the jobs of the measured dialect are polled, one with each request."""
AT_ONCE: Final = 20
READY_WITHIN: Final = 120.0


class _Counted:
    """An application, and how often a path of it was asked for."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.count = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.count += scope["type"] == "http" and str(scope["path"]).endswith(POLLED)
        await self._app(scope, receive, send)


@dataclasses.dataclass(slots=True)
class _Sender:
    """Sends callbacks, except those of some jobs."""

    chance: random.Random
    client: httpx.AsyncClient
    share_lost: float
    lost: set[str] = dataclasses.field(default_factory=set)
    seen: set[str] = dataclasses.field(default_factory=set)

    async def __call__(self, url: str, body: bytes) -> int:
        if url not in self.seen:
            self.seen.add(url)
            if self.chance.random() < self.share_lost:
                self.lost.add(url)
        if url in self.lost:
            return 0
        with contextlib.suppress(httpx.HTTPError):
            return (await self.client.post(url, content=body)).status_code
        return 0


async def run(*, median: float, spread: float, callbacks: bool, tasks: int, seed: int = 1) -> Economy:
    """Run tasks to their ends, and return the cost of polling them.

    :param median: seconds that a job takes, as Dovecote has learned it
    """
    chance = random.Random(seed)
    async with httpx.AsyncClient(timeout=30.0, trust_env=False) as client:
        sender = _Sender(random.Random(seed), client, LOST if callbacks else 1.0)
        sandbox = Sandbox(seconds=median, key=SANDBOX_KEY, send=sender)
        counted = _Counted(sandbox.app)
        sandbox.app = counted  # type: ignore[assignment]
        with tempfile.TemporaryDirectory(prefix="dovecote-polling-", ignore_cleanup_errors=True) as name:
            async with running(sandbox) as upstream, _serving(Path(name), upstream, median, public=callbacks) as served:
                slots = asyncio.Semaphore(AT_ONCE)

                async def submit(number: int) -> None:
                    seconds = median * math.exp(chance.gauss(0.0, spread))
                    request = {
                        "family": "runway",
                        "operation": "text_to_video",
                        "input": {"prompt": f"[seconds={seconds:.2f}] dove {number}"},
                    }
                    async with slots:
                        answer = await client.post(f"{served.url}/v1/tasks", json=request)
                        answer.raise_for_status()

                await asyncio.gather(*(submit(number) for number in range(tasks)))
                database = Path(name) / "dovecote.db"
                while await asyncio.to_thread(_open, database):  # noqa: ASYNC110 - it happens in another process
                    await asyncio.sleep(1.0)
                ends = await asyncio.to_thread(_ends, database)
    jobs = {job.id: job for job in sandbox.ledger.jobs}
    late = [job for job in jobs.values() if not callbacks or job.callback_url in sender.lost]
    delays = [ends[job.id] - job.life.ended_at for job in late if job.id in ends]
    return Economy(counted.count / tasks, sum(delays) / max(len(delays), 1))


@contextlib.asynccontextmanager
async def _serving(folder: Path, upstream: str, median: float, *, public: bool) -> AsyncIterator[Served]:
    (port,) = free_ports(1)
    environment = {
        **clean_environment(),
        **plug(upstream, median - 1, "elkapi"),
        "DOVECOTE_ROUTES__RUNWAY": "elkapi",
        "DOVECOTE_DATABASE_URL": f"sqlite:///{folder}/dovecote.db",
        "DOVECOTE_HOST": LOOPBACK,
        "DOVECOTE_PORT": str(port),
        "DOVECOTE_LOG_LEVEL": "warning",
        **({"DOVECOTE_PUBLIC_URL": f"http://{LOOPBACK}:{port}"} if public else {}),
    }
    served = Served("dovecote", ("serve",), environment, port, folder)
    with ProcessGroup() as group:
        group.start(served)
        end = time.monotonic() + READY_WITHIN
        while not (served.alive and await asyncio.to_thread(served.ready)):
            if not served.alive or time.monotonic() > end:
                raise RuntimeError(f"the server does not serve: {served.log.read_text()[-2000:]}")
            await asyncio.sleep(0.1)
        yield served


def _open(database: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        return int(connection.execute("SELECT count(*) FROM tasks WHERE finished_at IS NULL").fetchone()[0])


def _ends(database: Path) -> dict[str, float]:
    """Return when the task of each job ended."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        rows = connection.execute("SELECT external_id, finished_at FROM tasks WHERE external_id IS NOT NULL")
        return {job: at / 1e6 for job, at in rows}


def table(medians: list[float], spread: float, tasks: int) -> str:
    """Run with callbacks and without, and return a table."""
    lines = [
        "| median s | spread | callbacks: polls a task | lost callback found after s | without callbacks: delay s | polls a task |",
        "|---|---|---|---|---|---|",
    ]
    for median in medians:
        on, off = asyncio.run(_both(median, spread, tasks))
        lines.append(
            f"| {median:.0f} | {spread} | {on.polls:.2f} | {on.delay:.1f} | {off.delay:.1f} | {off.polls:.1f} |"
        )
    return "\n".join(lines)


async def _both(median: float, spread: float, tasks: int) -> tuple[Economy, Economy]:
    on = await run(median=median, spread=spread, callbacks=True, tasks=tasks)
    return on, await run(median=median, spread=spread, callbacks=False, tasks=tasks)
