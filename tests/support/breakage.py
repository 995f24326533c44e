"""Servers that break the connection, each in its own way, and addresses without a server, over real sockets."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

ANSWER = b'{"code":200,"data":{"task_id":"7"}}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)


class Server:
    """A server that breaks the connection as configured, and counts its connections."""

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
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._handle(reader, writer)
        finally:
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
            if served._at_work:
                _, late = await asyncio.wait(served._at_work, timeout=2)
                for task in late:
                    task.cancel()
                await asyncio.gather(*late, return_exceptions=True)
                await asyncio.sleep(0)  # the loop closes their sockets


async def request_of(reader: asyncio.StreamReader) -> bytes:
    """Read one whole request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), b"0"
    )
    return head + await reader.readexactly(int(length))


def answering(*pieces: bytes, then: Handle | None = None) -> Handle:
    """Read a request, write some bytes, and close the connection or run another function."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if then is not None:
            await then(reader, writer)

    return handle


async def close_at_once(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Accept, and close the connection before anything is read."""


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection: Any = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()  # until the client has had enough


async def speak_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


async def read_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Leave the request unread until the client gives up."""
    reading: Any = writer.transport
    reading.pause_reading()
    await asyncio.sleep(1)


def http(status: str, body: bytes = b"", *headers: bytes) -> bytes:
    """Write a complete answer."""
    lines = (f"HTTP/1.1 {status}".encode(), b"Content-Length: %d" % len(body), *headers, b"", b"")
    return b"\r\n".join(lines) + body


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{'a':\r\n"
PERHAPS_SENT: dict[str, tuple[Handle, type[Exception]]] = {
    "accept and close": (close_at_once, httpx.NetworkError | httpx.RemoteProtocolError),  # type: ignore[dict-item]
    "accept and reset": (reset, httpx.NetworkError | httpx.RemoteProtocolError),  # type: ignore[dict-item]
    "close after the request": (answering(), httpx.RemoteProtocolError),
    "reset after the request": (answering(then=reset), httpx.ReadError),
    "close in the headers": (answering(HEAD[:20]), httpx.RemoteProtocolError),
    "close after the headers": (answering(HEAD), httpx.RemoteProtocolError),
    "close in the body": (answering(HEAD, ANSWER[:9]), httpx.RemoteProtocolError),
    "reset in the body": (answering(HEAD, ANSWER[:9], then=reset), httpx.RemoteProtocolError),
    "close in a chunk": (answering(CHUNKED), httpx.RemoteProtocolError),
    "no HTTP": (answering(b"220 mail.example.com ESMTP\r\n"), httpx.RemoteProtocolError),
    "hang": (answering(then=hang), httpx.ReadTimeout),
    "hang in the body": (answering(HEAD, ANSWER[:9], then=hang), httpx.ReadTimeout),
}


@contextlib.asynccontextmanager
async def nowhere(how: str) -> AsyncIterator[str]:
    """Return a URL that no request can reach."""
    if how == "refused":
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    elif how == "unresolvable":
        yield "http://nothing.invalid"
    elif how == "no possible name":
        yield f"http://{'a' * 64}.example"
    elif how == "no such scheme":
        yield "gopher://127.0.0.1"
    else:
        servers = {"TLS with a plain server": speak_plainly, "TLS cut short": close_at_once, "TLS never answered": hang}
        async with Server.running(servers[how]) as server:
            yield server.url.replace("http://", "https://")


NOWHERE: dict[str, type[Exception]] = {
    "refused": httpx.ConnectError,
    "unresolvable": httpx.ConnectError,
    "no possible name": httpx.UnsupportedProtocol,
    "no such scheme": httpx.UnsupportedProtocol,
    "TLS with a plain server": httpx.ConnectError,
    "TLS cut short": httpx.ConnectError,
    "TLS never answered": httpx.ConnectTimeout,
}
