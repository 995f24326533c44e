"""Fakes at the edge of the network for the guard: a canary on loopback, a connection monitor, false name servers."""

import asyncio
import contextlib
import dataclasses
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from service.domain.task import State
from service.flows.concurrency import TaskPool
from service.flows.webhooks import dispatch
from service.http.client import guarded
from service.http.ssrf.guard import Guard, LookUp
from service.store.webhooks import messages as message_store
from service.store.webhooks.messages import Message
from tests.support.breakage import request_of
from tests.support.values import a_message, a_task, keep
from tests.support.world import World

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class ConnectionMonitor:
    """Records every connection that this process tries to open, to any address."""

    def __init__(self) -> None:
        self.connects: list[Any] = []

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect":
            self.connects.append(arguments[1])


_LISTENING: list[ConnectionMonitor] = []


def _note_event(event: str, arguments: tuple[Any, ...]) -> None:
    for each in _LISTENING:
        each.note(event, arguments)


sys.addaudithook(_note_event)  # an audit hook cannot be removed: it is idle without a listener


@contextlib.contextmanager
def listening_ears() -> Iterator[ConnectionMonitor]:
    listening = ConnectionMonitor()
    _LISTENING.append(listening)
    yield listening
    _LISTENING.remove(listening)


@dataclasses.dataclass
class Canary:
    """Listens on loopback, on one port of both address families."""

    port: int
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await request_of(reader)
            writer.write(OK)
        writer.close()


@contextlib.asynccontextmanager
async def singing_canary() -> AsyncIterator[Canary]:
    async with contextlib.AsyncExitStack() as stack:
        four = socket.create_server(("127.0.0.1", 0))
        watching = Canary(four.getsockname()[1])
        sockets = [four]
        if socket.has_ipv6:
            with contextlib.suppress(OSError):  # a machine without the IPv6 loopback
                sockets.append(socket.create_server(("::1", watching.port), family=socket.AF_INET6))
        for each in sockets:
            await stack.enter_async_context(await asyncio.start_server(watching.serve, sock=each))
        yield watching


class Names:
    """A name server with the test's answers. It counts the look-ups."""

    def __init__(self, leads_to: Mapping[str, Sequence[str] | Callable[[], Sequence[str]]]) -> None:
        self._leads_to = {self._ascii(name): where for name, where in leads_to.items()}
        self.asked: list[str] = []

    @staticmethod
    def _ascii(name: str) -> str:
        return name.encode("idna").decode().lower().rstrip(".")

    def __call__(self, host: str, *_: Any, **__: Any) -> list[Any]:
        self.asked.append(host)
        where = self._leads_to.get(host)
        if where is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        addresses = where() if callable(where) else where
        return [found(address) for address in addresses]


def found(address: str) -> tuple[Any, ...]:
    """Return an address as :func:`socket.getaddrinfo` does."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    where = (address, 0, 0, 0) if ":" in address else (address, 0)
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where)


class Slow:
    """A name server that delays some look-ups until the test releases them."""

    def __init__(self, address: str) -> None:
        self.asked: list[str] = []
        self.let_go = threading.Event()
        self._address = address

    def __call__(self, host: str, *_: Any, **__: Any) -> list[Any]:
        self.asked.append(host)
        if "slow" in host:
            self.let_go.wait(5)
        return [found(self._address)]


@contextlib.asynccontextmanager
async def sending_to(sqlite_url: str, names: LookUp, **settings: str) -> AsyncIterator[World]:
    """Open a world whose messages leave over real connections, by the test's name servers."""
    environment = {f"DOVECOTE_{name.upper()}": value for name, value in settings.items()}
    async with World.opened(sqlite_url, **{"DOVECOTE_ALLOW_PRIVATE_WEBHOOKS": "false", **environment}) as world:
        messages = guarded(Guard(world.context.settings.webhook_rules, names))
        world.context.http = dataclasses.replace(world.context.http, messages=messages)
        yield world
        await messages.aclose()


async def deliver_to(world: World, url: str) -> Message:
    """Store a message to a URL without the check of the API, and try to deliver it once."""
    task = a_task(state=State.SUCCEEDED)
    await keep(world.context.database, task)
    async with world.context.database.writing() as connection:
        await message_store.insert(connection, [a_message(task, url=url, due_at=world.clock())])
    return await attempt(world, task)


async def attempt(world: World, task: Any) -> Message:
    pool = TaskPool(1)
    await dispatch.run_due(world.context, pool)
    await pool.finish()
    [message] = await world.messages(task)
    return message


def open_to_all_but_addresses(canary: Canary) -> dict[str, str]:
    """Return settings under which only the address can stop a message to the canary."""
    return {"allow_http_webhooks": "true", "webhook_ports": f"80,443,{canary.port}"}
