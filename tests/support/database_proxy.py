"""A proxy before PostgreSQL that cuts connections, swallows what they carry, and drops notifications."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

CHUNK = 65536
_NOTIFICATION = ord("A")


class Proxy:
    """Relays to the Unix socket of a server, which may be away."""

    def __init__(self, path: str) -> None:
        """Prepare.

        :param path: the socket of the server
        """
        self._path = path
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._swallowed: set[asyncio.Task[None]] = set()
        self.drop_notifications = False
        self.dropped = 0
        self.port = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, path: str) -> AsyncIterator["Proxy"]:
        """Relay from a free port of the loopback interface while the block runs."""
        proxy = cls(path)
        proxy._server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        proxy.port = proxy._server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            await proxy.close()

    async def close(self) -> None:
        """End every connection, and refuse new ones."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset every open connection. New ones work."""
        for writer in list(self._writers):
            writer.transport.abort()

    def silence(self) -> None:
        """Let nothing pass, on open connections and on new ones, until :meth:`heal`. The silent ones stay silent."""
        self._passing.clear()
        self._swallowed |= self._tasks

    def heal(self) -> None:
        """Let new connections pass. Those that were silent are dead for ever, as behind a firewall that forgot them."""
        self._passing.set()
        self.drop_notifications = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        back: asyncio.StreamWriter | None = None
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):  # the proxy ends; nothing waits for this task
                await self._passing.wait()
                there, back = await asyncio.open_unix_connection(self._path)
                self._writers.add(back)
                await self._relay(task, (reader, writer), (there, back))
        finally:
            self._tasks.discard(task)
            self._swallowed.discard(task)
            for each in (writer, back):
                if each is not None:
                    self._writers.discard(each)
                    each.close()

    async def _relay(
        self,
        task: "asyncio.Task[None]",
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        forth = asyncio.create_task(self._pass(task, client[0], server[1], None))
        back = asyncio.create_task(self._pass(task, server[0], client[1], _Messages()))
        try:
            await asyncio.wait({forth, back}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (forth, back):
                each.cancel()
            await asyncio.gather(forth, back, return_exceptions=True)

    async def _pass(
        self,
        task: "asyncio.Task[None]",
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        messages: "_Messages | None",
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(CHUNK):
                if task in self._swallowed or not self._passing.is_set():
                    self._swallowed.add(task)
                    continue
                if messages is not None:
                    piece, dropped = messages.passing(piece, drop=self.drop_notifications)
                    self.dropped += dropped
                writer.write(piece)
                await writer.drain()


class _Messages:
    """Splits what a server sends into messages, so that notifications can be taken out."""

    def __init__(self) -> None:
        self._rest = b""
        self._began = False

    def passing(self, piece: bytes, *, drop: bool) -> tuple[bytes, int]:
        """Return the whole messages that pass, and how many were dropped."""
        held = self._rest + piece
        out, at, dropped = [], 0, 0
        if not self._began and held[:1] in (b"N", b"S") and len(held) == 1:
            self._began = True  # the answer to a request for TLS is one byte
            self._rest = b""
            return held, 0
        self._began = True
        while len(held) - at >= 5:
            end = at + 1 + struct.unpack_from("!I", held, at + 1)[0]
            if end > len(held):
                break
            if drop and held[at] == _NOTIFICATION:
                dropped += 1
            else:
                out.append(held[at:end])
            at = end
        self._rest = held[at:]
        return b"".join(out), dropped


def socket_of(url: str) -> str:
    """Return the path of the Unix socket in a PostgreSQL URL."""
    return f"{parse_qs(urlsplit(url).query)['host'][0]}/.s.PGSQL.5432"


def through(url: str, port: int) -> str:
    """Return the URL of a PostgreSQL database behind a proxy."""
    return f"postgresql://{urlsplit(url).netloc.partition('@')[0]}@127.0.0.1:{port}/dovecote"
