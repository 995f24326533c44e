"""The families, their operations, and the upstreams that serve them."""

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OperationDialect:
    """The abilities of a wire protocol for an operation."""

    name: str
    upstreams: tuple[str, ...] = ()
    """The configured upstreams that serve the operation by it."""
    callbacks: bool = False
    """Whether the provider can call back. Without that, Dovecote polls."""
    signs: bool = False
    """Whether the provider signs its callbacks."""
    synchronous: bool = False
    """Whether the answer to the submit is the result."""
    poll_batch: int = 1
    """How many tasks one poll asks for."""
    cancel: bool = False
    """Whether a running job can be cancelled at the provider."""
    typical_seconds: float | None = None
    """The usual duration of a task, until Dovecote has measured it."""
    result_lifetime_seconds: float | None = None
    """How long the provider keeps outputs; None where its pages do not say."""
    cost_unit: str = ""
    """The unit of ``Task.cost``, where the provider states a cost."""
    experimental: bool = False
    """Whether it is built from doubtful sources."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An operation of a family."""

    name: str
    title: str = ""
    aliases: tuple[str, ...] = ()
    produces: str = ""
    deadline_seconds: float | None = None
    parent: str | None = None
    """Whether it takes a ``parent_id``: ``required``, ``optional`` or None."""
    answer: Mapping[str, Any] | None = None
    """JSON Schema of the input that it may wait for before it ends; None where it never does."""
    upstreams: tuple[str, ...] = ()
    """The configured upstreams that serve it, in order."""
    dialects: tuple[OperationDialect, ...] = ()
    """The wire protocols that have it, also those of other upstreams."""
    input: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """JSON Schema of the task's input."""
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A kind of media job, such as ``runway``."""

    name: str
    title: str = ""
    operations: tuple[Operation, ...] = ()
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def operation(self, name: str) -> Operation | None:
        """Return the operation with this name or alias; None where there is none."""
        return next((each for each in self.operations if name in (each.name, *each.aliases)), None)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """The circuit breaker of one dialect of an upstream."""

    dialect: str
    state: str
    """``closed``, ``open``, ``half_open`` or ``probing``."""
    failures: int = 0
    opened_at: dt.datetime | None = None
    open_until: dt.datetime | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of an upstream; None means no limit."""

    open_tasks: int | None = None
    submits_per_second: float | None = None
    polls_per_second: float | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """The credit that is left on an account."""

    left: float | None = None
    unit: str | None = None
    low: bool = False
    error: str | None = None
    """Why the last query failed."""
    at: dt.datetime | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelList:
    """The models that an upstream offers."""

    upstream: str
    models: tuple[str, ...] = ()
    complete: bool = True
    """False where the upstream has more models than are listed here."""
    at: dt.datetime | None = None
    """When the list was read."""
    error: str | None = None
    """Why the latest request got no list: then this is an older one."""
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An upstream that gets no tasks until an operator resumes it."""

    mode: str
    """``paused`` or ``draining``."""
    by: str = ""
    since: dt.datetime | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A configured account of a provider."""

    name: str
    base_url: str = ""
    dialects: tuple[str, ...] = ()
    callbacks: bool = False
    """Whether callbacks can arrive from it."""
    callback_share: float | None = None
    circuits: tuple[Circuit, ...] = ()
    open_tasks: int = 0
    waiting: int = 0
    limits: Limits = Limits()
    credit: Credit | None = None
    held: Held | None = None
    """How an operator holds it; None: it is given tasks."""
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)
