"""A TCP relay before a server. A test can silence it: connections stay open, and no data passes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

CHUNK = 65536


class Relay:
    """Connections that a test silences as a firewall or a lost primary does: neither side is notified."""

    def __init__(self, path: str) -> None:
        """Prepare.

        :param path: the Unix socket of the server behind
        """
        self._path = path
        self._open: set[asyncio.Event] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.connections = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, path: str) -> AsyncIterator["Relay"]:
        """Relay from a free port of the loopback interface while the block runs."""
        relay = cls(path)
        server = await asyncio.start_server(relay._serve, "127.0.0.1", 0)
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

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        passing = asyncio.Event()
        passing.set()
        self._open.add(passing)
        there, back = await asyncio.open_unix_connection(self._path)
        try:
            await asyncio.gather(_pass(reader, back, passing), _pass(there, writer, passing))
        finally:
            self._open.discard(passing)
            self._tasks.discard(task)
            for each in (writer, back):
                each.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: asyncio.Event) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(CHUNK):
            await passing.wait()
            writer.write(piece)
            await writer.drain()
        await passing.wait()
        writer.write_eof()
