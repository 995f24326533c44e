"""The server of `dovecote serve` at a stop, on both event loops."""

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.cli.listening import listen, waiting_connections
from service.cli.serve import _server
from service.flows.signals.local import Signals
from tests.support.waiting import LIMIT

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS.values(), ids=LOOPS)
def runner(request: pytest.FixtureRequest) -> asyncio.Runner:
    return asyncio.Runner(loop_factory=request.param)


def connected(listener: socket.socket, request: bytes) -> socket.socket:
    """Connect, and send a request. The system does both, whether the server accepts or not."""
    client = socket.create_connection(listener.getsockname(), timeout=LIMIT)
    client.sendall(request)
    return client


async def stopped(arrive: Callable[[socket.socket], None]) -> None:
    """Run a server that stops at once after clients have arrived: its loop does not run in between."""

    async def answer(_: Request) -> Response:
        return Response(b"answered")

    with listen("127.0.0.1", 0) as listener:
        server = _server(Starlette(routes=[Route("/", answer)]), Signals())

        async def main_loop() -> None:
            arrive(listener)

        server.main_loop = main_loop  # type: ignore[method-assign]
        await server.serve(sockets=[listener])


def everything(client: socket.socket) -> bytes:
    """Read until the server closes the connection. A reset is an error."""
    with client:
        return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.mark.parametrize("count", [1, 20])
def test_request_in_the_backlog_gets_an_answer_at_a_stop(runner: asyncio.Runner, count: int) -> None:
    clients: list[socket.socket] = []
    with runner:
        runner.run(stopped(lambda listener: clients.extend(connected(listener, REQUEST) for _ in range(count))))
    for client in clients:
        said = everything(client)
        assert said.startswith(b"HTTP/1.1 200 OK\r\n")
        assert said.endswith(b"answered")


@pytest.mark.parametrize("begun", [b"", REQUEST[:20]], ids=["nothing sent", "half a head sent"])
def test_connection_without_a_request_ends_with_the_server(runner: asyncio.Runner, begun: bytes) -> None:
    clients: list[socket.socket] = []
    with runner:
        runner.run(stopped(lambda listener: clients.append(connected(listener, begun))))
    assert everything(clients[0]) == b""


def test_empty_backlog_has_no_connections() -> None:
    with listen("127.0.0.1", 0) as listener:
        listener.setblocking(False)
        assert waiting_connections(listener) == []
