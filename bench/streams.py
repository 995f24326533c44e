"""Idle streams, measured: the memory that a server takes for each one that is open and waits."""

import asyncio
import contextlib
import functools
import gc
import resource
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import psutil  # type: ignore[import-untyped]
import uvloop

from bench import seeds
from bench.databases import Databases
from bench.servers import Server, free_port, running, uvicorn

MEASURED = ("bare ASGI", "dovecote, tasks", "dovecote, feed")
"""The contestants: an application that does nothing, streams of one task each, and streams of one feed."""
STREAMS = 1_000
WARM_UP = 100
"""Streams that are open before it is measured: what is loaded once is no stream's."""
SETTLE = 1.0
"""Seconds until memory is read."""
SPARE = 200
"""Files that a process has open besides its connections."""


def possible(wanted: int) -> int:
    """Return how many connections may be opened here: the limit of open files holds for the server, too."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(min(wanted, soft - SPARE - WARM_UP), 1)


def measure(contestant: str, databases: Databases, upstream_port: int, *, streams: int) -> float:
    """Start a server, open streams that nothing happens on, and give the bytes that it takes for each."""
    with _serving(contestant, databases, upstream_port, streams) as server:
        paths = _paths(contestant, streams + WARM_UP)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_grown(server, paths)) / streams


@contextlib.contextmanager
def _serving(contestant: str, databases: Databases, upstream_port: int, streams: int) -> Iterator[Server]:
    port = free_port()
    if contestant == MEASURED[0]:
        with running(uvicorn("bench.bare:app", port), {}, port=port) as server:
            yield server
        return
    fill = functools.partial(seeds.fill_dovecote, count=streams + WARM_UP)
    with databases.copy("sqlite", "streams", fill) as url:
        command = [str(Path(sys.executable).with_name("dovecote")), "serve", "--role", "web"]
        environment = {
            "DOVECOTE_DATABASE_URL": url,
            "DOVECOTE_PORT": str(port),
            "DOVECOTE_API_KEYS": f"bench={seeds.API_KEY}",
            "DOVECOTE_LOG_LEVEL": "warning",
            "DOVECOTE_MAX_STREAMS": str(streams + WARM_UP),
            "ELKAPI_KEY": "stand-in-key",
            "DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL": f"http://127.0.0.1:{upstream_port}",
        }
        with running(command, environment, port=port) as server:
            yield server


def _paths(contestant: str, count: int) -> list[str]:
    if contestant == "dovecote, tasks":
        return [f"/v1/tasks/{seed.task_id}/stream" for seed in seeds.seeds(count)]
    return ["/v1/events/stream"] * count


async def _grown(server: Server, paths: Sequence[str]) -> float:
    process = psutil.Process(server.pid)
    warm = await _open(server.port, paths[:WARM_UP])
    await asyncio.sleep(SETTLE)
    before = process.memory_info().rss
    idle = await _open(server.port, paths[WARM_UP:])
    await asyncio.sleep(SETTLE)
    grown = float(process.memory_info().rss - before)
    if any(each.closed for each in (*warm, *idle)):
        raise RuntimeError("a stream was closed")
    for each in (*warm, *idle):
        each.transport.close()
    return grown


class _Stream(asyncio.Protocol):
    """Opens a stream, and reports when it is open."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._received = b""
        self.opened = asyncio.get_running_loop().create_future()
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self.opened.done():
            return
        self._received += data
        if b"\r\n\r\n" in self._received:
            ok = self._received.startswith(b"HTTP/1.1 200 ")
            self.opened.set_result(None) if ok else self.opened.set_exception(RuntimeError(repr(self._received)))

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.closed = True
        if not self.opened.done():
            self.opened.set_exception(RuntimeError("a stream was refused"))


async def _open(port: int, paths: Sequence[str]) -> list[_Stream]:
    loop = asyncio.get_running_loop()
    opened = []
    for path in paths:
        request = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: client/1.0\r\n"
            f"Authorization: Bearer {seeds.API_KEY}\r\nAccept: text/event-stream\r\n\r\n"
        ).encode()
        _, stream = await loop.create_connection(functools.partial(_Stream, request), "127.0.0.1", port)
        await stream.opened
        opened.append(stream)
    gc.collect()
    return opened
