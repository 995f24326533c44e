"""Connections that messages use again: when they are kept, when not, and what happens to a message on a dead one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from service.http import kept
from service.http.client import Answer, Http, post_briefly
from service.http.kept import Connection, KeptConnections
from service.http.ssrf.guard import Guard
from service.http.ssrf.policy import Rules
from tests.support.breakage import Server, http, request_of
from tests.support.certificates import Authority
from tests.support.waiting import LIMIT

OK = http("200 OK", b"taken")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ntaken\r\n0\r\n\r\n"


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Http]:
    clients = Http.real(Guard(Rules(private=True, http=True)))
    try:
        yield clients
    finally:
        await clients.close()


async def post(clients: Http, url: str, body: bytes = b"{}") -> Answer:
    return await post_briefly(clients.messages, url, headers={}, content=body, total_timeout=LIMIT, limit=10_000)


class Receiver:
    """Answers every request of a connection. It keeps the requests, and can close connections."""

    def __init__(self, answer: bytes = OK) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.answers_left = 10**9
        """Requests that are still answered. After those, a connection is closed without an answer."""
        self.ended = asyncio.Event()
        """A connection was closed by the client."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                self.requests.append(await request_of(reader))
            except asyncio.IncompleteReadError:
                self.ended.set()
                return
            if not self.answers_left:
                self.answers_left = 10**9
                return
            self.answers_left -= 1
            writer.write(self.answer)
            await writer.drain()


@pytest.mark.parametrize("answer", [OK, CHUNKED, b"HTTP/1.1 204 No Content\r\n\r\n"], ids=["sized", "chunked", "empty"])
async def test_messages_to_one_destination_share_a_connection(answer: bytes) -> None:
    receiver = Receiver(answer)
    async with Server.running(receiver.handle) as server, opened() as clients:
        for number in range(3):
            assert (await post(clients, f"{server.url}/{number}")).status in {200, 204}
    assert [request.split(b" ")[1] for request in receiver.requests] == [b"/0", b"/1", b"/2"]
    assert server.connections == 1


async def test_messages_at_once_have_a_connection_each() -> None:
    receiver = Receiver()
    async with Server.running(receiver.handle) as server, opened() as clients:
        answers = await asyncio.gather(*(post(clients, server.url) for _ in range(4)))
        assert server.connections == 4
        answers += await asyncio.gather(*(post(clients, server.url) for _ in range(4)))
    assert [answer.status for answer in answers] == [200] * 8
    assert server.connections == 4


async def test_message_on_a_connection_that_was_closed_meanwhile_is_sent_on_a_new_one() -> None:
    receiver = Receiver()
    receiver.answers_left = 1
    async with Server.running(receiver.handle) as server, opened() as clients:
        assert (await post(clients, server.url, b"first")).status == 200
        assert (await post(clients, server.url, b"second")).status == 200
    assert server.connections == 2
    assert [request.rpartition(b"\r\n")[2] for request in receiver.requests] == [b"first", b"second", b"second"]


async def test_message_with_the_beginning_of_an_answer_is_not_sent_again() -> None:
    answers = [OK, b"HTTP/1.1 5"]
    requests = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while answers:
            requests.append(await request_of(reader))
            writer.write(answers.pop(0))
            await writer.drain()

    async with Server.running(handle) as server, opened() as clients:
        assert (await post(clients, server.url)).status == 200
        with pytest.raises(Exception, match="closed in the middle of the headers"):
            await post(clients, server.url)
    assert len(requests) == 2
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        http("200 OK", b"taken", b"Connection: close"),
        OK.replace(b"HTTP/1.1", b"HTTP/1.0"),
        OK + b"more",
        CHUNKED[:-2] + b"Trailer: x\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\nmore",
    ],
    ids=["the server closes", "HTTP/1.0", "bytes behind the end", "a trailer", "a body where none may be"],
)
async def test_connection_in_an_unclear_state_is_not_used_again(answer: bytes) -> None:
    receiver = Receiver(answer)
    async with Server.running(receiver.handle) as server, opened() as clients:
        for _ in range(2):
            assert (await post(clients, server.url)).status in {200, 204}
    assert server.connections == 2


@pytest.mark.parametrize("client", ["purchases", "files"])
async def test_connection_that_is_not_kept_is_closed_although_the_server_keeps_it(client: str) -> None:
    receiver = Receiver()
    async with Server.running(receiver.handle) as server, opened() as clients:
        answer = await getattr(clients, client).post(server.url, content=b"{}")
        assert (answer.status_code, answer.content) == (200, b"taken")
        await asyncio.wait_for(receiver.ended.wait(), LIMIT)


async def test_idle_connection_is_closed_by_dovecote(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "IDLE_SECONDS", 0.0)
    receiver = Receiver()
    async with Server.running(receiver.handle) as server, opened() as clients:
        await post(clients, server.url)
        await asyncio.wait_for(receiver.ended.wait(), LIMIT)
        await post(clients, server.url)
    assert server.connections == 2


async def test_connection_is_closed_at_its_age(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MAX_AGE", -1.0)
    receiver = Receiver()
    async with Server.running(receiver.handle) as server, opened() as clients:
        for _ in range(2):
            await post(clients, server.url)
    assert server.connections == 2


async def test_guard_checks_every_message_on_a_kept_connection() -> None:
    receiver = Receiver()
    async with Server.running(receiver.handle) as server, opened() as clients:
        assert (await post(clients, server.url)).private
        assert (await post(clients, server.url)).private
        with pytest.raises(OSError, match=r"credentials|user"):
            await post(clients, server.url.replace("http://", "http://me@"))
    assert server.connections == 1


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol: Any = protocol

    def resume_reading(self) -> None:
        pass


async def test_number_of_kept_connections_is_bounded() -> None:
    loop, pool = asyncio.get_running_loop(), KeptConnections()
    same = [Connection("host", Transport(), loop.time()) for _ in range(kept.MAX_KEPT_EACH + 5)]
    others = [Connection(f"host {number}", Transport(), loop.time()) for number in range(kept.MAX_KEPT + 5)]
    for connection in (*same, *others):
        pool.keep(connection)
    assert sum(not each.transport.is_closing() for each in same) == kept.MAX_KEPT_EACH
    assert sum(not each.transport.is_closing() for each in (*same, *others)) == kept.MAX_KEPT
    assert pool.take("host") is same[kept.MAX_KEPT_EACH - 1]
    pool.close()
    assert all(each.transport.is_closing() for each in others)
    assert pool.take("host 1") is None


def test_tls_connection_is_used_again_with_the_loop_of_the_server(tmp_path: Path) -> None:
    """The server runs on uvloop, whose TLS transports are its own."""
    authority = Authority(tmp_path)
    receiver, connections = Receiver(), []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        with contextlib.suppress(ConnectionError):
            await receiver.handle(reader, writer)
        writer.close()

    async def run(server_tls: Any) -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=server_tls)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        clients = Http.real(Guard(Rules(private=True, http=True)), webhook_tls=authority.trusted())
        for _ in range(3):
            assert (await post(clients, url)).body == b"taken"
        await clients.close()
        server.close()
        await receiver.ended.wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(authority.serving("IP:127.0.0.1")))
    assert len(connections) == 1
