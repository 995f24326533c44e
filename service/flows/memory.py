"""Bound the memory of what is large: inputs on their way to upstreams, and answers that are read."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

LARGE: Final = 128 * 1024
"""Bytes from which on an answer or a callback is read in a thread, so that the event loop goes on."""
MAX_INPUTS: Final = 32 * 1024 * 1024
"""Characters of large inputs that are being sent at once. A single one may be larger. Each is in memory about three times."""
MAX_DOWNLOADS: Final = 2
"""Tasks whose media are downloaded at once."""

Value = TypeVar("Value")
Result = TypeVar("Result")


class LargeWork:
    """Lets one large thing be worked on at a time, and keeps the inputs in flight within a bound."""

    def __init__(self, limit: int = MAX_INPUTS) -> None:
        """Start with nothing in memory."""
        self._limit = limit
        self._used = 0
        self._reading = asyncio.Lock()
        self._released = asyncio.Event()
        self.turn = asyncio.Semaphore(1)
        """Held by the only one that has a large body or input in memory several times: parsed, and as text."""
        self.downloads = asyncio.Semaphore(MAX_DOWNLOADS)
        """Bounds the tasks whose media are downloaded."""

    @contextlib.asynccontextmanager
    async def input(self, size: int, read: Callable[[], Awaitable[Value]]) -> AsyncIterator[Value]:
        """Wait until there is room for an input of a size, read it, and yield it."""
        while self._used and self._used + size > self._limit:
            self._released.clear()
            await self._released.wait()
        self._used += size
        try:
            async with self.turn:
                value = await read()
            yield value
        finally:
            self._used -= size
            self._released.set()

    async def run(self, size: int, function: Callable[[], Result]) -> Result:
        """Run a pure function on something of a size: in a thread and one at a time if it is large, else at once."""
        if size <= LARGE:
            return function()
        async with self._reading:
            return await asyncio.to_thread(function)
