"""The batching writers: small writes share a transaction, and each caller gets its answer after the commit.

While one transaction commits, the next writes gather. There is no timer: the commit before is the wait.

A process has two writers. Requests (providers and clients who wait for an answer) use one, journeys use the other.
SQLite has one connection that writes, so both share it: requests go first, and journeys get a turn at least every
:data:`JOURNEYS_WAIT`. On PostgreSQL each writer has transactions of its own, so that a slow journey holds up no request. There a
transaction for requests waits up to :data:`JOURNEYS_WAIT` for one of the journeys that is under way: requests that never
pause would leave the event loop no time for it.
"""

import asyncio
import contextlib
import dataclasses
import functools
import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from service.store import faults, sqlite_space
from service.store.database import (
    Database,
    StoreBusy,
    StoreContended,
    StoreLocked,
    StoreUnavailable,
    out_of_reach,
)

log = logging.getLogger("dovecote")

Arguments = ParamSpec("Arguments")
Item = TypeVar("Item")
Answer = TypeVar("Answer")
Batch = Callable[[AsyncConnection, Sequence[Item]], Awaitable[Sequence[Answer]]]
"""Writes many items in the transaction that it is given and answers each, in order."""
Observer = Callable[[str, int, float], None]
"""Called after each commit with the writer's name, how many writes it had, and for how many seconds the oldest had waited."""
Submit = Callable[[Batch[Any, Any], Any], Awaitable[Any]]
"""Enqueues one item for a batch function and waits for the commit."""

BATCH_SIZE = 256
MAX_WAITING = 10_000
LOCK_TIMEOUT_ALONE = 0.1
"""Seconds that a write waits for a locked row after its whole batch has waited in vain."""
MAX_STALL = 4.5
"""Seconds without any commit after which waiting requests fail. Their callers get 503 and repeat them."""
MAX_TRIES = 5
"""How often a transaction is tried that conflicts with others."""
JOURNEYS_WAIT = 0.025
"""Seconds for which requests may go before journeys where both share a connection, and for which they give way where not."""


class Writer:
    """Writes for one kind of caller: requests, or journeys."""

    def __init__(self, submit: Submit) -> None:
        """Keep the function that enqueues a write and waits for its commit."""
        self.submit = submit

    async def run(
        self,
        function: Callable[Concatenate[AsyncConnection, Arguments], Awaitable[Answer]],
        *arguments: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Answer:
        """Call a function with a connection and the arguments, and return its answer after the commit.

        :raises StoreUnavailable: when the database does not answer; the write may have been committed all the same
        :raises StoreBusy: when too many writes are waiting already
        """
        answer: Answer = await self.submit(Each(function), (arguments, named))
        return answer

    async def batch(self, function: Batch[Item, Answer], item: Item) -> Answer:
        """Write one item together with others that wait for the same function; else as :meth:`run`.

        Partial objects of one function with the same arguments count as the same function.
        """
        answer: Answer = await self.submit(function, item)
        return answer


@dataclasses.dataclass(frozen=True, slots=True)
class Each:
    """A batch function that calls another one for each item."""

    function: Callable[..., Awaitable[Any]]

    async def __call__(self, connection: AsyncConnection, items: Sequence[tuple[Any, Any]]) -> list[Any]:
        """Call the function for each item, one after the other."""
        return [await self.function(connection, *arguments, **named) for arguments, named in items]


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of the function behind a batch function, for logs and tests."""
    while isinstance(function, Each | functools.partial):
        function = function.function if isinstance(function, Each) else function.func
    return getattr(function, "__name__", type(function).__name__)


class Writers:
    """The two writers of a process, and the loops that commit for them."""

    def __init__(self, database: Database) -> None:
        """Prepare; :meth:`running` starts to commit."""
        self._requests, self._journeys = _Line("requests", max_stall=MAX_STALL), _Line("journeys")
        if database.sqlite:
            self._loops = [_CommitLoop(database, (self._requests, self._journeys))]
        else:
            journeys = _CommitLoop(database, (self._journeys,))
            self._loops = [_CommitLoop(database, (self._requests,), gives_way_to=journeys), journeys]
        self.requests = Writer(self._requests.submit)
        self.journeys = Writer(self._journeys.submit)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Writers"]:
        """Commit in the background for the length of a ``with``; commit at its end what is still waiting."""
        tasks = [asyncio.create_task(loop.run(), name="writer") for loop in self._loops]
        try:
            yield self
        finally:
            self.close()
            await asyncio.gather(*tasks)

    def observe(self, observer: Observer) -> None:
        """Call a function after every commit from now on."""
        for loop in self._loops:
            loop.observer = observer

    @property
    def requests_wait(self) -> bool:
        """Whether requests wait for a transaction, or for the end of theirs."""
        return self._requests.is_busy

    def waited(self) -> float:
        """Return for how many seconds the oldest write has been waiting for its transaction."""
        return max(loop.waited() for loop in self._loops)

    def close(self) -> None:
        """Refuse new writes."""
        for line in (self._requests, self._journeys):
            line.close()


@dataclasses.dataclass(slots=True)
class _Write:
    function: Batch[Any, Any]
    item: Any
    answer: asyncio.Future[Any]
    since: float
    """When it was enqueued, by the event loop's clock."""

    @property
    def group(self) -> Hashable:
        """Equal for writes that one call of the function can serve."""
        function = self.function
        if isinstance(function, functools.partial):
            named = ((name, id(value)) for name, value in sorted(function.keywords.items()))
            return (function.func, *map(id, function.args), *named)
        return function


class _Line:
    """Writes that wait for a transaction."""

    def __init__(self, name: str, *, max_stall: float | None = None) -> None:
        self.name = name
        self._max_stall = max_stall
        self._waiting: deque[_Write] = deque()
        self.committed_at = -math.inf
        """When the last transaction for this line committed, by the event loop's clock."""
        self.wake = asyncio.Event()
        self.closed = False
        self._taken: list[_Write] = []
        """The writes of the transaction that is under way."""
        self._guard: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    async def submit(self, function: Batch[Any, Any], item: Any) -> Any:
        if self.closed or len(self._waiting) >= MAX_WAITING:
            raise StoreBusy("shutting down" if self.closed else "too many writes are waiting")
        loop = asyncio.get_running_loop()
        write = _Write(function, item, loop.create_future(), loop.time())
        self._waiting.append(write)
        self.wake.set()
        if self._max_stall is not None and self._guard is None:
            self._guard = loop.call_later(self._max_stall, self._fail_stalled, self._max_stall)
        return await write.answer

    def _fail_stalled(self, max_stall: float) -> None:
        """Fail the writes for which no transaction has committed for too long, and repeat when the next one is due.

        One timer serves all writes, because a timer for each would cost more than the write.
        """
        loop = asyncio.get_running_loop()
        self._guard = None
        waiting = [write for write in (*self._taken, *self._waiting) if not write.answer.done()]
        stalled = [write for write in waiting if max(write.since, self.committed_at) + max_stall <= loop.time()]
        _fail(stalled, StoreUnavailable(faults.TIMED_OUT.sentence, faults.TIMED_OUT))
        if len(stalled) < len(waiting):
            due = max(waiting[len(stalled)].since, self.committed_at) + max_stall
            self._guard = loop.call_at(due, self._fail_stalled, max_stall)

    @property
    def is_busy(self) -> bool:
        return bool(self._waiting) or any(not write.answer.done() for write in self._taken)

    def close(self) -> None:
        self.closed = True
        self.wake.set()

    def waited(self) -> float:
        """Return for how many seconds the oldest write has been waiting."""
        return asyncio.get_running_loop().time() - self._waiting[0].since if self._waiting else 0.0

    def take(self) -> list[_Write]:
        """Remove up to a batch from the line; leave out writes whose caller has gone away."""
        taken = (self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_SIZE)))
        self._taken = [write for write in taken if not write.answer.done()]
        return self._taken


class _CommitLoop:
    """Commits batch after batch for one line, or for several that share a connection, the first with priority."""

    def __init__(
        self, database: Database, lines: Sequence[_Line], *, gives_way_to: "_CommitLoop | None" = None
    ) -> None:
        self.observer: Observer = lambda _name, _writes, _seconds: None
        self._database = database
        self._gives_way_to = gives_way_to
        self._idle = asyncio.Event()
        self._idle.set()
        self._lines = lines
        self._last: _Line | None = None
        self._writing_since: float | None = None
        wake = asyncio.Event()
        for line in lines:
            line.wake = wake
        self._wake = wake

    async def run(self) -> None:
        """Commit until closed; then commit what is left."""
        while not all(line.closed for line in self._lines):
            await self._wake.wait()
            self._wake.clear()
            while any(self._lines):
                if self._gives_way_to is not None:
                    await self._gives_way_to.end_of_transaction(within=JOURNEYS_WAIT)
                line = self._choose()
                if writes := line.take():
                    self._writing_since = writes[0].since
                    self._idle.clear()
                    await self._commit(writes)
                    self._idle.set()
                    self.observer(line.name, len(writes), asyncio.get_running_loop().time() - self._writing_since)
                    self._writing_since = None

    async def end_of_transaction(self, *, within: float) -> None:
        """Wait until no transaction is under way, or one has just ended; at most for some seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._idle.wait()

    def waited(self) -> float:
        """Return for how many seconds the oldest write has been waiting for its commit."""
        waiting = max(line.waited() for line in self._lines)
        if self._writing_since is None:
            return waiting
        return max(waiting, asyncio.get_running_loop().time() - self._writing_since)

    def _choose(self) -> _Line:
        first, *others = [line for line in self._lines if line]
        # Alternate even when no line is ever empty: neither starves the other.
        if first is self._last and others and others[0].waited() > JOURNEYS_WAIT:
            first = others[0]
        self._last = first
        return first

    async def _commit(self, writes: list[_Write], *, lock_timeout: float | None = None) -> None:
        """Commit all writes in one transaction; if that fails for one of them, each alone, so that the others succeed."""
        try:
            await self._write(writes, lock_timeout)
        except asyncio.CancelledError:
            _fail(writes, StoreUnavailable("shutting down"))
            raise
        except Exception as error:  # noqa: BLE001 - the callers get it, whatever it is
            locked = isinstance(error, StoreLocked)
            if isinstance(error, StoreUnavailable) and error.fault is faults.SQLITE_DISK_FULL:
                await self._empty_log()
            if len(writes) == 1 or (out_of_reach(error) and not locked):
                _fail(writes, error)
                return
            log.warning("batch refused; committing each write alone writes=%d error=%s", len(writes), _name(error))
            for write in (each for each in writes if not each.answer.done()):  # a caller may have gone meanwhile
                await self._commit([write], lock_timeout=LOCK_TIMEOUT_ALONE if locked else lock_timeout)

    async def _empty_log(self) -> None:
        """Write SQLite's log into its file, and empty it: it may be what fills the disk. SQLite does so after commits only."""
        try:
            emptied = await sqlite_space.empty_log(self._database)
        except Exception as error:  # noqa: BLE001 - it is tried again with the next write that finds no space
            log.warning("log of the database not emptied error=%s", _name(error))
        else:
            log.info("log of the database emptied=%s", emptied)

    async def _write(self, writes: list[_Write], lock_timeout: float | None) -> None:
        for _ in range(MAX_TRIES - 1):
            try:
                await self._write_once(writes, lock_timeout)
            except StoreContended as error:
                log.info("transaction repeated writes=%d error=%s", len(writes), error)
            else:
                return
        await self._write_once(writes, lock_timeout)

    async def _write_once(self, writes: list[_Write], lock_timeout: float | None) -> None:
        groups: dict[Hashable, list[_Write]] = {}
        for write in writes:
            groups.setdefault(write.group, []).append(write)
        answers: list[tuple[_Write, Any]] = []
        async with self._database.writing(lock_timeout=lock_timeout) as connection:
            for group in groups.values():
                given = await group[0].function(connection, [write.item for write in group])
                answers += zip(group, given, strict=True)
        for line in self._lines:
            line.committed_at = asyncio.get_running_loop().time()
        for write, answer in answers:
            if not write.answer.done():
                write.answer.set_result(answer)


def _name(error: BaseException) -> str:
    return type(error).__name__


def _fail(writes: list[_Write], error: BaseException) -> None:
    for write in writes:
        if not write.answer.done():
            write.answer.set_exception(error)
