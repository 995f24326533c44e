"""The transport over real sockets: each kind of broken connection shows whether the request was sent."""

import asyncio
import contextlib
import ssl
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.http.client import AnswerTooLarge, Http, build, send
from service.http.single import SingleTransport
from service.http.ssrf.guard import Guard
from service.http.ssrf.policy import Rules
from service.http.transport import NEVER_SENT, PooledTransport
from tests.support.breakage import ANSWER, CHUNKED, HEAD, NOWHERE, PERHAPS_SENT, Server, answering, nowhere, request_of
from tests.support.waiting import LIMIT


@contextlib.asynccontextmanager
async def client_of(transport: httpx.AsyncBaseTransport) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
        yield client


SOON = 0.15
"""Seconds until silence counts, where a server is silent."""


async def ask(client: httpx.AsyncClient, url: str, *, connect: float = LIMIT, read: float = LIMIT) -> Any:
    timeout = httpx.Timeout(LIMIT, connect=connect, read=read)
    return await client.post(url, content=b'{"prompt":"a dove"}', timeout=timeout)


@pytest.mark.parametrize("how", PERHAPS_SENT)
async def test_failure_after_the_request_was_written_is_perhaps_sent(how: str) -> None:
    handle, expected = PERHAPS_SENT[how]
    async with Server.running(handle) as server, client_of(SingleTransport()) as client:
        with pytest.raises(httpx.TransportError) as raised:
            await ask(client, server.url, read=SOON if "hang" in how else LIMIT)
    assert isinstance(raised.value, expected)
    assert not isinstance(raised.value, NEVER_SENT)


@pytest.mark.parametrize("how", NOWHERE)
async def test_failure_before_the_request_was_written_is_never_sent(how: str) -> None:
    async with nowhere(how) as url, client_of(SingleTransport()) as client:
        with pytest.raises(NOWHERE[how]) as raised:
            await ask(client, url, connect=SOON if "never" in how else LIMIT)
    assert isinstance(raised.value, NEVER_SENT)


def test_certificates_are_verified() -> None:
    """The library verifies by default, independent of the environment."""
    context = httpx.create_ssl_context(trust_env=False)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


async def test_redirect_is_returned_as_an_answer() -> None:
    moved = b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
    async with Server.running(answering(moved)) as server, client_of(SingleTransport()) as client:
        assert (await ask(client, server.url)).status_code == 301
        assert server.connections == 1


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Server.running(answering(HEAD, ANSWER)) as canary, Server.running(answering(HEAD, ANSWER)) as server:
        for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(variable, canary.url)
            monkeypatch.setenv(variable.lower(), canary.url)
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("no_proxy", "")
        http = Http.real(Guard(Rules(private=True)))
        for client in (http.purchases, http.questions, http.messages):
            assert (await ask(client, server.url)).status_code == 200
        await http.close()
        assert (canary.connections, server.connections) == (0, 3)


async def keep_answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await request_of(reader)
        writer.write(HEAD + ANSWER)


@pytest.mark.parametrize(("errand", "connections"), [("questions", 1), ("purchases", 3), ("messages", 1)])
async def test_purchases_use_a_connection_each_and_the_others_share_one(errand: str, connections: int) -> None:
    http = Http.real(Guard(Rules(private=True)))
    async with Server.running(keep_answering) as server:
        for _ in range(3):
            assert (await ask(getattr(http, errand), server.url)).json() == {"code": 200, "data": {"task_id": "7"}}
        assert server.connections == connections
        await http.close()


async def test_request_on_a_broken_kept_connection_is_perhaps_sent() -> None:
    """The server read the second request before it closed the connection. This looks like a lost answer."""

    async def answer_once_then_break(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(HEAD + ANSWER)
        await request_of(reader)

    async with Server.running(answer_once_then_break) as server, client_of(PooledTransport()) as client:
        assert (await ask(client, server.url)).status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(client, server.url)


async def test_kept_connection_that_was_closed_is_replaced() -> None:
    async with Server.running(answering(HEAD, ANSWER)) as server, client_of(PooledTransport()) as client:
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
        (with_body(b"", GZIP), 0),
        (with_body(b"raw", b"Content-Encoding: br"), 3),  # not requested; reading it fails
    ],
)
async def test_answer_is_read_up_to_its_limit(answer: bytes, expected: Any) -> None:
    async with Server.running(answering(answer)) as server, client_of(SingleTransport()) as client:
        asked = send(client, build(client, "GET", server.url, headers={}, read_timeout=LIMIT), limit=1000)
        if isinstance(expected, int):
            assert len((await asked).body) == expected
        else:
            with pytest.raises(expected):
                await asked


async def test_compressed_answer_is_not_unpacked_beyond_its_limit() -> None:
    bomb = with_body(compressed(30_000_000), GZIP)
    async with Server.running(answering(bomb)) as server, client_of(SingleTransport()) as client:
        tracemalloc.start()
        try:
            with pytest.raises(AnswerTooLarge):
                await send(client, build(client, "GET", server.url, headers={}, read_timeout=LIMIT), limit=100_000)
            assert tracemalloc.get_traced_memory()[1] < 3_000_000
        finally:
            tracemalloc.stop()


async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"1\r\n \r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


async def test_endless_answer_ends_at_the_total_timeout() -> None:
    endless = answering(CHUNKED, then=drip)
    async with Server.running(endless) as server, client_of(SingleTransport()) as client:
        async with asyncio.timeout(LIMIT):
            request = build(client, "GET", server.url, headers={}, read_timeout=LIMIT)
            answer = await send(client, request, total_timeout=SOON)
    assert answer.status == 200
    assert isinstance(answer.failure, httpx.ReadTimeout)
