"""The server protocol over real sockets: idle and dripping clients are disconnected, slow ones are served, on both ports."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest
import uvicorn

from service.app import application, callback_application
from service.cli.serve import _server
from service.flows.signals.local import Signals
from service.web import request_body, server_protocol
from tests.support.clients import ALICE
from tests.support.provider_callbacks import callback_body, submitted_task
from tests.support.serving import served
from tests.support.waiting import LIMIT
from tests.support.world import World

SHORT = 0.15
"""The length of a second in these tests."""


@pytest.fixture
async def world(sqlite_url: str) -> AsyncIterator[World]:
    async with World.opened(sqlite_url) as opened:
        yield opened


@pytest.fixture
async def port(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(server_protocol, "HEAD_TIMEOUT", SHORT)
    monkeypatch.setattr(server_protocol, "WRITE_TIMEOUT", SHORT)
    monkeypatch.setattr(request_body, "MAX_PAUSE", SHORT)
    async with served(application(world.context)) as number:
        yield number


class Line:
    """A connection that is written and read byte for byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.began = asyncio.get_running_loop().time()

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, port: int) -> AsyncIterator["Line"]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def drip(self, *pieces: bytes, every: float = SHORT / 5) -> None:
        """Send pieces one after another, and repeat the last, until the server closes the connection."""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                await self._send(piece, every)
            while not self.reader.at_eof():
                await self._send(pieces[-1], every)

    async def _send(self, piece: bytes, every: float) -> None:
        self.writer.write(piece)
        await self.writer.drain()
        await asyncio.sleep(every)

    async def rest(self) -> bytes:
        """Read until the server closes the connection, or resets it because of further data."""
        said = bytearray()
        with contextlib.suppress(ConnectionError):
            while piece := await asyncio.wait_for(self.reader.read(65536), LIMIT):
                said += piece
        return bytes(said)

    @property
    def held(self) -> float:
        return asyncio.get_running_loop().time() - self.began


async def until_let_go(line: Line, *pieces: bytes) -> bytes:
    """Send bytes slowly until the server closes the connection. Return its answer."""
    dripping = asyncio.create_task(line.drip(*pieces))
    said = await line.rest()
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)
    assert line.held < LIMIT
    return said


HEAD = b"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("pieces", "answer"),
    [
        ((), b"408"),
        ((b"\r\n",), b"408"),
        ((b"G",), b"4"),
        ((HEAD, b"X: 1\r\n"), b"408"),
        ((HEAD + b"X-Long: ", b"x"), b"408"),
    ],
    ids=["nothing", "empty lines", "no end of a method", "a header at a time", "a byte at a time"],
)
async def test_unfinished_head_times_out(port: int, pieces: tuple[bytes, ...], answer: bytes) -> None:
    async with Line.to(port) as line:
        said = await (until_let_go(line, *pieces) if pieces else line.rest())
        assert said.split()[1].startswith(answer), said
        assert line.held > SHORT * 0.9 or answer == b"4"


@pytest.mark.parametrize("endless", [b"X: " + b"y" * 8000 + b"\r\n", b"y" * 8000], ids=["headers", "one header"])
async def test_large_head_is_refused(port: int, monkeypatch: pytest.MonkeyPatch, endless: bytes) -> None:
    monkeypatch.setattr(server_protocol, "HEAD_TIMEOUT", LIMIT)
    async with Line.to(port) as line:
        line.writer.write(HEAD + b"X-Long: ")
        said = await until_let_go(line, endless)
        assert said.startswith(b"HTTP/1.1 431 ")


async def test_large_overhead_of_a_body_is_refused(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunk extensions and trailers are outside the body. The body's limit does not count them."""
    monkeypatch.setattr(request_body, "MAX_PAUSE", LIMIT)
    for endless in (b"1;" + b"x" * 9000 + b"\r\na\r\n", b"0\r\n" + b"X: " + b"y" * 9000 + b"\r\n"):
        async with Line.to(port) as line:
            line.writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
            dripping = asyncio.create_task(line.drip(endless, endless[3:], every=0.001))
            await line.rest()
            dripping.cancel()
            assert line.held < LIMIT / 2


async def test_missing_body_times_out(port: int) -> None:
    for framing in (b"Content-Length: 100\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"):
        async with Line.to(port) as line:
            line.writer.write(HEAD + framing)
            said = await line.rest()
            assert said.startswith(b"HTTP/1.1 408 ")
            assert b'"code":"too_slow"' in said
            assert b"connection: close" in said.lower()
            assert line.held > SHORT * 0.9


async def test_unfinished_body_times_out(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "MAX_DURATION", SHORT * 3)
    async with Line.to(port) as line:
        line.writer.write(HEAD + b"Content-Length: 100000\r\n\r\n")
        said = await until_let_go(line, b" ")
        assert b'"code":"too_slow"' in said
        assert line.held > SHORT * 2.5


async def test_slow_or_large_callback_is_refused(world: World, port: int) -> None:
    _, path = await submitted_task(world)
    start = b"POST %s HTTP/1.1\r\nHost: x\r\n" % path.encode()
    async with Line.to(port) as line:
        line.writer.write(start + b"Content-Length: 100\r\n\r\n{")
        assert (await line.rest()).startswith(b"HTTP/1.1 408 ")
    async with Line.to(port) as line:
        line.writer.write(start + b"Content-Length: 2000000\r\n\r\n{")
        assert (await line.rest()).startswith(b"HTTP/1.1 413 ")
    async with Line.to(port) as line:
        line.writer.write(start + b"Transfer-Encoding: chunked\r\n\r\n")
        assert (await until_let_go(line, b"40000\r\n" + bytes(0x40000) + b"\r\n")).startswith(b"HTTP/1.1 413 ")


async def test_unread_body_is_not_buffered(port: int) -> None:
    """Each received byte resets the server's timer for idle connections."""
    async with Line.to(port) as line:
        line.writer.write(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        said = await until_let_go(line, b" ")
        assert said.startswith(b"HTTP/1.1 404 ")


async def test_unread_answer_closes_the_connection(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_protocol, "WRITE_TIMEOUT", SHORT)
    ended = asyncio.Event()

    async def endless(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _piece in range(1000):
            await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
        ended.set()

    async with served(endless) as port, Line.to(port) as line:
        line.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        line.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.wait_for(ended.wait(), LIMIT)
        line.reader._transport.resume_reading()  # type: ignore[attr-defined]
        said = await line.rest()
    assert len(said) < 1000 << 16


async def test_slow_client_is_served(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "MAX_PAUSE", SHORT * 4)
    body = b'{"family": "runway", "operation": "text_to_video", "input": {"prompt": "a slow dove"}}'
    async with Line.to(port) as line:
        await line._send(HEAD[:20], SHORT / 4)
        await line._send(HEAD[20:] + b"Content-Length: %d\r\n\r\n" % len(body), SHORT)
        for place in range(0, len(body), 30):
            await line._send(body[place : place + 30], SHORT / 2)
        head = await asyncio.wait_for(line.reader.readuntil(b"\r\n\r\n"), LIMIT)
        assert head.startswith(b"HTTP/1.1 202 ")
        assert line.held > SHORT * 2


async def test_idle_connection_is_kept_alive(port: int) -> None:
    """The timer of the request head does not run between requests. Only uvicorn's keep-alive timer does."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        for _ in range(3):
            assert (await client.get("/healthz")).status_code == 200
            await asyncio.sleep(SHORT * 1.2)
        pool: Any = client._transport
        assert len(pool._pool.connections) == 1


async def test_waiting_request_is_not_cut(world: World, port: int) -> None:
    task = await world.submit()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        answer = await client.get(f"/v1/tasks/{task.id}", params={"wait": 1})
    assert (answer.status_code, answer.json()["state"]) == (200, "queued")


# ── a port for callbacks alone ─────────────────────────────────────────────────────────────────────────────────────


async def test_each_port_serves_its_routes_only(sqlite_url: str) -> None:
    async with World.opened(sqlite_url, DOVECOTE_CALLBACK_PORT="0") as world:
        task, path = await submitted_task(world)
        app, alone = application(world.context), callback_application(world.context)
        async with served(app) as port, served(alone) as callback_port, httpx.AsyncClient(trust_env=False) as client:
            main, door = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{callback_port}"
            assert (await client.post(f"{main}{path}", content=callback_body(task))).status_code == 404
            for closed in ("/", "/docs", "/openapi.json", "/readyz", "/v1/tasks", f"/v1/tasks/{task.id}", "/callbacks"):
                for method in ("GET", "POST", "PUT", "DELETE", "PATCH"):
                    answer = await client.request(method, f"{door}{closed}")
                    assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), (method, closed)
                    assert "docs" not in answer.text
            assert (await client.get(f"{door}{path}")).status_code == 405
            assert (await client.get(f"{main}{path}")).status_code == 404
            assert (await client.get(f"{door}/healthz")).json() == {"status": "ok"}
            assert (await client.get(f"{main}/v1/tasks")).status_code == 200
            taken = await client.post(f"{door}{path}", content=callback_body(task))
            assert (taken.status_code, taken.json()) == (200, {"received": True})
            assert (await client.post(f"{door}/callbacks/{uuid4()}", content=b"{}")).status_code == 404
        await world.work()
        assert (await world.task(task)).state == "succeeded"


# ── headers ────────────────────────────────────────────────────────────────────────────────────────────────────────

ALWAYS = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/tasks", 200), ("/v1/tasks/x", 404), ("/v1/x", 404), ("/docs", 200), ("/openapi.json", 200), ("/healthz", 200), ("/", 307), ("/readyz", 200)],
)  # fmt: skip
async def test_every_answer_has_the_security_headers(world: World, path: str, status: int) -> None:
    answer = await world.client.get(path)
    assert answer.status_code == status
    assert {name: answer.headers.get_list(name) for name in ALWAYS} == {name: [value] for name, value in ALWAYS.items()}
    [policy] = answer.headers.get_list("content-security-policy")
    assert policy.startswith("default-src 'none';")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


async def test_internal_error_has_the_security_headers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(world.context.database, "reading", broken)
    answer = await world.client.get("/v1/tasks")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert {name: answer.headers.get(name) for name in ALWAYS} == ALWAYS


async def test_docs_page_allows_only_its_style(world: World) -> None:
    import base64
    import hashlib
    import re

    answer = await world.client.get("/docs")
    [style] = re.findall("<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in answer.headers["content-security-policy"]
    assert " style=" not in answer.text


def test_server_limits_match_the_documentation() -> None:
    config = _server(SimpleNamespace(), Signals()).config
    assert isinstance(config, uvicorn.Config)
    assert (
        config.http_protocol_class is server_protocol.HttpProtocol
        if config.loaded
        else config.http is server_protocol.HttpProtocol
    )
    assert (config.access_log, config.server_header, config.timeout_keep_alive) == (False, False, 75)
    assert (server_protocol.HEAD_TIMEOUT, server_protocol.WRITE_TIMEOUT, server_protocol.MAX_OVERHEAD) == (
        15,
        30,
        64 * 1024,
    )
    assert (request_body.MAX_PAUSE, request_body.MAX_DURATION) == (30, 300)


# ── trailers and idle connections ──────────────────────────────────────────────────────────────────────────────────


async def test_key_in_a_trailer_is_not_accepted(world: World) -> None:
    async with (
        World.opened(world.context.settings.database_url, DOVECOTE_API_KEYS=f"alice={ALICE}") as keyed,
        served(application(keyed.context)) as number,
        Line.to(number) as line,
    ):
        line.writer.write(
            b"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n"
            b"2\r\n{}\r\n0\r\nAuthorization: Bearer " + ALICE.encode() + b"\r\n\r\n"
        )
        assert (await line.rest()).startswith(b"HTTP/1.1 401 ")


async def test_header_of_the_next_request_is_read_after_a_trailer(world: World) -> None:
    async with (
        World.opened(world.context.settings.database_url, DOVECOTE_API_KEYS=f"alice={ALICE}") as keyed,
        served(application(keyed.context)) as number,
        Line.to(number) as line,
    ):
        chunked = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n"
        line.writer.write(chunked)
        line.writer.write(b"GET /v1/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n")
        line.writer.write(b"Authorization: Bearer " + ALICE.encode() + b"\r\n\r\n")
        assert b"HTTP/1.1 200 " in await line.rest()


@pytest.mark.parametrize("seconds", [75, 5])
def test_idle_connection_stays_open_for_the_keep_alive_setting(seconds: int) -> None:
    assert _server(SimpleNamespace(), Signals(), seconds).config.timeout_keep_alive == seconds


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/v1/tasks", b"200"),
        (b"http://localhost/v1/tasks", b"200"),
        (b"http://evil.example/v1/tasks", b"421"),
        (b"https://evil.example:8080/v1/tasks?limit=1", b"421"),
        (b"/v1/tasks?created_after=http://evil.example", b"422"),
    ],
)
async def test_host_of_an_absolute_target_wins_over_the_header(port: int, target: bytes, status: bytes) -> None:
    async with Line.to(port) as line:
        line.writer.write(b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % target)
        assert (await line.rest()).startswith(b"HTTP/1.1 " + status)
