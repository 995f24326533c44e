"""kill -9 of a real server under load, twice: after the restarts every task ends, and nothing was bought twice."""

import asyncio
import contextlib
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.cli.practice import SANDBOX_KEY, plug
from service.cli.processes import LOOPBACK, Served, Troupe, clean_environment, free_ports
from service.sandbox import Job, Receiver, Sandbox, running
from tests.world import WEBHOOK_SECRET

pytestmark = pytest.mark.xdist_group("demo")

TASKS = 60
AT_ONCE = 12
JOB_SECONDS = 4.0
DEADLINE = 10
"""Seconds: the shortest that the API takes."""


def dovecote(folder: Path, upstream: str) -> Served:
    (port,) = free_ports(1)
    settings = {
        **plug(upstream, JOB_SECONDS, "elkapi"),
        "DOVECOTE_DATABASE_URL": f"sqlite:///{folder / 'dovecote.db'}",
        "DOVECOTE_HOST": LOOPBACK,
        "DOVECOTE_PORT": str(port),
        "DOVECOTE_PUBLIC_URL": f"http://{LOOPBACK}:{port}",
        "DOVECOTE_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "DOVECOTE_ALLOW_PRIVATE_WEBHOOKS": "true",
    }
    return Served("dovecote", ("serve",), {**clean_environment(), **settings}, port, folder, "/readyz")


class Clients:
    """Submit tasks as clients do that want each exactly once: again with the same key until there is an answer."""

    def __init__(self, client: httpx.AsyncClient, hook: str) -> None:
        self._client, self._hook = client, hook
        self._numbers = iter(range(TASKS))
        self.accepted: dict[str, str] = {}

    async def run(self) -> None:
        await asyncio.gather(*(self._work() for _ in range(AT_ONCE)))

    async def _work(self) -> None:
        for number in self._numbers:
            prompt = f"dove {number}"
            while prompt not in self.accepted:
                with contextlib.suppress(httpx.TransportError):
                    self.accepted[prompt] = await self._submit(prompt)
                await asyncio.sleep(0.02)

    async def _submit(self, prompt: str) -> str:
        wish = {"family": "runway", "operation": "text_to_video", "input": {"prompt": prompt}, "deadline": DEADLINE}
        answer = await self._client.post(
            "/v1/tasks", json={**wish, "callback_url": f"{self._hook}/done"}, headers={"Idempotency-Key": prompt}
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])


async def many(clients: Clients, accepted: int) -> None:
    while len(clients.accepted) < accepted:  # noqa: ASYNC110 - what is waited for happens in another process
        await asyncio.sleep(0.002)


async def ended(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """Wait until every task has ended, and give them all."""
    until = time.monotonic() + DEADLINE + 12
    while True:
        tasks = (await client.get("/v1/tasks", params={"limit": 100})).json()["tasks"]
        if all(task["finished_at"] for task in tasks):
            return list(tasks)
        assert time.monotonic() < until, [task["explanation"] for task in tasks if not task["finished_at"]]
        await asyncio.sleep(0.1)


async def test_a_server_that_is_killed_twice_under_load_loses_nothing_and_pays_once(tmp_path: Path) -> None:
    sandbox, receiver = Sandbox(seconds=JOB_SECONDS, key=SANDBOX_KEY), Receiver(WEBHOOK_SECRET)
    async with running(sandbox) as upstream, running(receiver) as hook:
        server = dovecote(tmp_path, upstream)
        async with httpx.AsyncClient(base_url=server.url, timeout=10, trust_env=False) as client:
            clients = Clients(client, hook)
            with Troupe() as troupe:
                troupe.start(server)
                await asyncio.to_thread(server.wait_ready)
                async with asyncio.TaskGroup() as load:
                    load.create_task(clients.run())
                    for accepted in (TASKS // 3, 2 * TASKS // 3):
                        await many(clients, accepted)
                        server.kill()
                        server.start()
                        await asyncio.to_thread(server.wait_ready)
                tasks = await ended(client)
                async with asyncio.timeout(10):
                    while len(receiver.received) < TASKS:  # noqa: ASYNC110 - it comes from another process
                        await asyncio.sleep(0.05)
        judge(clients, tasks, sandbox.ledger.jobs)
        told = Counter((received.task_id, received.state) for received in receiver.received)
        assert {told[task["id"], task["state"]] for task in tasks} == {1}
        assert all(received.verified for received in receiver.received)
    with contextlib.closing(sqlite3.connect(tmp_path / "dovecote.db")) as database:
        undecided = database.execute("SELECT count(*) FROM inbox WHERE decision IS NULL").fetchone()
        unsettled = database.execute("SELECT count(*) FROM submissions WHERE outcome = 'sending'").fetchone()
    assert (undecided, unsettled) == ((0,), (0,))


def judge(clients: Clients, tasks: list[dict[str, Any]], jobs: list[Job]) -> None:
    """Compare what we know with what the provider was paid for."""
    assert {task["input"]["prompt"]: task["id"] for task in tasks} == clients.accepted
    assert len(tasks) == TASKS
    paid = {job.prompt: job for job in jobs}
    assert len(paid) == len(jobs), "a job was bought twice"
    for task in tasks:
        job = paid.get(task["input"]["prompt"])
        heard = job is not None and (task["external_id"] is not None or 200 in job.callback_statuses)
        assert task["state"] == ("succeeded" if heard else "expired"), task["explanation"]
    assert sum(task["state"] == "succeeded" for task in tasks) > TASKS / 2
