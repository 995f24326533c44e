"""Conversations under way: bounded in number, waited for at the end, and never lost sight of."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from service.flows.context import log
from service.store.database import StoreUnavailable


class Underway:
    """A bounded set of running conversations of one journey."""

    def __init__(self, most: int, *, when_room: Callable[[], None] = lambda: None) -> None:
        """Start with none.

        :param most: how many may run at once
        :param when_room: called whenever one has ended
        """
        self._most = most
        self._when_room = when_room
        self._running: set[asyncio.Task[None]] = set()

    @property
    def room(self) -> int:
        """How many more may start."""
        return max(self._most - len(self._running), 0)

    def start(self, conversation: Coroutine[Any, Any, None]) -> None:
        """Run one in the background. Its failure is logged: the row's lease brings it back."""
        task = asyncio.create_task(conversation)
        self._running.add(task)
        task.add_done_callback(self._ended)

    async def finish(self, *, within: float | None = None) -> None:
        """Wait until all have ended; those that have not by then are cancelled.

        :param within: seconds; None waits for as long as it takes
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._running:
                    await asyncio.wait(set(self._running))
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, StoreUnavailable):
            log.warning("a conversation broke off: %s", error)
        elif error is not None:
            log.error("a conversation broke off", exc_info=error)
        self._when_room()
