"""Fail-over of a replicated PostgreSQL under load: three nodes with Patroni, whose primary is killed, frozen and cut off.

Dovecote recovers by itself, and no acknowledged task or callback is lost. It is skipped where etcd, HAProxy, PostgreSQL or
Patroni is not installed: see deploy/ha/cluster.py.
"""

import asyncio
import contextlib
import importlib.util
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from service.cli.processes import ProcessGroup
from service.domain.callback_token import Tokens
from service.store.database import Database
from service.store.migrate import migrate
from tests.support.fleet import client_of, dovecote, with_sandboxes
from tests.support.processes import started
from tests.support.relay import Relay
from tests.support.values import new_id
from tests.support.waiting import LIMIT

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("patroni")]

SCRIPT = Path(__file__).parents[2] / "deploy/ha/cluster.py"
ANSWERED_WITHIN = 15.0
"""Seconds after the new primary accepts writes within which requests are answered again."""
PROMOTED_WITHIN = 120.0
"""Seconds within which another node takes over: Patroni's lease of 20 s, on a busy machine."""
HELD_BACK = 1.5
"""Seconds for which the primary acknowledges what no replica gets."""
IN_FLIGHT = 1.0
SECRET = "callback-secret-of-the-tests"
TASK = {"family": "runway", "operation": "text_to_video", "input": {"prompt": "[stuck] a dove", "duration": 5}}


def load_script() -> Any:
    spec = importlib.util.spec_from_file_location("ha_cluster", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ha_cluster"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


ha = load_script()


class Load:
    """Submits tasks and stores callbacks, and notes each acknowledgement with its time."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._tokens = Tokens(SECRET)
        self.tasks: dict[str, float] = {}
        self.callbacks: dict[str, float] = {}
        self.refused: dict[object, int] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        doing = [asyncio.create_task(each()) for each in [self._submit] * 2 + [self._call_back] * 2]
        try:
            yield
        finally:
            for task in doing:
                task.cancel()
            await asyncio.gather(*doing, return_exceptions=True)

    async def _submit(self) -> None:
        while True:
            answer = await self._post("/v1/tasks", json=TASK)
            if answer is not None and answer.status_code == 202:
                self.tasks[answer.json()["id"]] = time.monotonic()
            await asyncio.sleep(0.02)

    async def _call_back(self) -> None:
        while True:
            submission = new_id()
            answer = await self._post(f"/callbacks/{self._tokens.make(submission)}", content=b'{"status":"RUNNING"}')
            if answer is not None and answer.status_code == 200:
                self.callbacks[str(submission)] = time.monotonic()
            await asyncio.sleep(0.02)

    async def _post(self, path: str, **more: Any) -> httpx.Response | None:
        try:
            answer = await self._client.post(path, **more)
        except httpx.HTTPError as error:
            self._refuse(type(error).__name__)
            return None
        if answer.status_code not in {200, 202}:
            self._refuse(answer.status_code)
        return answer

    def _refuse(self, why: object) -> None:
        self.refused[why] = self.refused.get(why, 0) + 1

    async def both_after(self, moment: float) -> float:
        """Wait until a task and a callback are acknowledged that came after a moment; return when the later one was."""
        while True:
            firsts = [
                min((at for at in done.values() if at > moment), default=None) for done in (self.tasks, self.callbacks)
            ]
            if None not in firsts:
                return max(at for at in firsts if at is not None)
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def relayed(folder: Path, *, synchronous: bool) -> AsyncIterator[tuple[Any, dict[str, list[Relay]]]]:
    """Yield a cluster that is not started yet, with relays before the PostgreSQL of each node and between it and etcd."""
    async with contextlib.AsyncExitStack() as stack:
        nodes, relays = [], {}
        for number, name in enumerate(ha.NAMES):
            port, rest = 25441 + number, 28021 + number
            own = await stack.enter_async_context(Relay.running(port))
            to_etcd = await stack.enter_async_context(Relay.running(22389))
            relays[name] = [own, to_etcd]
            nodes.append(ha.Node(name, port, rest, own.port, to_etcd.port))
        yield ha.Cluster(folder, ha.Layout(tuple(nodes), 22389, 22390, 25440), synchronous=synchronous), relays


async def lost(url: str, load: Load) -> set[str]:
    """Return the tasks and callbacks acknowledged by now that are not in the database. The load may go on."""
    acknowledged_tasks, acknowledged_callbacks = set(load.tasks), set(load.callbacks)
    connection = await asyncpg.connect(url)
    try:
        tasks = {str(row[0]) for row in await connection.fetch("SELECT id FROM tasks")}
        callbacks = {str(row[0]) for row in await connection.fetch("SELECT submission_id FROM callbacks")}
    finally:
        await connection.close()
    return (acknowledged_tasks - tasks) | (acknowledged_callbacks - callbacks)


def cut(relays: list[Relay]) -> None:
    for each in relays:
        each.cut()


async def seconds_of(cluster: Any, relays: dict[str, list[Relay]], load: Load, fault: str) -> dict[str, object]:
    """Let a fault happen to the primary, and return the seconds until another one, and until requests are answered."""
    old = await asyncio.to_thread(cluster.primary)
    began = time.monotonic()
    if fault == "killed":
        await asyncio.to_thread(cluster.kill, old)
    elif fault == "frozen":
        cluster.signal(old, signal.SIGSTOP)
    else:
        cut(relays[old])
    async with asyncio.timeout(PROMOTED_WITHIN):
        while await asyncio.to_thread(cluster.primary, other_than=old) is None:  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.1)
    promoted = time.monotonic()
    async with asyncio.timeout(ANSWERED_WITHIN):
        # A request that was answered between the fault and the promotion was answered by the old primary.
        answered = await load.both_after(promoted)
    if fault == "killed":
        await asyncio.to_thread(cluster.start_node, old)
    elif fault == "frozen":
        cluster.signal(old, signal.SIGCONT)
    else:
        for each in relays[old]:
            each.mend()
    await asyncio.to_thread(cluster.wait_until_whole)
    return {
        "fault": fault,
        "new primary": round(promoted - began, 1),
        "answered": round(answered - promoted, 1),
        "whole again": round(time.monotonic() - answered, 1),
    }


@contextlib.asynccontextmanager
async def under_load(tmp_path: Path, *, synchronous: bool) -> AsyncIterator[tuple[Any, dict[str, list[Relay]], Load]]:
    """Yield a cluster with Dovecote and a load on it, whose first requests have been acknowledged."""
    folder = Path(tempfile.mkdtemp(prefix="dovecote-ha-", dir="/var/tmp"))
    async with relayed(folder / "cluster", synchronous=synchronous) as (cluster, relays):
        await asyncio.to_thread(folder.chmod, 0o755)
        try:
            await asyncio.to_thread(cluster.start)
            database = Database(cluster.layout.url)
            await migrate(database)
            await database.close()
            served = dovecote(tmp_path, cluster.layout.url, "one", **with_sandboxes(3600, elkapi="http://127.0.0.1:9"))
            with ProcessGroup() as group:
                await started(group, served)
                async with client_of(served) as client:
                    load = Load(client)
                    async with load.running():
                        async with asyncio.timeout(LIMIT):
                            await load.both_after(0)
                        await asyncio.to_thread(cluster.wait_until_whole)
                        yield cluster, relays, load
        except (AssertionError, TimeoutError):
            sys.stdout.write(cluster.logs() + "\n")
            raise
        finally:
            await asyncio.to_thread(cluster.stop)
            shutil.rmtree(folder, ignore_errors=True)


def report(load: Load, **more: object) -> None:
    counts = {"tasks": len(load.tasks), "callbacks": len(load.callbacks), "refused": str(load.refused), **more}
    sys.stdout.write(json.dumps(counts) + "\n")


installed = pytest.mark.skipif(
    bool(ha.missing()), reason=f"not installed: {', '.join(ha.missing())}; see deploy/ha/cluster.py"
)


@installed
async def test_nothing_acknowledged_is_lost_when_the_primary_is_killed_frozen_or_cut_off(tmp_path: Path) -> None:
    async with under_load(tmp_path, synchronous=True) as (cluster, relays, load):
        for fault in ("killed", "frozen", "cut off"):
            measured = await seconds_of(cluster, relays, load, fault)
            sys.stdout.write(json.dumps(measured) + "\n")
        assert await lost(cluster.layout.proxied_url, load) == set()
        report(load)


@installed
async def test_without_synchronous_replication_only_what_no_replica_had_is_lost(tmp_path: Path) -> None:
    """The replication is held back, and then the primary is lost, as when a machine dies behind a slow network."""
    async with under_load(tmp_path, synchronous=False) as (cluster, relays, load):
        old = await asyncio.to_thread(cluster.primary)
        held_at = time.monotonic()
        cluster.hold_replication(old)
        async with asyncio.timeout(LIMIT):
            # Acknowledged by the primary alone.
            await load.both_after(held_at + HELD_BACK)
        measured = await seconds_of(cluster, relays, load, "killed")
        missing = await lost(cluster.layout.proxied_url, load)
        acknowledged = load.tasks | load.callbacks
        report(load, lost=len(missing), after_the_hold=sum(at > held_at for at in acknowledged.values()), **measured)
        assert missing, "a replica had everything: the replication was not held back"
        # What was on its way to the replicas when they were held back may be there or not.
        assert min(acknowledged[each] for each in missing) > held_at - IN_FLIGHT
        assert (await load.both_after(time.monotonic())) > held_at
