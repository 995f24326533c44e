"""The service as real processes on one database: two roles, a restart, and what a start refuses."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.cli import exits
from service.cli.practice import SANDBOX_KEY, plug
from service.cli.processes import LOOPBACK, Served, Troupe, clean_environment, free_ports
from service.flows.signals_catchup import LOOK_AGAIN
from service.sandbox import Receiver, Sandbox, running
from service.store.migrate import _LOCK
from tests.support.breakage import ANSWER, HEAD, Server, request_of
from tests.support.world import JOB_SECONDS, WEBHOOK_SECRET, Clock

pytestmark = pytest.mark.xdist_group("demo")

NEVER_POLLED = 3600.0
"""What a task is said to take usually: no poll brings news before a callback does."""
PATIENCE = 20.0


def dovecote(folder: Path, database_url: str, upstream: str, role: str = "all", *, public: str = "") -> Served:
    """Plan a server; it is not started yet."""
    (port,) = free_ports(1)
    settings = {
        **plug(upstream, NEVER_POLLED, "elkapi"),
        "DOVECOTE_DATABASE_URL": database_url,
        "DOVECOTE_HOST": LOOPBACK,
        "DOVECOTE_PORT": str(port),
        "DOVECOTE_PUBLIC_URL": public or f"http://{LOOPBACK}:{port}",
        "DOVECOTE_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "DOVECOTE_ALLOW_PRIVATE_WEBHOOKS": "true",
    }
    return Served(role, ("serve", "--role", role), {**clean_environment(), **settings}, port, folder, "/readyz")


async def started(troupe: Troupe, *served: Served) -> None:
    for each in served:
        troupe.start(each)
    for each in served:
        await asyncio.to_thread(each.wait_ready)


@contextlib.asynccontextmanager
async def client_of(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served.url, timeout=PATIENCE, trust_env=False) as client:
        yield client


async def submit(client: httpx.AsyncClient, **more: str) -> str:
    wish = {"family": "runway", "operation": "text_to_video", "input": {"prompt": "a dove", "duration": 5}, **more}
    answer = await client.post("/v1/tasks", json=wish)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await true():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.02)


async def task_in(client: httpx.AsyncClient, task_id: str, state: str) -> dict[str, Any]:
    """Wait until a task is in a state, and give it."""
    found: dict[str, Any] = {}

    async def there() -> bool:
        found.update((await client.get(f"/v1/tasks/{task_id}")).json())
        return bool(found["state"] == state)

    await until(there)
    return found


async def test_two_roles_on_one_database_bring_a_task_home_and_wake_who_waits_for_it(
    postgresql_url: str, tmp_path: Path
) -> None:
    clock, receiver = Clock(), Receiver(WEBHOOK_SECRET)
    sandbox = Sandbox(seconds=JOB_SECONDS, clock=clock.seconds, key=SANDBOX_KEY)
    async with running(sandbox) as upstream, running(receiver) as hook:
        web = dovecote(tmp_path, postgresql_url, upstream, "web")
        worker = dovecote(tmp_path, postgresql_url, upstream, "worker", public=web.url)
        with Troupe() as troupe:
            await started(troupe, web)
            async with client_of(web) as client, client_of(worker) as side_door:
                assert await left_alone(client)  # a web process leaves the work to others
                await started(troupe, worker)
                assert (await side_door.get("/v1/tasks")).status_code == 404  # and a worker serves its health only
                waits = [await woken_after(client, sandbox, clock, hook) for _ in range(3)]

                async def told() -> bool:
                    return len(receiver.received) == len(waits)

                await until(told)
    # Who waits is woken by a look of its process every LOOK_AGAIN seconds: what is quicker each time was woken from abroad.
    # The median of three, since a busy machine may be slow once.
    assert sorted(waits)[1] < LOOK_AGAIN / 2
    assert sandbox.ledger.paid() == 1 + len(waits)
    assert {(each.state, each.verified) for each in receiver.received} == {("succeeded", True)}


async def left_alone(client: httpx.AsyncClient) -> bool:
    """Submit a task and wait a second for its end: a process at work would have handed it over at once."""
    wish = {"family": "runway", "operation": "text_to_video", "input": {"prompt": "a patient dove"}}
    answer = await client.post("/v1/tasks", json=wish, headers={"Prefer": "wait=1"})
    return bool(answer.json()["state"] == "queued")


async def woken_after(client: httpx.AsyncClient, sandbox: Sandbox, clock: Clock, hook: str) -> float:
    """Wait for a task's end at one process while the other brings it about; give the seconds that it took."""
    task_id = await submit(client, callback_url=f"{hook}/done")
    await task_in(client, task_id, "submitted")
    began = asyncio.get_running_loop().time()
    waiting = asyncio.create_task(client.get(f"/v1/tasks/{task_id}", params={"wait": 15}))
    await asyncio.sleep(0.1)  # by now it has looked, found nothing, and waits
    assert not waiting.done()
    clock.forward(JOB_SECONDS * 2)
    await sandbox.deliver_due()
    task = (await waiting).json()
    assert (task["state"], task["outcome_source"]) == ("succeeded", "callback")
    return asyncio.get_running_loop().time() - began


async def test_a_purchase_under_way_ends_in_order_before_the_process_does(database_url: str, tmp_path: Path) -> None:
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
        with Troupe() as troupe:
            await started(troupe, served)
            async with client_of(served) as client, asyncio.timeout(PATIENCE):
                task_id = await submit(client)
                await came.wait()
            assert served.process is not None
            served.process.send_signal(signal.SIGTERM)
            await until(lambda: door_is_shut(served))
            with pytest.raises(TimeoutError):  # it takes 0.1 s from the shut door to the work under way
                await asyncio.wait_for(hung_up.wait(), 0.3)
            assert served.alive
            answer.set()
            assert await asyncio.to_thread(served.process.wait, PATIENCE) == 0
            await started(troupe, served)
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


async def run(folder: Path, database_url: str, *arguments: str) -> tuple[int, str, str]:
    """Run a command to its end: its exit code, and what it said."""
    (port,) = free_ports(1)
    settings = {"DOVECOTE_DATABASE_URL": database_url, "DOVECOTE_PORT": str(port)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service.cli", *arguments),
        cwd=folder,
        env={**clean_environment(), **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, said = await asyncio.wait_for(process.communicate(), PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), said.decode()


async def test_a_database_that_nobody_has_migrated_is_refused(empty_postgresql_url: str, tmp_path: Path) -> None:
    code, _, said = await run(tmp_path, empty_postgresql_url, "serve")
    assert code == exits.UNAVAILABLE
    assert "run `dovecote migrate`" in said
    assert "Traceback" not in said


async def test_two_may_migrate_at_once(empty_postgresql_url: str, tmp_path: Path) -> None:
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


async def test_a_database_out_of_reach_is_said(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    code, _, said = await run(tmp_path, f"postgresql://dovecote:hunter2@{LOOPBACK}:{port}/dovecote", "serve")
    assert code == exits.UNAVAILABLE
    assert "the database does not answer" in said
    assert "hunter2" not in said


async def test_a_sqlite_database_is_for_one_process(sqlite_url: str, tmp_path: Path) -> None:
    served = dovecote(tmp_path, sqlite_url, "http://127.0.0.1:9")
    with Troupe() as troupe:
        await started(troupe, served)
        for command in ("serve", "migrate"):
            code, _, said = await run(tmp_path, sqlite_url, command)
            assert code == exits.UNAVAILABLE
            assert "another Dovecote process has" in said
            assert "stop the other one, or use PostgreSQL" in said
        assert await asyncio.to_thread(served.ready)
