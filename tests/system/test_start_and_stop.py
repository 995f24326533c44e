"""Start and stop of a server: signals at every moment, addresses, ports, and work that does not end in time."""

import asyncio
import contextlib
import dataclasses
import json
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.cli import exits
from service.cli.listening import listen, raise_descriptor_limit
from service.cli.processes import LOOPBACK, ProcessGroup, Served, free_ports
from tests.support.breakage import Server, request_of
from tests.support.processes import client_of, dovecote, started, submit, task_in, until

pytestmark = pytest.mark.xdist_group("demo")

LIMIT = 60.0
"""Seconds after which a test that waits for a process has failed."""


@contextlib.asynccontextmanager
async def silent_upstream() -> AsyncIterator[tuple[Server, asyncio.Event]]:
    """Run an upstream that accepts a purchase and never answers."""
    came = asyncio.Event()

    async def think(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        came.set()
        await reader.read()
        writer.close()

    async with Server.running(think) as upstream:
        yield upstream, came


def with_settings(served: Served, *arguments: str, **settings: str) -> Served:
    environment = {**served.environment, **settings}
    return dataclasses.replace(served, arguments=(*served.arguments, *arguments), environment=environment)


async def ended(served: Served) -> int:
    assert served.process is not None
    return await asyncio.to_thread(served.process.wait, LIMIT)


def signalled(served: Served, number: signal.Signals = signal.SIGTERM) -> None:
    assert served.process is not None
    served.process.send_signal(number)


@pytest.mark.parametrize(
    ("storage", "code"),
    [
        pytest.param("file://{folder}/in-the-way/objects", exits.UNAVAILABLE, id="folder away"),
        pytest.param("s3://", exits.SETTINGS, id="mistake", marks=pytest.mark.long),
    ],
)
async def test_start_without_storage_ends_with_a_code_that_tells_whether_to_try_again(
    tmp_path: Path, storage: str, code: int
) -> None:
    (tmp_path / "in-the-way").write_text("")
    served = dovecote(tmp_path, f"sqlite:///{tmp_path}/dovecote.db", "http://127.0.0.1:9")
    served = with_settings(served, DOVECOTE_STORAGE__URL=storage.format(folder=tmp_path))
    with ProcessGroup() as group:
        group.start(served)
        assert await ended(served) == code


@pytest.mark.long
async def test_submit_that_outlives_the_shutdown_timeout_becomes_unconfirmed(database_url: str, tmp_path: Path) -> None:
    async with silent_upstream() as (upstream, came):
        served = with_settings(dovecote(tmp_path, database_url, upstream.url), DOVECOTE_SHUTDOWN_TIMEOUT="1")
        with ProcessGroup() as group:
            await started(group, served)
            async with client_of(served) as client, asyncio.timeout(LIMIT):
                task_id = await submit(client)
                await came.wait()
            signalled(served)
            assert await ended(served) == 0
            await started(group, served)
            async with client_of(served) as client:
                task = await task_in(client, task_id, "unconfirmed")
                events = (await client.get(f"/v1/tasks/{task_id}/events")).json()["events"]
    assert "Dovecote stopped before the answer arrived" in json.dumps([task, events])
    assert [event["type"] for event in events][:3] == ["accepted", "submitting", "unconfirmed"]
    assert upstream.connections == 1


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)],
    ids=["SIGTERM", "SIGINT"],
)
async def test_second_signal_ends_the_process_at_once(sqlite_url: str, tmp_path: Path, number: signal.Signals) -> None:
    async with silent_upstream() as (upstream, came):
        served = dovecote(tmp_path, sqlite_url, upstream.url)
        with ProcessGroup() as group:
            await started(group, served)
            async with client_of(served) as client, asyncio.timeout(LIMIT):
                await submit(client)
                await came.wait()
            signalled(served, number)

            async def stopping() -> bool:
                return "stopping role=all" in served.tail()

            await until(stopping)
            assert served.alive, "a purchase is in flight"
            signalled(served, number)
            assert await ended(served) == 128 + number
            assert "second signal" in served.tail()


@pytest.mark.long
async def test_signal_during_the_start_ends_the_process(empty_postgresql_url: str, tmp_path: Path) -> None:
    """A database that accepts connections and never answers delays the start."""

    async def frozen(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()

    connected = asyncio.Event()
    async with Server.running(frozen) as database:
        url = f"postgresql://me:word@{database.url.removeprefix('http://')}/name"
        served = dovecote(tmp_path, url, "http://127.0.0.1:1")
        with ProcessGroup() as group:
            group.start(served)
            async with asyncio.timeout(LIMIT):
                await connected.wait()
            signalled(served)
            assert await ended(served) == 0
            assert "Traceback" not in served.tail()
    del empty_postgresql_url


@pytest.mark.long
async def test_worker_needs_no_port(postgresql_url: str, tmp_path: Path) -> None:
    web = dovecote(tmp_path, postgresql_url, "http://127.0.0.1:1", "web")
    worker = dovecote(tmp_path, postgresql_url, "http://127.0.0.1:1", "worker")
    silent = dataclasses.replace(
        worker, environment={name: value for name, value in worker.environment.items() if name != "DOVECOTE_PORT"}
    )
    crowded = dataclasses.replace(
        worker, name="crowded", environment={**worker.environment, "DOVECOTE_PORT": str(web.port)}
    )
    with ProcessGroup() as group:
        await started(group, web)
        for each in (silent, crowded):
            group.start(each)

        async def both_started() -> bool:
            return all("started role=worker url=-" in each.tail() for each in (silent, crowded))

        await until(both_started)
        assert "port not available" in crowded.tail()
        assert "port not available" not in silent.tail()
        for each in (silent, crowded):
            signalled(each)
            assert await ended(each) == 0


@pytest.mark.long
async def test_command_line_names_host_and_port(sqlite_url: str, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    planned = dovecote(tmp_path, sqlite_url, "http://127.0.0.1:1")
    served = dataclasses.replace(
        with_settings(planned, "--host", LOOPBACK, "--port", str(port), DOVECOTE_HOST="203.0.113.7"), port=port
    )
    with ProcessGroup() as group:
        await started(group, served)
        async with client_of(served) as client:
            assert (await client.get("/healthz")).status_code == 200


def test_unspecified_ipv6_address_takes_ipv4_besides() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with listen("::", 0) as listener:
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, port), timeout=5):
                pass


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1"])  # noqa: S104
def test_listener_accepts_connections_at_its_address(host: str) -> None:
    with listen(host, 0) as listener:
        family = socket.AF_INET6 if host == "::1" else socket.AF_INET
        assert listener.family == family


@pytest.mark.parametrize("host", ["203.0.113.7", "nothing.invalid"])
def test_address_of_another_machine_is_an_os_error(host: str) -> None:
    with pytest.raises(OSError, match=r"."):
        listen(host, 0)


def test_soft_limit_of_descriptors_is_raised() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
        limit = raise_descriptor_limit()
        assert limit == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert limit > 256 or before[1] <= 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert os.getpid()


def long_poll(served: Served, task_id: str) -> socket.socket:
    """Connect, and send a request that waits for the end of a task. The system does both, whether the server runs or not."""
    connection = socket.create_connection((LOOPBACK, served.port), timeout=LIMIT)
    connection.sendall(f"GET /v1/tasks/{task_id}?wait=50 HTTP/1.1\r\nHost: {LOOPBACK}\r\n\r\n".encode())
    return connection


def answer_of(connection: socket.socket) -> tuple[int, Any]:
    """Read an answer: its status and its document."""
    with connection, contextlib.closing(HTTPResponse(connection)) as response:
        response.begin()
        return response.status, json.loads(response.read())


async def begun(served: Served) -> None:
    """Wait until the server has begun all requests that were sent before: it accepts connections in their order."""
    async with client_of(served) as latest:
        assert (await latest.get("/healthz")).status_code == 200


async def not_begun(_: Served) -> None:
    """Leave the requests in the backlog."""


@pytest.mark.parametrize("before", [begun, not_begun], ids=["begun", "in the backlog"])
@pytest.mark.long
async def test_request_that_waits_at_a_stop_gets_an_answer(
    sqlite_url: str, tmp_path: Path, before: Callable[[Served], Awaitable[None]]
) -> None:
    """A long poll ends with the task as it is."""
    served = dovecote(tmp_path, sqlite_url, "http://127.0.0.1:1")
    with ProcessGroup() as group:
        await started(group, served)
        async with client_of(served) as client:
            task_id = await submit(client)
            if before is not_begun:
                signalled(served, signal.SIGSTOP)
            waiting = [long_poll(served, task_id) for _ in range(5)]
            await before(served)
            signalled(served)
            signalled(served, signal.SIGCONT)
            answers = [await asyncio.to_thread(answer_of, each) for each in waiting]
        assert await ended(served) == 0
    assert [(status, task["id"]) for status, task in answers] == [(200, task_id)] * 5


@pytest.mark.long
async def test_request_after_a_stop_ends_with_a_connection_error(sqlite_url: str, tmp_path: Path) -> None:
    served = dovecote(tmp_path, sqlite_url, "http://127.0.0.1:1")
    with ProcessGroup() as group:
        await started(group, served)
        async with client_of(served) as client:
            assert (await client.get("/healthz")).status_code == 200
            signalled(served)
            assert await ended(served) == 0
            for _ in range(2):  # on the connection that was open, and on a new one
                with pytest.raises((httpx.NetworkError, httpx.RemoteProtocolError)):
                    await client.post("/v1/tasks", json={})
