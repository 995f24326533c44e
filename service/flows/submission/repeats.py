"""Accept a request once, although its client repeats it without an idempotency key when an answer is lost."""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import itertools
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import UUID

from service.domain.repeats import Earlier, Sender, Windows, choose
from service.domain.task import Task
from service.flows.context import Context
from service.flows.submission.accept import KeyReused, accept
from service.store import repeats as repeat_store
from service.store import tasks as task_store
from service.store.tasks import Accepted

MAX_REMEMBERED: Final = 10_000
"""Tasks of which a process remembers whether their client has used them."""
_MAX_TRIES: Final = 100
"""Processes that may take the next number of a fingerprint before this one does."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A request of a client that sends no idempotency key."""

    fingerprint: str
    """Equal for equal requests of one key."""
    sender: Sender
    number: int
    """Its number among the requests of this process, from :meth:`Recent.arrive`."""
    is_cut_off: Callable[[], Awaitable[bool]]
    """Returns whether the connection broke meanwhile."""


class Recent:
    """The memory of a process of its latest requests: their order, and the ids that clients have used."""

    def __init__(self) -> None:
        """Start empty."""
        self._numbers = itertools.count(1)
        self._locks: dict[str, tuple[asyncio.Lock, list[None]]] = {}
        self._stored: OrderedDict[UUID, int] = OrderedDict()
        self._known: OrderedDict[UUID, None] = OrderedDict()

    def arrive(self) -> int:
        """Return the number of a request that has arrived."""
        return next(self._numbers)

    def store(self, task_id: UUID) -> None:
        """Remember that a task is stored: requests that arrive later are no longer at once with its own."""
        self._stored[task_id] = next(self._numbers)
        _trim(self._stored)

    def know(self, task_id: UUID) -> None:
        """Remember that the client of a task has used its id."""
        self._known[task_id] = None
        self._known.move_to_end(task_id)
        _trim(self._known)

    def with_memory(self, each: Earlier, number: int) -> Earlier:
        """Return a task with what this process remembers of it."""
        at_once = self._stored.get(each.task_id, 0) > number
        return dataclasses.replace(each, is_known=each.task_id in self._known, at_once=at_once)

    def exclusively(self, fingerprint: str) -> "_Exclusively":
        """Hold the lock of a fingerprint for the length of a ``with``, so that equal requests are stored one by one."""
        return _Exclusively(self._locks, fingerprint)


class _Exclusively:
    """The lock of a fingerprint, which exists as long as a request holds it or waits for it."""

    __slots__ = ("_fingerprint", "_lock", "_locks", "_users")

    def __init__(self, locks: dict[str, tuple[asyncio.Lock, list[None]]], fingerprint: str) -> None:
        self._locks = locks
        self._fingerprint = fingerprint

    async def __aenter__(self) -> None:
        self._lock, self._users = self._locks.setdefault(self._fingerprint, (asyncio.Lock(), []))
        self._users.append(None)
        try:
            await self._lock.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()
        self._leave()

    def _leave(self) -> None:
        self._users.pop()
        if not self._users:
            self._locks.pop(self._fingerprint, None)


def _trim(remembered: OrderedDict[UUID, Any]) -> None:
    while len(remembered) > MAX_REMEMBERED:
        remembered.popitem(last=False)


async def accept_once(
    context: Context, recent: Recent, request: Any, arrival: Arrival, *, client: str, large: bool = False
) -> Accepted:
    """Store the task of a request, or return the task of the equal request that it repeats.

    :param large: whether to check it in a thread, so that the event loop is not blocked
    :raises Invalid: with every mistake
    :raises StoreUnavailable: when it could not be written
    """
    async with recent.exclusively(arrival.fingerprint):
        # Nearly every request is the first of its kind, and needs no query.
        accepted = await _try(context, request, repeat_store.key_of(arrival.fingerprint, 0), client=client, large=large)
        if accepted is None:
            accepted = await _accept(context, recent, request, arrival, client=client, large=large)
        if accepted.new:
            recent.store(accepted.task.id)
            if await arrival.is_cut_off():
                await _note(context, accepted.task, cut_off=True)
        return accepted


async def note_cut_off(context: Context, recent: Recent, task: Task, fingerprint: str) -> None:
    """Write that the connection of a held request broke before its answer: a repeat of it gets the same task."""
    async with recent.exclusively(fingerprint):
        await _note(context, task, cut_off=True)


async def _accept(
    context: Context, recent: Recent, request: Any, arrival: Arrival, *, client: str, large: bool
) -> Accepted:
    settings = context.settings.doors
    windows = Windows(
        marked=dt.timedelta(seconds=settings.marked_repeats),
        unmarked=dt.timedelta(seconds=settings.unmarked_repeats),
    )
    for _ in range(_MAX_TRIES):
        async with context.database.reading() as connection:
            equal = await repeat_store.of_fingerprint(connection, client, arrival.fingerprint)
        remembered = [recent.with_memory(each, arrival.number) for each in equal]
        chosen = choose(arrival.sender, remembered, windows, now=context.now())
        if chosen is not None and (task := await _find(context, chosen.task_id)) is not None:
            await _note(context, task, attempt=arrival.sender.attempt)
            return Accepted(task, new=False)
        generation = equal[0].generation + 1 if equal else 0
        key = repeat_store.key_of(arrival.fingerprint, generation)
        accepted = await _try(context, request, key, client=client, large=large)
        if accepted is not None:
            return accepted
        # Another process has stored an equal request meanwhile: choose again.
    return await accept(context, request, client=client, large=large)


async def _try(context: Context, request: Any, key: str, *, client: str, large: bool) -> Accepted | None:
    """Store the task of a request under a key; return None where another request has it."""
    with contextlib.suppress(KeyReused):
        accepted = await accept(context, request, client=client, idempotency_key=key, large=large)
        if accepted.new:
            return accepted
    return None


async def _find(context: Context, task_id: UUID) -> Task | None:
    async with context.database.reading() as connection:
        return await task_store.find(connection, task_id)


async def _note(context: Context, task: Task, *, attempt: int = 0, cut_off: bool = False) -> None:
    await context.writers.requests.run(
        repeat_store.note, task.id, seen_at=context.now(), attempt=attempt, cut_off=cut_off
    )
