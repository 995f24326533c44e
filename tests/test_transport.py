"""The transport over real sockets: what each way a connection can break says about whether a request was sent."""

import asyncio
import contextlib
import socket
import ssl
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from service.domain.errors import Unavailable, Uncertain, UpstreamError
from service.domain.task import State, Update
from service.flows.exchange import converse
from service.flows.http import NEVER_SENT, AiohttpTransport, AnswerTooLarge, Http, send
from service.flows.runtime import Runtime, upstreams_of
from service.flows.tokens import Tokens
from service.providers import DIALECTS
from service.store.batch import Writer
from service.store.database import Database
from tests.values import a_task
from tests.world import settings_for

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

ANSWER = b'{"code":200,"data":{"task_id":"7"}}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)


class Server:
    """A server that behaves as it is told, and counts its connections."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._at_work: set[asyncio.Task[Any]] = set()
        self.connections = 0
        self.url = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._at_work.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._handle(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, handle: Handle) -> AsyncIterator["Server"]:
        served = cls(handle)
        server = await asyncio.start_server(served._serve, "127.0.0.1", 0)
        served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield served
            for task in served._at_work:
                task.cancel()
            await asyncio.gather(*served._at_work)


async def request_of(reader: asyncio.StreamReader) -> bytes:
    """Read one whole request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), b"0"
    )
    return head + await reader.readexactly(int(length))


def answering(*pieces: bytes, then: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None) -> Handle:
    """Read a request, write some bytes, and close; or do something else then."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if then is not None:
            await then(writer)

    return handle


async def close_at_once(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Accept, and close before anything is read."""


async def reset(writer: asyncio.StreamWriter) -> None:
    connection: Any = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def reset_at_once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reset(writer)


async def hang(_: asyncio.StreamWriter) -> None:
    await asyncio.sleep(1)


async def never_answer(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await asyncio.wait_for(reader.read(), 1)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{'a':\r\n"
PERHAPS_SENT: dict[str, tuple[Handle, type[Exception]]] = {
    "accept and close": (close_at_once, httpx.NetworkError | httpx.RemoteProtocolError),  # type: ignore[dict-item]
    "accept and reset": (reset_at_once, httpx.NetworkError | httpx.RemoteProtocolError),  # type: ignore[dict-item]
    "close after the request": (answering(), httpx.RemoteProtocolError),
    "reset after the request": (answering(then=reset), httpx.ReadError),
    "close in the headers": (answering(HEAD[:20]), httpx.RemoteProtocolError),
    "close after the headers": (answering(HEAD), httpx.RemoteProtocolError),
    "close in the body": (answering(HEAD, ANSWER[:9]), httpx.RemoteProtocolError),
    "reset in the body": (answering(HEAD, ANSWER[:9], then=reset), httpx.ReadError),
    "close in a chunk": (answering(CHUNKED), httpx.RemoteProtocolError),
    "no HTTP": (answering(b"220 mail.example.com ESMTP\r\n"), httpx.RemoteProtocolError),
    "hang": (answering(then=hang), httpx.ReadTimeout),
    "hang in the body": (answering(HEAD, ANSWER[:9], then=hang), httpx.ReadTimeout),
    "broken compression": (
        answering(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"),
        httpx.DecodingError,
    ),
}


@contextlib.asynccontextmanager
async def client_of(transport: AiohttpTransport) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
        yield client


async def ask(client: httpx.AsyncClient, url: str, *, connect: float = 2.0, method: str = "POST") -> Any:
    timeout = httpx.Timeout(0.15, connect=connect)
    return await client.request(method, url, content=b'{"prompt":"a dove"}', timeout=timeout)


@pytest.mark.parametrize("how", PERHAPS_SENT)
async def test_after_these_the_request_may_have_arrived(how: str) -> None:
    handle, expected = PERHAPS_SENT[how]
    async with Server.running(handle) as server, client_of(AiohttpTransport(reuse=False)) as client:
        with pytest.raises(httpx.TransportError if how != "broken compression" else httpx.DecodingError) as raised:
            await ask(client, server.url)
    assert isinstance(raised.value, expected)
    assert not isinstance(raised.value, NEVER_SENT)


@contextlib.asynccontextmanager
async def nowhere(how: str) -> AsyncIterator[str]:
    """Give a URL at which no request can arrive."""
    if how == "refused":
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    elif how == "unresolvable":
        yield "http://nothing.invalid"
    elif how == "no such scheme":
        yield "gopher://127.0.0.1"
    else:
        answers = answering(HEAD, ANSWER) if how == "TLS with a plain server" else never_answer
        plain = close_at_once if how == "TLS cut short" else answers
        async with Server.running(plain) as server:
            yield server.url.replace("http://", "https://")


NOWHERE: dict[str, type[Exception]] = {
    "refused": httpx.ConnectError,
    "unresolvable": httpx.ConnectError,
    "no such scheme": httpx.UnsupportedProtocol,
    "TLS with a plain server": httpx.ConnectError,
    "TLS cut short": httpx.ConnectError,
    "TLS never answered": httpx.ConnectTimeout,
}


@pytest.mark.parametrize("how", NOWHERE)
async def test_after_these_it_is_certain_that_nothing_arrived(how: str) -> None:
    async with nowhere(how) as url, client_of(AiohttpTransport(reuse=False)) as client:
        with pytest.raises(NOWHERE[how]) as raised:
            await ask(client, url, connect=0.2)
    assert isinstance(raised.value, NEVER_SENT)


def test_certificates_are_verified() -> None:
    """By the library's own default, whatever the environment says."""
    context = httpx.create_ssl_context(trust_env=False)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


async def test_redirects_are_an_answer_like_any_other() -> None:
    moved = b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
    async with Server.running(answering(moved)) as server, client_of(AiohttpTransport(reuse=False)) as client:
        assert (await ask(client, server.url)).status_code == 301
        assert server.connections == 1


async def keep_answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await request_of(reader)
        writer.write(HEAD + ANSWER)


@pytest.mark.parametrize(("reuse", "connections"), [(True, 1), (False, 3)])
async def test_purchases_have_a_connection_each_and_questions_share(reuse: bool, connections: int) -> None:  # noqa: FBT001 - a column of the table
    async with Server.running(keep_answering) as server, client_of(AiohttpTransport(reuse=reuse)) as client:
        for _ in range(3):
            assert (await ask(client, server.url)).json() == {"code": 200, "data": {"task_id": "7"}}
        assert server.connections == connections


async def test_a_kept_connection_that_died_meanwhile_is_not_taken_for_a_refusal() -> None:
    """The server read the second request on the old connection before it broke: nobody can tell it from a lost answer."""

    async def answer_once_then_break(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(HEAD + ANSWER)
        await request_of(reader)

    async with Server.running(answer_once_then_break) as server, client_of(AiohttpTransport()) as client:
        assert (await ask(client, server.url)).status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(client, server.url)


async def test_a_kept_connection_that_was_closed_in_the_pause_is_replaced() -> None:
    async with Server.running(answering(HEAD, ANSWER)) as server, client_of(AiohttpTransport()) as client:
        for _ in range(3):
            assert (await ask(client, server.url)).status_code == 200
            await asyncio.sleep(0.01)
        assert server.connections == 3


# ── send: bounds ───────────────────────────────────────────────────────────────────────────────────────────────────


def compressed(size: int) -> bytes:
    body = zlib.compressobj(wbits=31)
    return body.compress(bytes(size)) + body.flush()


def with_body(body: bytes, *headers: bytes) -> bytes:
    lines = (b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers, b"", b"")
    return b"\r\n".join(lines) + body


GZIP = b"Content-Encoding: gzip"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (with_body(bytes(1000)), 1000),
        (with_body(bytes(1001)), AnswerTooLarge),
        (with_body(compressed(1000), GZIP), 1000),
        (with_body(compressed(1001), GZIP), AnswerTooLarge),
        (with_body(compressed(50_000_000), GZIP), AnswerTooLarge),
        (with_body(zlib.compress(bytes(1000)), b"Content-Encoding: deflate"), 1000),
        (with_body(b"", GZIP), 0),
        (with_body(compressed(9), b"Content-Encoding: br"), httpx.DecodingError),
    ],
)
async def test_an_answer_is_read_up_to_its_cap(answer: bytes, expected: Any) -> None:
    async with Server.running(answering(answer)) as server, client_of(AiohttpTransport(reuse=False)) as client:
        asked = send(client, "GET", server.url, headers={}, read_timeout=2, cap=1000)
        if isinstance(expected, int):
            assert len((await asked).body) == expected
        else:
            with pytest.raises(expected):
                await asked


async def drip(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"1\r\n \r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


async def test_an_answer_that_never_ends_is_given_up() -> None:
    endless = answering(CHUNKED, then=drip)
    async with Server.running(endless) as server, client_of(AiohttpTransport(reuse=False)) as client:
        with pytest.raises(httpx.ReadTimeout):
            await send(client, "GET", server.url, headers={}, read_timeout=2, total_timeout=0.15)


# ── what it means for a purchase ───────────────────────────────────────────────────────────────────────────────────


@contextlib.asynccontextmanager
async def runtime_for(url: str) -> AsyncIterator[Runtime]:
    """Give a runtime with the real clients, whose one upstream is somewhere. Its database is never opened."""
    settings = settings_for("sqlite:///never-opened.db", DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL=url)
    database = Database(settings.database_url)
    http = Http.real(allow_private=True)
    try:
        yield Runtime(
            settings=settings,
            database=database,
            writer=Writer(database),
            http=http,
            tokens=Tokens("secret"),
            webhook_secret="",
            upstreams=upstreams_of(settings),
        )
    finally:
        await http.close()


async def outcome(url: str, *, creating: bool) -> Update | UpstreamError:
    task = a_task(state=State.SUBMITTED, external_id="7", input={"prompt": "a dove", "duration": 5})
    dialect = DIALECTS["runway/aggregator"]
    exchange = dialect.submit(task, None) if creating else dialect.poll(task)
    async with runtime_for(url) as runtime:
        try:
            return await converse(runtime, runtime.upstreams["elkapi"], dialect, exchange)
        except UpstreamError as error:
            return error


@pytest.mark.parametrize("how", [how for how in PERHAPS_SENT if "hang" not in how])
async def test_a_purchase_that_may_have_arrived_is_uncertain_and_a_question_is_asked_again(how: str) -> None:
    async with Server.running(PERHAPS_SENT[how][0]) as server:
        assert type(await outcome(server.url, creating=True)) is Uncertain
        assert type(await outcome(server.url, creating=False)) is Unavailable


@pytest.mark.parametrize("how", ["refused", "unresolvable", "TLS with a plain server", "TLS cut short"])
async def test_a_purchase_that_never_left_may_be_tried_again(how: str) -> None:
    async with nowhere(how) as url:
        error = await outcome(url, creating=True)
    assert type(error) is Unavailable
    assert "sandbox-key" not in str(error)


async def test_a_purchase_that_is_redirected_is_uncertain() -> None:
    moved = b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    async with Server.running(answering(moved)) as server:
        assert type(await outcome(server.url, creating=True)) is Uncertain


async def test_a_purchase_that_is_answered_has_an_id() -> None:
    async with Server.running(answering(HEAD, ANSWER)) as server:
        update = await outcome(server.url, creating=True)
    assert isinstance(update, Update)
    assert update.external_id == "7"
