"""A TCP relay before a server. A test can silence it: connections stay open, and no data passes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

CHUNK = 65536


class Relay:
    """Connections that a test silences as a firewall or a lost primary does: neither side is notified."""

    def __init__(self, path: str | int) -> None:
        """Prepare.

        :param path: the Unix socket of the server behind, or its port
        """
        self._path = path
        self._cut = False
        self._open: set[asyncio.Event] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.connections = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, path: str | int, port: int = 0) -> AsyncIterator["Relay"]:
        """Relay from a port of the loopback interface while the block runs; 0: a free one."""
        relay = cls(path)
        server = await asyncio.start_server(relay._serve, "127.0.0.1", port)
        relay.port = server.sockets[0].getsockname()[1]
        try:
            yield relay
        finally:
            server.close()
            for task in relay._tasks:
                task.cancel()
            await asyncio.gather(*relay._tasks, return_exceptions=True)

    def silence(self) -> int:
        """Block traffic on the connections that are open now, and return their number. New ones work."""
        for passing in self._open:
            passing.clear()
        return len(self._open)

    def cut(self) -> None:
        """Block traffic on every connection, also on new ones, until :meth:`mend`."""
        self._cut = True
        self.silence()

    def mend(self) -> None:
        """Let traffic pass again."""
        self._cut = False
        for passing in self._open:
            passing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        passing = asyncio.Event()
        if not self._cut:
            passing.set()
        self._open.add(passing)
        ends = [writer]
        try:
            # A stop of the relay cancels this task, and the streams would report that as a fault.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await passing.wait()
                there, back = await self._connect()
                ends.append(back)
                await asyncio.gather(_pass(reader, back, passing), _pass(there, writer, passing))
        finally:
            self._open.discard(passing)
            self._tasks.discard(task)
            for each in ends:
                each.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._path, int):
            return await asyncio.open_connection("127.0.0.1", self._path)
        return await asyncio.open_unix_connection(self._path)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: asyncio.Event) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(CHUNK):
            await passing.wait()
            writer.write(piece)
            await writer.drain()
        await passing.wait()
        writer.write_eof()
