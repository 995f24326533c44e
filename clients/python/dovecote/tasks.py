"""Tasks and their events. Fields that are unknown to this version are kept in ``document``."""

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

from dovecote.money import BillingDifference, Quote, Settlement

ENDED: Final = frozenset({"succeeded", "failed", "cancelled", "expired"})
"""The states in which a task has ended."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One output of a task."""

    kind: str
    """``video``, ``image``, ``audio``, ``text``, ``model`` or ``json``."""
    role: str
    """``result``, or ``cover``, ``last_frame``, ``preview``, ``extra``."""
    url: str | None = None
    """Stored by the provider for a limited time: download it soon."""
    text: str | None = None
    item: str | None = None
    """Which of several outputs it belongs to."""
    expires_at: dt.datetime | None = None
    """When the provider deletes it; None where that is not known."""
    kept: str | None = None
    """The copy of the file at Dovecote: ``pending``, ``kept``, ``lost``, ``deleted`` or ``off``; None for a text."""
    content_url: str | None = None
    """The kept copy. It needs your API key: :meth:`Results.save` downloads it."""
    sha256: str | None = None
    size: int | None = None
    media_type: str | None = None
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    """Seconds, of videos and sounds."""
    marked: bool = False
    """Whether the copy has the mark "made by AI"."""
    not_marked_because: str | None = None
    """The reason for a missing mark, where marks are set up."""
    lost_because: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ResultLink:
    """A link to the kept copy of a result. It needs no API key."""

    url: str
    expires_at: dt.datetime
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a task failed."""

    code: str
    message: str | None = None
    """The provider's message: for diagnosis, not for end users."""
    retryable: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """An action that a finished task offers."""

    id: str
    label: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TaskWarning:
    """Something that may be wrong with a task, although it is submitted."""

    code: str
    """``model_not_listed``."""
    message: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task as the API shows it."""

    id: str
    family: str
    operation: str
    state: str
    explanation: str = ""
    """One sentence: the task's state, and why it is not finished yet."""
    progress: int | None = None
    results: tuple[Result, ...] = ()
    next_actions: tuple[Action, ...] = ()
    awaits: Mapping[str, Any] | None = None
    """In ``awaiting_input``: under ``input``, the JSON Schema of what :meth:`Client.send_input` sends."""
    failure: Failure | None = None
    route: tuple[str, ...] = ()
    """The upstreams that may serve it, in order."""
    skipped_upstreams: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The upstreams that do not support its input, with the reason."""
    on_uncertain: str | None = None
    upstream: str | None = None
    """The upstream of the last submission."""
    dialect: str | None = None
    external_id: str | None = None
    """The provider's id of the job."""
    adopted: bool = False
    """Whether its job was bought elsewhere: Dovecote follows it, and never submits it."""
    warnings: tuple[TaskWarning, ...] = ()
    """Possible mistakes in it, although it is submitted."""
    forward_callbacks_to: str | None = None
    """For an adopted task, from ``adopt`` and ``get``: forward the provider's callbacks about the job to this URL."""
    quote: tuple[Quote, ...] = ()
    """The expected price at each upstream of the route when it was accepted."""
    max_cost: Mapping[str, str] | None = None
    """The most that it may cost, as requested: ``{"amount": "0.50", "unit": "USD"}``."""
    prefer: str | None = None
    """The requested order of the upstreams: ``route``, ``cheapest`` or ``fastest``."""
    when_over_budget: str | None = None
    """The requested behaviour when a budget has no room: ``refuse`` or ``wait``."""
    on_moderated: str | None = None
    """The requested behaviour when a provider withholds a finished output: ``fail``, ``retry`` or ``next_upstream``."""
    moderated_retries: int | None = None
    """How many times it may be bought again for that reason."""
    cost: float | None = None
    """In the provider's own unit."""
    cost_unit: str | None = None
    usage: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Quantities that the provider charges by, such as ``tokens``."""
    settlements: tuple[Settlement, ...] = ()
    """The cost of each submission, by the latest evidence."""
    billing_differences: tuple[BillingDifference, ...] = ()
    """The quantities that were billed otherwise than they were made."""
    refunded: bool | None = None
    outcome_source: str | None = None
    queue_position: int | None = None
    """1 is next. Only :meth:`Client.get` fills it, for a task that waits for an upstream."""
    waits_for: str | None = None
    """The upstream, or its dialect, that a queued task waits for."""
    input: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    parent_id: str | None = None
    callback_url: str | None = None
    callback_events: tuple[str, ...] = ()
    callback_when: str = "ended"
    callback_format: str = "dovecote"
    sequence: int = 0
    """Number of its last event: of two copies of a task, the one with the higher number is the newer."""
    truncated: bool = False
    """Whether large fields were left out, as in events and webhooks. :meth:`Client.get` returns all of them."""
    url: str | None = None
    """In a truncated task: the address of the whole task."""
    client: str | None = None
    """The owner; shown to API keys with the scope ``admin`` only."""
    created_at: dt.datetime | None = None
    updated_at: dt.datetime | None = None
    submitted_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None
    deadline_at: dt.datetime | None = None
    input_removed_at: dt.datetime | None = None
    """When the server removed the input and the options, as its retention requires."""
    results_removed_at: dt.datetime | None = None
    """When the server removed the results, as its retention requires."""
    erased_at: dt.datetime | None = None
    """When the content was erased because a client asked for it."""
    next_check_at: dt.datetime | None = None
    replayed: bool = dataclasses.field(default=False, compare=False, metadata={"local": True})
    """Returned by ``submit``: whether the idempotency key was known, so that this is the task of an earlier request."""
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    """The whole task as JSON."""

    @property
    def ended(self) -> bool:
        """Whether the task has ended."""
        return self.state in ENDED

    @property
    def succeeded(self) -> bool:
        """Whether the task has ended with success."""
        return self.state == "succeeded"

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs of the results, without covers, previews and other extras."""
        return tuple(result.url for result in self.results if result.role == "result" and result.url is not None)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TaskEvent:
    """One entry of a task's history."""

    sequence: int
    type: str
    source: str
    """The source of the event: ``api``, ``callback``, ``poll`` …"""
    at: dt.datetime
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of the feed."""

    id: str
    """Its cursor in the feed: pass it as ``after`` to continue behind it."""
    type: str
    """``task.submitted``, ``task.running``, ``task.progress``, ``task.succeeded`` …"""
    timestamp: dt.datetime | None = None
    sequence: int
    """Number of the event in the task's own history."""
    task_id: str | None = None
    data: Task
    """The task when the event was read; it may be newer than the event."""

    @property
    def task(self) -> Task:
        """The task when the event was read; it may be newer than the event."""
        return self.data
