"""A client of a stream under the test's control: the test decides when it reads and disconnects."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.types import ASGIApp, Message

from tests.support.waiting import LIMIT


class Reader:
    """An open stream: the data that was sent, and whether the client reads."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.text = ""
        self.reads = asyncio.Event()
        self.reads.set()
        self.waiting = 0
        """Pieces that wait for the reader: more than one would be sent without having waited for the one before."""
        self.ended = asyncio.Event()
        self._gone = asyncio.Event()
        self._more = asyncio.Event()

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, app: ASGIApp, path: str, *, query: str = "", **headers: str) -> AsyncIterator["Reader"]:
        """Open a stream, and close it at the end."""
        reader = cls()
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [
                (b"host", b"localhost"),
                *((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()),
            ],
            "app": app,
        }
        task = asyncio.create_task(app(scope, reader._receive, reader._send))
        try:
            await reader.until(lambda: bool(reader.status), task)
            yield reader
        finally:
            reader._gone.set()
            reader.reads.set()
            await asyncio.wait_for(task, LIMIT)

    async def _receive(self) -> Message:
        done = [asyncio.create_task(each.wait()) for each in (self._gone, self.ended)]
        try:
            await asyncio.wait(done, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in done:
                each.cancel()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        assert not self.ended.is_set(), message
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.waiting += 1
            await self.reads.wait()
            self.waiting -= 1
            self.text += message.get("body", b"").decode()
            if not message.get("more_body"):
                self.ended.set()
        self._more.set()

    async def until(self, true: Any, task: asyncio.Task[None] | None = None) -> None:
        """Wait until a condition on the received data is true."""
        async with asyncio.timeout(LIMIT):
            while not true():
                assert task is None or not task.done() or task.exception() is None
                self._more.clear()
                await self._more.wait()

    async def have(self, count: int) -> list[dict[str, Any]]:
        """Wait for a number of events, and return all that have arrived."""
        await self.until(lambda: len(self.events) >= count)
        return self.events

    @property
    def events(self) -> list[dict[str, Any]]:
        """Return the received events without the final one."""
        return [json.loads(each["data"]) for each in self.blocks if each.get("event") not in {None, "end"}]

    @property
    def blocks(self) -> list[dict[str, str]]:
        """Return the received blocks unchanged. Comments have an empty name."""
        parts = (part for part in self.text.split("\n\n")[:-1])
        return [
            dict(tuple(line.split(": ", 1)) if ": " in line else ("", line) for line in part.split("\n"))
            for part in parts
        ]
