"""Bounds on what one process does at once: slots per upstream, and pools of running work."""

import asyncio
import contextlib
import dataclasses
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar, cast

from service.store.database import StoreUnavailable

log = logging.getLogger("dovecote")

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


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


@dataclasses.dataclass(slots=True)
class Spacing:
    """Spreads callers that found no slot, so that only so many come back in a second, however many there are."""

    per_second: float
    longest: float
    """Seconds that a caller waits at most."""
    _last: float = -math.inf

    def wait(self, now: float, *, least: float) -> float:
        """Return for how many seconds the next caller waits.

        :param now: the time of a monotonic clock
        """
        self._last = min(max(self._last + 1 / self.per_second, now + least), now + self.longest)
        return self._last - now


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

    def count(self, name: str) -> int:
        """Return how many run that were started with a name."""
        return sum(task.get_name() == name for task in self._running)

    def start(self, work: Coroutine[Any, Any, None], *, name: str | None = None) -> None:
        """Run a coroutine in the background. A failure is logged; the lease of its row brings the row back."""
        task = asyncio.create_task(work, name=name)
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


@dataclasses.dataclass(slots=True)
class _Asked(Generic[T]):
    """One key of :class:`Shared`."""

    lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    answer: T | None = None
    at: float = -math.inf


class Shared(Generic[K, T]):
    """Answers that are expensive to get. Callers that ask about the same key within some seconds share one answer."""

    def __init__(self, *, seconds: float, most: int) -> None:
        """Remember nothing yet.

        :param seconds: for how long an answer counts
        :param most: how many keys are remembered; beyond that the oldest are forgotten
        """
        self._seconds = seconds
        self._most = most
        self._asked: dict[K, _Asked[T]] = {}

    async def get(self, key: K, ask: Callable[[], Awaitable[T]], *, now: Callable[[], float]) -> T:
        """Return the answer about a key, and ask only where none is known that still counts.

        Callers at once wait for one of them. Where that one is cancelled or fails, the next one asks.

        :param now: seconds of a clock that nothing sets
        """
        asked = self._asked.get(key)
        if asked is None:
            self._forget()
            asked = self._asked[key] = _Asked()
        async with asked.lock:
            if now() - asked.at >= self._seconds:
                asked.answer = await ask()
                asked.at = now()
            return cast("T", asked.answer)

    def _forget(self) -> None:
        """Make room for a key: forget the oldest keys that no caller waits for."""
        spare = len(self._asked) - self._most + 1
        if spare > 0:
            idle = [key for key, asked in self._asked.items() if not asked.lock.locked()]
            for key in idle[:spare]:
                del self._asked[key]
