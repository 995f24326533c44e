"""Bounds on what one process does at once: slots per upstream, and pools of running work."""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from service.store.database import StoreUnavailable

log = logging.getLogger("dovecote")


@dataclasses.dataclass(slots=True)
class Slots:
    """A bounded number of slots. A caller that finds none comes back later; nothing queues here."""

    free: int

    def try_acquire(self) -> bool:
        """Acquire a slot; return False when none is free."""
        if self.free <= 0:
            return False
        self.free -= 1
        return True

    def release(self) -> None:
        """Return a slot."""
        self.free += 1


SETTLE_TIMEOUT = 10.0
"""Seconds that cancelled work gets to write its result."""


class TaskPool:
    """A bounded set of running coroutines of one journey."""

    def __init__(self, limit: int, *, when_free: Callable[[], None] = lambda: None) -> None:
        """Start empty.

        :param limit: how many may run at once
        :param when_free: called each time one has ended
        """
        self._limit = limit
        self._when_free = when_free
        self._running: set[asyncio.Task[None]] = set()

    @property
    def free(self) -> int:
        """How many more may start."""
        return max(self._limit - len(self._running), 0)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the background. A failure is logged; the lease of its row brings the row back."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)

    async def finish(self, *, within: float | None = None, settle: float = SETTLE_TIMEOUT) -> int:
        """Wait until all have ended; cancel those that have not ended in time, and return how many these were.

        Cancelled work stores its outcome so far.

        :param within: seconds; None waits without a limit
        :param settle: seconds that cancelled work gets for that
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._running:
                    await asyncio.wait(set(self._running))
        await asyncio.sleep(0)  # work that was started last has begun by now, and can settle
        late = set(self._running)
        for task in late:
            task.cancel()
        if late:
            _, stuck = await asyncio.wait(late, timeout=settle)
            for task in stuck:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        return len(late)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, StoreUnavailable):
            log.warning("background work failed error=%s", error)
        elif error is not None:
            log.error("background work failed", exc_info=error)
        self._when_free()


class Throttle:
    """Bounds the bytes a second of a process, all its downloads together."""

    def __init__(self) -> None:
        """Start without a debt."""
        self._free_at = 0.0

    async def take(self, size: int, rate: int | None) -> None:
        """Wait until some bytes fit into the rate.

        :param rate: bytes a second; None: no limit
        """
        if rate is None:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + size / rate
        if self._free_at - now > _UNNOTICED:
            await asyncio.sleep(self._free_at - now)


_UNNOTICED = 0.01
"""Seconds that are not worth a pause."""
