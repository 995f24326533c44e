"""The service as real processes on one database: two roles, a restart, and settings that prevent a start."""

import asyncio
import json
import signal
from pathlib import Path

import httpx
import pytest

from service.cli import exits
from service.cli.practice import SANDBOX_KEY
from service.cli.processes import LOOPBACK, ProcessGroup, Served, free_ports
from service.sandbox import Receiver, Sandbox, running
from service.store.migrate import _LOCK
from tests.support.breakage import ANSWER, HEAD, Server, request_of
from tests.support.processes import client_of, dovecote, run, started, submit, task_in, until
from tests.support.waiting import LIMIT
from tests.support.world import JOB_SECONDS, WEBHOOK_SECRET, Clock

pytestmark = pytest.mark.xdist_group("demo")


async def test_web_and_worker_roles_complete_a_task_together(postgresql_url: str, tmp_path: Path) -> None:
    clock, receiver = Clock(), Receiver(WEBHOOK_SECRET)
    sandbox = Sandbox(seconds=JOB_SECONDS, clock=clock.seconds, key=SANDBOX_KEY)
    async with running(sandbox) as upstream, running(receiver) as hook:
        web = without_catch_up(dovecote(tmp_path, postgresql_url, upstream, "web"))
        worker = without_catch_up(dovecote(tmp_path, postgresql_url, upstream, "worker", public=web.url))
        with ProcessGroup() as group:
            await started(group, web)
            async with client_of(web) as client, client_of(worker) as side_door:
                assert await left_alone(client)  # a web process leaves the work to others
                await started(group, worker)
                assert (await side_door.get("/v1/tasks")).status_code == 404  # and a worker serves its health only
                await complete_while_waiting(client, sandbox, clock, hook)

                async def delivered() -> bool:
                    return len(receiver.received) == 1

                await until(delivered)
    assert sandbox.ledger.paid() == 2
    assert {(each.state, each.verified) for each in receiver.received} == {("succeeded", True)}


@pytest.mark.long
async def test_callbacks_role_serves_providers_only_and_needs_no_api_key(postgresql_url: str, tmp_path: Path) -> None:
    clock = Clock()
    sandbox = Sandbox(seconds=JOB_SECONDS, clock=clock.seconds, key=SANDBOX_KEY)
    async with running(sandbox) as upstream:
        callbacks = dovecote(tmp_path, postgresql_url, upstream, "callbacks")
        callbacks.health = "/healthz"
        callbacks.environment = {**callbacks.environment, "DOVECOTE_HOST": "0.0.0.0"}  # noqa: S104 - public, without a key
        web = dovecote(tmp_path, postgresql_url, upstream, "web", public=callbacks.url)
        worker = dovecote(tmp_path, postgresql_url, upstream, "worker", public=callbacks.url)
        with ProcessGroup() as group:
            await started(group, callbacks, worker, web)
            async with client_of(web) as client, client_of(callbacks) as intake:
                for path in ("/v1/tasks", "/readyz", "/", "/metrics"):
                    assert (await intake.get(path)).status_code == 404, path
                assert (await intake.post("/v1/tasks", json={})).status_code == 404
                task_id = await submit(client)
                await task_in(client, task_id, "submitted")
                clock.forward(JOB_SECONDS * 2)
                await sandbox.deliver_due()
                task = await task_in(client, task_id, "succeeded")
                assert task["outcome_source"] == "callback"


async def left_alone(client: httpx.AsyncClient) -> bool:
    """Submit a task, and wait a second for its end. A working process would submit it at once."""
    request = {"family": "runway", "operation": "text_to_video", "input": {"prompt": "a patient dove"}}
    answer = await client.post("/v1/tasks", json=request, headers={"Prefer": "wait=1"})
    return bool(answer.json()["state"] == "queued")


def without_catch_up(served: Served) -> Served:
    """Return a server that notices writes of other processes only by their notifications."""
    (served.folder / "sitecustomize.py").write_text(
        "from service.flows.signals import catchup\ncatchup.INTERVAL = 3600.0\n"
    )
    served.environment = {**served.environment, "PYTHONPATH": str(served.folder)}
    return served


async def complete_while_waiting(client: httpx.AsyncClient, sandbox: Sandbox, clock: Clock, hook: str) -> None:
    """Wait for a task's end at one process while another one ends it."""
    task_id = await submit(client, callback_url=f"{hook}/done")
    await task_in(client, task_id, "submitted")
    waiting = asyncio.create_task(client.get(f"/v1/tasks/{task_id}", params={"wait": 50}))
    await asyncio.sleep(0.1)  # by now it has looked, found nothing, and waits
    assert not waiting.done()
    clock.forward(JOB_SECONDS * 2)
    await sandbox.deliver_due()
    async with asyncio.timeout(LIMIT / 2):  # the request itself would wait longer
        task = (await waiting).json()
    assert (task["state"], task["outcome_source"]) == ("succeeded", "callback")


@pytest.mark.long
async def test_submit_in_flight_ends_before_the_process(database_url: str, tmp_path: Path) -> None:
    came, answer, hung_up = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def think(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        came.set()
        ends = [asyncio.create_task(answer.wait()), asyncio.create_task(reader.read())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if answer.is_set():
            writer.write(HEAD + ANSWER)
        else:
            hung_up.set()
        for each in ends:
            each.cancel()

    async with Server.running(think) as upstream:
        served = dovecote(tmp_path, database_url, upstream.url)
        with ProcessGroup() as group:
            await started(group, served)
            async with client_of(served) as client, asyncio.timeout(LIMIT):
                task_id = await submit(client)
                await came.wait()
            assert served.process is not None
            served.process.send_signal(signal.SIGTERM)
            await until(lambda: door_is_shut(served))
            with pytest.raises(TimeoutError):  # the stop takes 0.1 s from closing the port to the work in flight
                await asyncio.wait_for(hung_up.wait(), 0.3)
            assert served.alive
            answer.set()
            assert await asyncio.to_thread(served.process.wait, LIMIT) == 0
            await started(group, served)
            async with client_of(served) as client:
                task = await task_in(client, task_id, "submitted")
                events = (await client.get(f"/v1/tasks/{task_id}/events")).json()["events"]
        assert task["external_id"] == "7"
        assert [event["type"] for event in events] == ["accepted", "submitting", "submitted"]
        assert upstream.connections == 1


async def door_is_shut(served: Served) -> bool:
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, served.port)
    except ConnectionError:
        return True
    writer.close()
    await writer.wait_closed()
    return False


# ── what a start refuses ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.long
async def test_unmigrated_database_is_refused(empty_postgresql_url: str, tmp_path: Path) -> None:
    code, _, said = await run(tmp_path, empty_postgresql_url, "serve")
    assert code == exits.UNAVAILABLE
    assert "run `dovecote migrate`" in said
    assert "Traceback" not in said


@pytest.mark.long
async def test_two_processes_may_migrate_at_once(empty_postgresql_url: str, tmp_path: Path) -> None:
    import asyncpg

    gate = await asyncpg.connect(empty_postgresql_url)
    await gate.execute(f"SELECT pg_advisory_lock({_LOCK})")
    migrating = [asyncio.create_task(run(tmp_path, empty_postgresql_url, "migrate", "--json")) for _ in range(2)]

    async def both_wait() -> bool:
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        return bool(await gate.fetchval(waiting) == len(migrating))

    try:
        await until(both_wait)
        assert await gate.fetchval("SELECT to_regclass('tasks')") is None
    finally:
        await gate.close()  # and now they run for it
        both = await asyncio.gather(*migrating)
    assert [code for code, _, _ in both] == [0, 0], both
    first, second = sorted((json.loads(out) for _, out, _ in both), key=lambda each: each["was"] is not None)
    assert first == {"schema": second["schema"], "was": None}
    assert second["was"] == second["schema"]


@pytest.mark.long
async def test_unreachable_database_is_reported(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    code, _, said = await run(tmp_path, f"postgresql://dovecote:hunter2@{LOOPBACK}:{port}/dovecote", "serve")
    assert code == exits.UNAVAILABLE
    assert "nothing listens at the database's address" in said
    assert "hunter2" not in said


@pytest.mark.long
async def test_sqlite_database_serves_one_process(sqlite_url: str, tmp_path: Path) -> None:
    served = dovecote(tmp_path, sqlite_url, "http://127.0.0.1:9")
    with ProcessGroup() as group:
        await started(group, served)
        for command in ("serve", "migrate"):
            code, _, said = await run(tmp_path, sqlite_url, command)
            assert code == exits.UNAVAILABLE
            assert "another Dovecote process has" in said
            assert "stop the other one, or use PostgreSQL" in said
        assert await asyncio.to_thread(served.ready)
