"""Odd servers over real sockets, through each of the three clients. Everything that curl accepts is accepted."""

import asyncio
import contextlib
import errno
import os
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import brotli
import httpx
import pytest

from service.http.client import Answer, AnswerTooLarge, Http, build, post_briefly, send
from service.http.reasons import is_local, reason_of
from service.http.ssrf.guard import Guard
from service.http.ssrf.policy import Rules
from service.http.transport import NEVER_SENT
from tests.support.breakage import Handle, Server, answering, hang, http, request_of, reset
from tests.support.odd_responses import BODY, CHUNKED, OK, WHOLE, sized

SOON = 0.3
KINDS = ["purchases", "questions", "messages"]


@contextlib.asynccontextmanager
async def clients() -> AsyncIterator[Http]:
    opened = Http.real(Guard(Rules(private=True)))
    try:
        yield opened
    finally:
        await opened.close()


async def ask(opened: Http, kind: str, url: str, *, read_timeout: float = 5.0, limit: int = 100_000) -> Answer:
    client: httpx.AsyncClient = getattr(opened, kind)
    request = build(client, "POST", url, headers={}, content=b"{}", read_timeout=read_timeout)
    return await send(client, request, limit=limit)


async def test_odd_response_is_read_by_every_client() -> None:
    read: dict[tuple[str, str], tuple[int, bytes]] = {}
    async with clients() as opened:
        for oddity, data in WHOLE.items():
            async with Server.running(answering(data)) as server:
                for kind in KINDS:
                    answer = await ask(opened, kind, server.url)
                    read[oddity, kind] = (answer.status, answer.body)
    assert read == dict.fromkeys(read, (200, BODY))


async def answer_before_reading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Refuse a large request as servers do: answer after its first bytes, and reset the connection."""
    await reader.read(1000)
    writer.write(http("413 Too Large", BODY))
    await writer.drain()
    await asyncio.sleep(0.05)
    await reset(reader, writer)


async def test_answer_before_the_end_of_a_large_request_is_read() -> None:
    async with clients() as opened, Server.running(answer_before_reading) as server:
        client = opened.purchases
        large = build(client, "POST", server.url, headers={}, content=bytes(30_000_000), read_timeout=5.0)
        answer = await send(client, large)
    assert (answer.status, answer.body) == (413, BODY)


LONG = OK + b"Content-Length: 100\r\n\r\n" + BODY
BROKEN_OFF: dict[str, tuple[Handle, bytes]] = {
    "a body shorter than stated": (answering(LONG), BODY),
    "a reset after the body": (answering(LONG, then=reset), BODY),
    "a hang after the body": (answering(LONG, then=hang), BODY),
    "chunks without the last": (answering(CHUNKED + b"a\r\n" + BODY + b"\r\n"), BODY),
    "a chunk size that is no number": (answering(CHUNKED + b"a\r\n" + BODY + b"\r\nzz\r\n"), BODY),
    "half of the headers": (answering(OK + b"X-A: b\r\n"), b""),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", BROKEN_OFF)
async def test_broken_answer_keeps_the_part_that_arrived(how: str, kind: str) -> None:
    handle, body = BROKEN_OFF[how]
    async with clients() as opened, Server.running(handle) as server:
        if not body and kind == "questions":
            with pytest.raises(httpx.TransportError):
                await ask(opened, kind, server.url, read_timeout=SOON)
            return
        answer = await ask(opened, kind, server.url, read_timeout=SOON)
    assert (answer.status, answer.body) == (200, body)
    assert isinstance(answer.failure, httpx.TransportError)
    assert not isinstance(answer.failure, NEVER_SENT)


AFTER_THE_STATUS_LINE: dict[str, Handle] = {
    "nothing more": answering(b"HTTP/1.1 202 Accepted\r\n"),
    "a reset": answering(b"HTTP/1.1 202 Accepted\r\nX-A: b\r\n", then=reset),
    "a hang in the headers": answering(b"HTTP/1.1 202 Accepted\r\nX-A", then=hang),
    "a hang in the body": answering(b"HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\nx", then=hang),
    "headers without end": answering(b"HTTP/1.1 202 Accepted\r\n" + b"X-A: b\r\n" * 400_000),
    "a broken chunk": answering(b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
}


@pytest.mark.parametrize("what", AFTER_THE_STATUS_LINE)
async def test_status_line_decides_for_a_message(what: str) -> None:
    async with clients() as opened, Server.running(AFTER_THE_STATUS_LINE[what]) as server:
        answer = await post_briefly(
            opened.messages, server.url, headers={}, content=b"{}", total_timeout=SOON, limit=1000
        )
    assert answer.status == 202


@pytest.mark.parametrize("kind", KINDS)
async def test_cookie_of_a_server_is_not_sent_back(kind: str) -> None:
    requests: list[bytes] = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            requests.append(await request_of(reader))
            writer.write(sized(BODY, b"Set-Cookie: session=secret; Path=/"))

    async with clients() as opened, Server.running(keep) as server:
        for _ in range(2):
            await ask(opened, kind, server.url)
    assert len(requests) == 2
    assert not any(b"cookie" in request.lower() for request in requests)


# ── request targets ────────────────────────────────────────────────────────────────────────────────────────────────

TARGETS = [
    "/",
    "/a%2Fb%7Ec%40d",
    "/a%2fb",
    "/%41",
    "/a/../b/./c//d",
    "/?",
    "/?a=1&a=2&&b",
    "/?q=%20+%2B",
    "/a;b=c,d'e(f)*!$&=:@",
    '/[x]{y}|^`"<>',
    "/a?b?c/d",
    "/%",
    "/%zz?%",
    "/?sig=aGVsbG8%3D&x=a/b+c==",
    "/~user",
    "?a=%7E",
]


async def test_request_target_is_sent_byte_by_byte() -> None:
    sent: dict[str, list[str]] = {}

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await request_of(reader)
            targets.append(request.split(b" ")[1].decode())
            writer.write(sized(BODY))

    async with clients() as opened, Server.running(keep) as server:
        for target in TARGETS:
            targets = sent[target] = []
            for kind in KINDS:
                await ask(opened, kind, server.url + target)
    expected = {target: [target if target.startswith("/") else f"/{target}"] * 3 for target in TARGETS}
    assert sent == expected


async def test_target_that_is_not_ascii_is_percent_encoded() -> None:
    targets: list[bytes] = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        targets.append((await request_of(reader)).split(b" ")[1])
        writer.write(sized(BODY))

    async with clients() as opened, Server.running(keep) as server:
        for kind in KINDS:
            await ask(opened, kind, server.url + "/ü?q=鳩")
    assert targets == [b"/%C3%BC?q=%E9%B3%A9"] * 3


@pytest.mark.parametrize("kind", ["purchases", "questions"])
@pytest.mark.parametrize("target", ["/a\r\nX: y", "/a\tb", "/\x00"])
async def test_target_with_a_control_character_is_never_sent(kind: str, target: str) -> None:
    async with clients() as opened, Server.running(answering(sized(BODY))) as server:
        with pytest.raises((*NEVER_SENT, httpx.InvalidURL)):
            await ask(opened, kind, server.url + target)
        assert server.connections == 0


@pytest.mark.parametrize("kind", ["purchases", "questions"])
async def test_header_with_a_line_break_is_never_sent(kind: str) -> None:
    async with clients() as opened, Server.running(answering(sized(BODY))) as server:
        client = getattr(opened, kind)
        request = build(client, "GET", server.url, headers={"X-A": "b\r\nX-C: d"}, read_timeout=5)
        with pytest.raises(NEVER_SENT):
            await send(client, request)
        assert server.connections == 0


# ── failures ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "answer",
    [b"220 mail ESMTP\r\n", b"HTTP/1.1 99999 x\r\n\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b""],
    ids=["no HTTP", "a status of five digits", "a broken chunk", "nothing"],
)
async def test_failure_names_no_url(kind: str, answer: bytes) -> None:
    async with clients() as opened, Server.running(answering(answer)) as server:
        url = f"{server.url}/canary-path?secret=canary-query"
        try:
            failure: BaseException | None = (await ask(opened, kind, url)).failure
        except httpx.TransportError as error:
            failure = error
    assert failure is not None
    seen: list[str] = []
    while failure is not None:
        seen += [str(failure), repr(failure)]
        failure = failure.__cause__ or failure.__context__
    assert "canary" not in "".join(seen)
    assert "127.0.0.1" not in "".join(seen)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
@pytest.mark.parametrize("kind", ["purchases", "messages"])
async def test_lack_of_descriptors_is_no_fault_of_the_other_side(
    monkeypatch: pytest.MonkeyPatch, kind: str, number: int
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("aiohappyeyeballs.start_connection", fail)
    async with clients() as opened:
        with pytest.raises(httpx.PoolTimeout):
            await ask(opened, kind, "http://127.0.0.1:1/")


def test_reason_names_no_address() -> None:
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('10.1.2.3', 443)")
    assert reason_of(refused) == "Connection refused"
    outer = httpx.ConnectError("hooks.internal")
    outer.__cause__ = refused
    assert reason_of(outer) == "Connection refused"
    assert not is_local(outer)


# ── compression ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
async def test_compressed_answer_is_unpacked_with_any_header(kind: str) -> None:
    gzip = zlib.compressobj(wbits=31)
    packed = gzip.compress(BODY) + gzip.flush()
    cases = {
        "no header": sized(packed),
        "the right header": sized(packed, b"Content-Encoding: gzip"),
        "another header": sized(packed, b"Content-Encoding: br"),
        "two layers": sized(zlib.compress(packed), b"Content-Encoding: gzip, deflate"),
        "a header and a plain body": sized(BODY, b"Content-Encoding: gzip"),
        "brotli": sized(brotli.compress(BODY), b"Content-Encoding: br"),
        "in the transfer coding": OK
        + b"Transfer-Encoding: gzip, chunked\r\n\r\n%x\r\n" % len(packed)
        + packed
        + b"\r\n0\r\n\r\n",
    }
    read = {}
    async with clients() as opened:
        for case, data in cases.items():
            async with Server.running(answering(data)) as server:
                read[case] = (await ask(opened, kind, server.url)).body
    assert read == dict.fromkeys(cases, BODY)


async def test_compression_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = sized(brotli.compress(bytes(30_000_000)), b"Content-Encoding: br")
    async with clients() as opened, Server.running(answering(bomb)) as server:
        tracemalloc.start()
        try:
            with pytest.raises(AnswerTooLarge):
                await ask(opened, "purchases", server.url)
            assert tracemalloc.get_traced_memory()[1] < 3_000_000
        finally:
            tracemalloc.stop()
