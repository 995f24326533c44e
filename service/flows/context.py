"""The context of a process: settings, database, network, clock, randomness and signals. It holds values and decides nothing."""

import asyncio
import dataclasses
import datetime as dt
import logging
import math
import os
import platform
import random
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final
from uuid import UUID, uuid4

import uuid_utils.compat as uuid_utils

from service.domain.callback_token import Tokens
from service.domain.destination_slots import MAX_DELIVERIES, DestinationSlots
from service.domain.money.budgets import Budget, read_budget
from service.domain.money.learned import Prices
from service.domain.money.quotes import PriceBook
from service.domain.statistics import Statistics
from service.domain.task import Task, Update, WaitingFor
from service.domain.validation import Mistake
from service.flows.concurrency import Shared, Slots, Spacing, Throttle
from service.flows.memory import LargeWork
from service.flows.metrics.process import Metrics
from service.flows.metrics.tracing import Traces
from service.flows.signals.handoff import Handoff
from service.flows.signals.live import LiveAnswers
from service.flows.signals.local import Signals
from service.http.client import Http
from service.http.tls import trusting
from service.objects import Objects
from service.providers.dialect import Dialect
from service.providers.media import choose
from service.providers.registry import DIALECTS, KINDS
from service.providers.wire import ModelList
from service.settings.model import Settings, UpstreamSettings
from service.settings.prices import load_prices
from service.store.callbacks import Received
from service.store.database import Database
from service.store.restoration import Mark
from service.store.writer import Writers

log = logging.getLogger("dovecote")

MAX_HANDED_CALLBACKS: Final = 250
"""Callbacks that wait in memory for a round."""
MAX_HANDED_TASKS: Final = 128
"""Tasks that wait in memory for a round."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_NO_ID = UUID(int=0)
RENEWAL_COUNTS: Final = 20.0
"""Seconds for which all files of a task share one report with new URLs, so that its provider is asked only once meanwhile."""
MAX_RENEWALS: Final = 200
""":class:`Context` remembers that many such reports."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KnownModels:
    """The known models of each upstream."""

    models: ModelList | None = None
    """The latest list; None before there was one."""
    at: dt.datetime | None = None
    """When that list was read."""
    error: str | None = None
    """Why the latest request got no list."""
    asked_at: dt.datetime
    """When the latest request was sent."""


@dataclasses.dataclass(slots=True)
class ModelCache:
    """The models of one upstream, in the memory of this process."""

    known: KnownModels | None = None
    lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    """Held while they are requested, so that requests at once ask only once."""


@dataclasses.dataclass(slots=True)
class PublicKeys:
    """The public keys of one upstream, in the memory of this process."""

    text: str | None = None
    """The latest JSON Web Key Set that was read."""
    read_at: dt.datetime | None = None
    asked_at: dt.datetime | None = None
    """When the latest request was sent, whether it was answered or not."""
    doubted: bool = False
    """Whether a callback was signed by none of them, so that they may have changed."""
    lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A configured upstream with its dialects, and what bounds its use by this process."""

    name: str
    settings: UpstreamSettings
    dialects: tuple[Dialect, ...]
    slots: Slots
    """Bounds the submits in flight."""
    polls: Slots
    """Bounds the polls in flight or waiting, so that an upstream that hangs does not delay polls of others."""
    postponed: Spacing = dataclasses.field(default_factory=lambda: Spacing(per_second=100, longest=60.0))
    """Spreads the polls that find no slot: each costs a claim and a write."""
    questions: asyncio.Semaphore
    """Bounds the other requests in flight, so that slow submits delay none of them."""
    client_polls: dict[str, dt.datetime] = dataclasses.field(default_factory=dict)
    """The time, by client, from which its next request to poll fits into its share."""
    gives_links: bool = False
    """Whether it can fetch media from Dovecote, or from the bucket."""
    tls: ssl.SSLContext | None = None
    """The authorities that are trusted for it; None: the usual ones."""
    models: ModelCache = dataclasses.field(default_factory=ModelCache)
    """The models that it offers, as far as this process has asked."""
    public_keys: PublicKeys = dataclasses.field(default_factory=PublicKeys)
    """The keys by which it signs callbacks, where it publishes them."""
    batch_retry_at: dict[str, float] = dataclasses.field(default_factory=dict)
    """The time, by dialect, until which tasks are polled singly because the batch query failed, on the monotonic clock."""

    @property
    def kind(self) -> str:
        """The name by which its host is known; blank where it is not."""
        known: str = KINDS.get(self.settings.base_url.rstrip("/"), "")
        return known

    @property
    def limited(self) -> bool:
        """Whether its limits are counted over all processes."""
        return self.settings.open_tasks is not None or self.settings.submits_per_second is not None

    @property
    def fetches_keys(self) -> bool:
        """Whether its callbacks are verified by keys that it publishes. A configured key counts instead."""
        return bool(self.settings.callback_keys_url) and self.settings.callback_key is None

    @property
    def callback_key(self) -> str | None:
        """The key that verifies its callbacks: the configured one, or the fetched public keys. None: there is none."""
        configured = self.settings.callback_key
        return self.public_keys.text if configured is None else configured.get_secret_value()

    def dialect_for(self, family: str, operation: str) -> Dialect | None:
        """Return the first of its dialects that offers an operation."""
        fitting = (each for each in self.dialects if each.offers(family, operation))
        return next(fitting, None)

    def dialect_for_task(self, task: Task) -> Dialect | None:
        """Return the first of its dialects that can express a task; where none can, the first that offers its operation.

        A provider may serve its newer models by another protocol than its older ones.
        """
        fitting = [each for each in self.dialects if each.offers(task.family, task.operation)]
        return self.validated(task)[0] if len(fitting) > 1 else next(iter(fitting), None)

    def validated(self, task: Task) -> tuple[Dialect | None, list[Mistake]]:
        """Return the dialect of :meth:`dialect_for_task`, and its mistakes in the task. Each dialect checks it once."""
        named, first = self.in_its_names(task), None
        for dialect in self.dialects:
            if dialect.offers(task.family, task.operation):
                mistakes = choose(dialect, named, links=self.gives_links).mistakes
                if not mistakes:
                    return dialect, []
                first = first or (dialect, mistakes)
        return first or (None, [])

    def in_its_names(self, task: Task) -> Task:
        """Return a task with the model by the name that this upstream has for it. The stored task keeps the client's."""
        pairs = (each.partition("=") for each in self.settings.model_names)
        theirs = next((new for given, _, new in pairs if given == task.model), None)
        if theirs is None:
            return task
        if "model" in task.options:
            return task.changed(options={**task.options, "model": theirs})
        return task.changed(input={**task.input, "model": theirs})


def _elapsed() -> float:
    """Return seconds since the machine started, including those in which it was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@dataclasses.dataclass(slots=True, kw_only=True)
class Context:
    """The objects that the journeys of a process share. Tests pass their own clock, randomness and network."""

    settings: Settings
    database: Database
    writers: Writers
    http: Http
    tokens: Tokens
    webhook_secret: str
    upstreams: Mapping[str, Upstream]
    signals: Signals = dataclasses.field(default_factory=Signals)
    live: LiveAnswers = dataclasses.field(default_factory=LiveAnswers)
    handed_tasks: Handoff[Task] = dataclasses.field(init=False)
    """Tasks that this process has accepted, on their way to its journey."""
    handed_callbacks: Handoff[Received] = dataclasses.field(init=False)
    """Callbacks that it has stored, likewise."""
    handed_messages: Handoff[Any] = dataclasses.field(init=False)
    """Messages to clients that it has written, with what a delivery needs."""
    statistics: Statistics = dataclasses.field(default_factory=Statistics)
    destination_slots: DestinationSlots = dataclasses.field(default_factory=DestinationSlots)
    unknown_words: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    metrics: Metrics = dataclasses.field(default_factory=Metrics)
    traces: Traces | None = None
    """Records the steps of tasks; None: traces are off."""
    large: LargeWork = dataclasses.field(default_factory=LargeWork)
    answers_about_other_jobs: set[tuple[str, str]] = dataclasses.field(default_factory=set)
    """Upstreams and dialects of which the log has been told that they answered about another job."""
    objects: Objects | None = None
    """The storage of files; None where there is none."""
    throttle: Throttle = dataclasses.field(default_factory=Throttle)
    """Bounds the bytes a second with which results are fetched."""
    renewals: Shared[UUID, Update | None] = dataclasses.field(
        default_factory=lambda: Shared(seconds=RENEWAL_COUNTS, most=MAX_RENEWALS)
    )
    """By task: the provider's latest report with new URLs of its files, which all of them share."""
    clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
    chance: Callable[[], float] = random.random
    monotonic: Callable[[], float] = _elapsed
    """Seconds that no change of the wall clock affects, for the age of a claim."""
    process: str = dataclasses.field(default_factory=lambda: f"{platform.node()}:{os.getpid()}:{uuid4().hex[:8]}")
    """The name of this process, as the holder of leases."""
    mark: Mark | None = None
    """Beside a SQLite database: by it a restore is detected."""
    waits: tuple[WaitingFor, ...] = ()
    """Everything that a queued task can wait for."""
    limited: frozenset[str] = frozenset()
    """Upstreams whose slots are counted over all processes."""
    prices: Mapping[str, PriceBook] = dataclasses.field(default_factory=dict)
    """The known prices, by upstream. An upstream without any price is missing."""
    learned_prices: Prices = dataclasses.field(default_factory=dict)
    """The prices that charges have shown, by upstream, family, operation and model."""
    own_budgets: tuple[Budget, ...] = ()
    """The budgets of the settings."""
    budgets: tuple[Budget, ...] = ()
    """All budgets, with those that operators have set, as they were read last."""
    budgets_read_at: float = -math.inf
    """When they were read, by :attr:`monotonic`."""
    balance_readings: dict[str, Decimal] = dataclasses.field(default_factory=dict)
    """By upstream: the balance that the last round has read, and that the next one is to confirm."""
    price_changes: dict[tuple[str, str], int] = dataclasses.field(default_factory=dict)
    """By upstream and price: how many charges in a row were outside the quoted range."""
    started_at: dt.datetime = _EPOCH
    """When this process started, by its clock."""
    _last_id: UUID = _NO_ID

    def __post_init__(self) -> None:
        """Derive the start, what can be waited for, prices and limited upstreams. Count the commits of the writers."""
        self.writers.observe(self.metrics.committed)
        journeys = self.signals.journeys
        self.handed_tasks = Handoff(MAX_HANDED_TASKS, journeys["submit"], monotonic=self.monotonic)
        self.handed_callbacks = Handoff(MAX_HANDED_CALLBACKS, journeys["callbacks"], monotonic=self.monotonic)
        self.handed_messages = Handoff(MAX_DELIVERIES, journeys["webhooks"], monotonic=self.monotonic)
        self.metrics.start_at_zero(
            {name: [each.facts.key for each in upstream.dialects] for name, upstream in self.upstreams.items()}
        )
        if self.started_at is _EPOCH:
            self.started_at = self.now()
        self.waits = tuple(_waits(self.upstreams))
        self.prices = _prices(self.settings, self.upstreams)
        self.own_budgets = self.budgets = tuple(map(read_budget, self.settings.money.budgets))
        self.limited = frozenset(name for name, upstream in self.upstreams.items() if upstream.limited)

    @property
    def reserves(self) -> bool:
        """Whether submissions may have reservations: a price or a budget is known, or prices were learned."""
        return bool(self.prices or self.budgets or self.learned_prices)

    def now(self) -> dt.datetime:
        """Return the current time: aware, UTC."""
        return self.clock()

    def new_id(self) -> UUID:
        """Return a new id (UUIDv7). Ids sort by time, and within a millisecond by the order of the calls."""
        made: UUID = uuid_utils.uuid7(nanoseconds=(self.now() - _EPOCH) // _MICROSECOND * 1000)
        self._last_id = made if made > self._last_id else UUID(int=self._last_id.int + 1)
        return self._last_id

    def dialect(self, task: Task) -> Dialect | None:
        """Return the dialect in which a task was submitted."""
        return DIALECTS.get(task.dialect or "")


def _waits(upstreams: Mapping[str, Upstream]) -> Iterator[WaitingFor]:
    for name, upstream in upstreams.items():
        yield WaitingFor(name)
        for dialect in upstream.dialects:
            yield WaitingFor(name, dialect.facts.key)


def _prices(settings: Settings, upstreams: Mapping[str, Upstream]) -> dict[str, PriceBook]:
    """Return the prices of each upstream that has any."""
    whole = load_prices(settings.money.prices_file, shipped=settings.money.shipped_prices)
    found = {name: whole.about(name, upstream.kind) for name, upstream in upstreams.items()}
    return {name: part for name, part in found.items() if part.rules}


def upstreams_of(settings: Settings) -> dict[str, Upstream]:
    """Return the configured upstreams by name, in the order of preference."""
    return {
        name: Upstream(
            name=name,
            settings=upstream,
            dialects=tuple(DIALECTS[dialect] for dialect in upstream.dialects),
            slots=Slots(upstream.concurrency),
            polls=Slots(4 * upstream.concurrency),
            questions=asyncio.Semaphore(upstream.concurrency),
            gives_links=settings.gives_links,
            tls=None if upstream.ca_file is None else trusting(upstream.ca_file),
        )
        for name, upstream in settings.upstreams.items()
    }
