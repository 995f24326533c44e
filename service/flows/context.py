"""What every journey needs at hand: settings, store, network, clock, chance, and the signals that wake others."""

import asyncio
import dataclasses
import datetime as dt
import functools
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import uuid_utils.compat as uuid_utils
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.callback_token import Tokens
from service.domain.schedules import EXPECTING, POLLING, in_step, next_poll
from service.domain.statistics import Statistics
from service.domain.task import Task, WaitingFor
from service.flows.concurrency import DestinationSlots, Slots
from service.flows.signals import Signals
from service.http.client import Http
from service.providers import DIALECTS
from service.providers.dialect import Dialect
from service.settings.model import Settings, UpstreamSettings
from service.store.database import Database
from service.store.writer import Answer, Batch, Item, Writer

log = logging.getLogger("dovecote")

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_NO_ID = UUID(int=0)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """An account at a host, ready to be spoken to."""

    name: str
    settings: UpstreamSettings
    dialects: tuple[Dialect, ...]
    slots: Slots
    """Bounds the purchases under way to it from this process."""
    polls: Slots
    """Bounds the looks under way or waiting, so that an upstream that hangs does not keep those at others."""
    questions: asyncio.Semaphore
    """Bounds the other requests under way to it, so that slow purchases keep none of them."""

    @property
    def limited(self) -> bool:
        """Whether what it is given is counted over all processes."""
        return self.settings.open_tasks is not None or self.settings.submits_per_second is not None

    def dialect_for(self, family: str, operation: str) -> Dialect | None:
        """Choose the first of its dialects that has the operation."""
        fitting = (each for each in self.dialects if each.offers(family, operation))
        return next(fitting, None)


def _elapsed() -> float:
    """Return seconds since the machine started, including those in which it was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@dataclasses.dataclass(slots=True, kw_only=True)
class Context:
    """One process's hands and eyes. Tests give their own clock, chance and network."""

    settings: Settings
    database: Database
    writer: Writer
    http: Http
    tokens: Tokens
    webhook_secret: str
    upstreams: Mapping[str, Upstream]
    signals: Signals = dataclasses.field(default_factory=Signals)
    statistics: Statistics = dataclasses.field(default_factory=Statistics)
    destination_slots: DestinationSlots = dataclasses.field(default_factory=DestinationSlots)
    unknown_words: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
    chance: Callable[[], float] = random.random
    monotonic: Callable[[], float] = _elapsed
    """Seconds that no change of the wall clock affects, for the age of a claim."""
    waits: tuple[WaitingFor, ...] = ()
    """Everything that a queued task can wait for."""
    limited: frozenset[str] = frozenset()
    """Upstreams whose places are counted over all processes."""
    _last_id: UUID = _NO_ID
    _batches: dict[Any, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Name what can be waited for, and the upstreams that have limits."""
        self.waits = tuple(_waits(self.upstreams))
        self.limited = frozenset(name for name, upstream in self.upstreams.items() if upstream.limited)

    def now(self) -> dt.datetime:
        """Read the clock: aware, UTC."""
        return self.clock()

    def new_id(self) -> UUID:
        """Make an id that sorts by its time (a uuid of version 7), and within a millisecond by the order of the calls."""
        made: UUID = uuid_utils.uuid7(nanoseconds=(self.now() - _EPOCH) // _MICROSECOND * 1000)
        self._last_id = made if made > self._last_id else UUID(int=self._last_id.int + 1)
        return self._last_id

    def once(
        self, function: Callable[["Context", AsyncConnection, Sequence[Item]], Awaitable[Sequence[Answer]]]
    ) -> Batch[Item, Answer]:
        """Bind a batch function to this context, always to the same object: the writer gathers by it."""
        if function not in self._batches:
            self._batches[function] = functools.partial(function, self)
        bound: Batch[Item, Answer] = self._batches[function]
        return bound

    def met_unknown_word(self, dialect: str, word: str) -> None:
        """Count a status word that no table knows, and log it when it is met for the first time."""
        self.unknown_words[dialect, word] += 1
        if self.unknown_words[dialect, word] == 1:
            log.warning("%s says %r, which no table knows: states are kept", dialect, word[:100])

    def dialect(self, task: Task) -> Dialect | None:
        """Give the dialect that a task was handed over in."""
        return DIALECTS.get(task.dialect or "")

    def callback_url(self, upstream: Upstream, dialect: Dialect, task: Task, submission_id: UUID) -> str | None:
        """Give the URL that the provider may call for a submission; None when no callback can come."""
        calls = dialect.callbacks and task.operation not in dialect.synchronous
        if self.settings.public_url is None or not calls or upstream.settings.callbacks == "off":
            return None
        return f"{self.settings.public_url}/callbacks/{self.tokens.make(submission_id)}"

    def next_poll(self, task: Task) -> dt.datetime | None:
        """Say when to ask about a task next, by what has been observed of its kind."""
        expecting = task.callback_expected and not self.statistics.callbacks_unreliable(task.upstream, task.dialect)
        dialect = self.dialect(task)
        due = next_poll(
            task,
            EXPECTING if expecting else POLLING,
            median=self.typical_seconds(task),
            lookup=self.lists(task),
            first_look=None if dialect is None else dialect.first_look,
            now=self.now(),
        )
        in_batches = due is not None and dialect is not None and dialect.batch_size > 1
        return in_step(due) if due is not None and in_batches else due

    def lists(self, task: Task) -> bool:
        """Whether the upstream of a task shows a list, in which a job without an id can be found."""
        upstream, dialect = self.upstreams.get(task.upstream or ""), self.dialect(task)
        if upstream is None or dialect is None or dialect.lists is None or task.operation in dialect.synchronous:
            return False
        return dialect.lists == "key" or upstream.settings.account_token is not None

    def typical_seconds(self, task: Task) -> float:
        """Say how long a task of this kind usually takes: learned, else set, else the dialect's own table."""
        learned = self.statistics.median(task)
        if learned is not None:
            return learned
        upstream = self.upstreams.get(task.upstream or "")
        if upstream is not None and upstream.settings.typical_seconds is not None:
            return upstream.settings.typical_seconds
        dialect = self.dialect(task)
        return dialect.typical_seconds.get(task.operation, 60.0) if dialect is not None else 60.0


def _waits(upstreams: Mapping[str, Upstream]) -> Iterator[WaitingFor]:
    for name, upstream in upstreams.items():
        yield WaitingFor(name)
        for dialect in upstream.dialects:
            yield WaitingFor(name, dialect.key)


def upstreams_of(settings: Settings) -> dict[str, Upstream]:
    """Make the configured upstreams ready, in the order in which they serve."""
    return {
        name: Upstream(
            name=name,
            settings=upstream,
            dialects=tuple(DIALECTS[dialect] for dialect in upstream.dialects),
            slots=Slots(upstream.concurrency),
            polls=Slots(4 * upstream.concurrency),
            questions=asyncio.Semaphore(upstream.concurrency),
        )
        for name, upstream in settings.upstreams.items()
    }
