"""Idle connections are bounded, of one address and of all, and the oldest are closed first."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.app import application
from service.web import server_protocol
from service.web.connections import GRACE, Connections, source_of
from tests.support.serving import served
from tests.support.waiting import LIMIT
from tests.support.world import World


class Fake:
    """A connection that notes whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    def close_idle(self) -> None:
        self.closed = True


def admitted(connections: Connections, source: str, count: int, now: float) -> list[Fake]:
    made = [Fake() for _ in range(count)]
    assert all(connections.admit(each, source, now) for each in made)
    return made


def open_ones(made: list[Fake]) -> list[int]:
    return [number for number, each in enumerate(made) if not each.closed]


def test_oldest_idle_connections_of_an_address_are_closed_and_no_others() -> None:
    connections = Connections(100, max_idle=50, max_idle_of_address=3)
    others = admitted(connections, "b", 3, 0.0)
    first = admitted(connections, "a", 3, 0.0)
    late = admitted(connections, "a", 2, GRACE + 1)
    assert (open_ones(first), open_ones(late), open_ones(others)) == ([2], [0, 1], [0, 1, 2])
    assert len(connections) == 6


def test_oldest_idle_connections_of_all_are_closed() -> None:
    connections = Connections(100, max_idle=4, max_idle_of_address=3)
    first = [admitted(connections, str(number), 1, 0.0)[0] for number in range(4)]
    admitted(connections, "b", 2, GRACE + 1)
    assert open_ones(first) == [2, 3]


def test_busy_connection_is_not_closed_and_counts_again_when_it_is_idle() -> None:
    connections = Connections(100, max_idle=2, max_idle_of_address=2)
    busy, *rest = admitted(connections, "a", 2, 0.0)
    connections.set_busy(busy)
    late = admitted(connections, "a", 1, GRACE + 1)
    assert not busy.closed
    assert open_ones(rest) == [0]
    connections.set_idle(busy, GRACE + 2)
    assert (busy.closed, open_ones(rest), open_ones(late)) == (False, [], [0])


def test_new_connection_is_not_closed_before_its_request_can_arrive() -> None:
    connections = Connections(100, max_idle=2, max_idle_of_address=2)
    assert open_ones(admitted(connections, "a", 20, 0.0)) == list(range(20))


def test_full_server_closes_an_idle_connection_and_refuses_where_there_is_none() -> None:
    connections = Connections(3, max_idle=3, max_idle_of_address=3)
    first, *others = admitted(connections, "a", 3, 0.0)
    for each in others:
        connections.set_busy(each)
    assert connections.admit(Fake(), "b", 0.0)
    assert first.closed
    for each in list(connections._idle):
        connections.set_busy(each)
    assert not connections.admit(Fake(), "c", 0.0)
    connections.remove(others[0])
    connections.remove(others[0])
    assert connections.admit(Fake(), "c", 0.0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "", True),
    ],
)
def test_addresses_of_one_client_are_counted_together(one: str, other: str, *, same: bool) -> None:
    assert (source_of(one) == source_of(other)) is same


@pytest.fixture
async def port(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    few = Connections(12, max_idle=5, max_idle_of_address=5)
    monkeypatch.setattr(server_protocol, "_connections_of", lambda _: few)
    monkeypatch.setattr("service.web.connections.GRACE", -1.0)
    async with World.opened(sqlite_url) as world, served(application(world.context)) as number:
        yield number


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(len(b'{"status":"ok"}'))


async def test_idle_connections_of_a_server_are_closed_and_requests_are_served(port: int) -> None:
    opened = []
    async with asyncio.timeout(LIMIT):
        for number in range(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            opened.append((reader, writer))
            if number % 2:
                assert b"200 OK" in await ask(reader, writer)
        for reader, _ in opened[:25]:
            assert await reader.read() == b""
        for reader, writer in opened[25:]:
            assert b"200 OK" in await ask(reader, writer)
    for _, writer in opened:
        writer.close()
