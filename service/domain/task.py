"""The values: a task, its submissions, updates of a provider, and the named sets of states."""

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from service.domain.copying import Copied
from service.domain.kept import Kept
from service.domain.money.quotes import Quote
from service.domain.money.terms import NO_TERMS, Terms

ResultKind = Literal["video", "image", "audio", "text", "model", "json"]
ResultRole = Literal["result", "cover", "last_frame", "preview", "extra"]
CallbackWhen = Literal["ended", "kept"]
Policy = Literal["hold", "fail", "resubmit_once"]
"""The policy for an unconfirmed task when it stays unknown whether a job exists: it waits for its deadline, fails, or is
submitted again, once, at the risk of a second charge."""


class State(StrEnum):
    """The state of a task. ``transitions.py`` has the table of moves."""

    QUEUED = "queued"
    """Not submitted yet, or waiting for an upstream to recover."""
    SUBMITTING = "submitting"
    """A submission is in flight."""
    UNCONFIRMED = "unconfirmed"
    """Sent without a usable answer: the provider may have a job. Never sent again by itself."""
    SUBMITTED = "submitted"
    """The provider accepted it and named an id."""
    RUNNING = "running"
    """The provider works on it."""
    AWAITING_INPUT = "awaiting_input"
    """The provider needs input from the client."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """Dovecote stopped waiting. A later outcome from the provider still counts."""

    @property
    def ended(self) -> bool:
        """Whether the task is over for its client."""
        return self in ENDED


ENDED = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED})
OPEN = frozenset(State) - ENDED
TO_SUBMIT = frozenset({State.QUEUED, State.SUBMITTING})
"""States that the submission journey claims."""
AT_PROVIDER = frozenset({State.SUBMITTED, State.RUNNING, State.AWAITING_INPUT})
"""Open states in which the provider is known to have the job."""
OCCUPYING = frozenset({State.SUBMITTING, State.SUBMITTED, State.RUNNING})
"""States in which a task occupies a slot at its upstream."""
WITHOUT_JOB = frozenset({State.QUEUED, State.UNCONFIRMED})
"""States in which no upstream is known to work on the task."""
MAY_BE_SUBMITTED = TO_SUBMIT | WITHOUT_JOB
"""States in which a task may be submitted, now or later: one that follows a job bought elsewhere is in none of them."""
WITHOUT_RESULT = frozenset({State.FAILED, State.CANCELLED})
"""Ends of a job that produce nothing."""


class Outcome(StrEnum):
    """The outcome of a submission."""

    SENDING = "sending"
    """In flight."""
    TAKEN = "taken"
    """A job exists."""
    REFUSED = "refused"
    """No job exists: this input is not accepted."""
    ACCOUNT = "account"
    """No job exists: the account may not or cannot submit."""
    UNAVAILABLE = "unavailable"
    """No job exists: the upstream could not serve it at that moment."""
    UNCERTAIN = "uncertain"
    """A job may exist."""


MAY_HAVE_JOB = frozenset({Outcome.SENDING, Outcome.TAKEN, Outcome.UNCERTAIN})
"""Outcomes of a submission that has created a job, or may have."""
UNANSWERED = frozenset({Outcome.SENDING, Outcome.UNCERTAIN})
"""Outcomes of a submission of which no answer is known."""
WITHOUT_PURCHASE = frozenset(Outcome) - MAY_HAVE_JOB
"""Outcomes of a submission that created no job, as far as the upstream says."""


class Source(StrEnum):
    """The source of an update."""

    SUBMIT = "submit"
    CALLBACK = "callback"
    POLL = "poll"
    SWEEP = "sweep"
    CLIENT = "client"


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """One output of a task: a URL (temporary, at the provider) or a text."""

    kind: ResultKind
    url: str | None = None
    text: str | None = None
    role: ResultRole = "result"
    item: str | None = None
    """Which of several outputs it belongs to, such as a clip's id: a cover and its song share one. Of models at Replicate
    and fal its place in the output, such as ``images/0``."""
    expires_at: datetime | None = None
    """When the provider deletes it, as it states or as its pages say; None where that is not known."""
    kept: Kept | None = None
    """The copy of it; None where none is made."""

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that the store keeps and, but for the copy, the API shows."""
        shown: dict[str, Any] = {"kind": self.kind, "role": self.role}
        if self.item is not None:
            shown["item"] = self.item
        if self.url is not None:
            shown["url"] = self.url
        if self.text is not None:
            shown["text"] = self.text
        if self.expires_at is not None:
            shown["expires_at"] = self.expires_at.isoformat(timespec="seconds").replace("+00:00", "Z")
        return shown if self.kept is None else {**shown, **self.kept.as_json()}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "Result":
        """Read what :meth:`as_json` gave."""
        return cls(
            kind=kept["kind"],
            role=kept["role"],
            url=kept.get("url"),
            text=kept.get("text"),
            item=kept.get("item"),
            expires_at=datetime.fromisoformat(kept["expires_at"]) if kept.get("expires_at") else None,
            kept=Kept.from_json(kept),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Action:
    """Something that can be done next with a finished task, such as upscaling one of its pictures."""

    id: str
    """The provider's own name for it, valid for this task only."""
    label: str

    def as_json(self) -> dict[str, str]:
        """Return the JSON object that the API shows and the store keeps."""
        return {"id": self.id, "label": self.label}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "Action":
        """Read what :meth:`as_json` gave."""
        return cls(kept["id"], kept["label"])


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """Why a task did not succeed."""

    code: str
    """One of ``errors.CODES``."""
    message: str | None = None
    """The provider's own words: diagnostic, not for end users."""
    retryable: bool = False
    """Whether the same input may succeed when it is submitted again."""

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that the API shows and the store keeps."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "Failure":
        """Read what :meth:`as_json` gave."""
        return cls(code=kept["code"], message=kept.get("message"), retryable=bool(kept.get("retryable")))


@dataclasses.dataclass(frozen=True, slots=True)
class TaskWarning:
    """A possible mistake in a task. The task is submitted all the same."""

    code: str
    """``model_not_listed``."""
    message: str

    def as_json(self) -> dict[str, str]:
        """Return the JSON object that the API shows and the store keeps."""
        return {"code": self.code, "message": self.message}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "TaskWarning":
        """Read what :meth:`as_json` gave."""
        return cls(kept["code"], kept["message"])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A provider's report on a task, in Dovecote's words. Every field is optional: a missing one changes nothing."""

    state: State | None = None
    """None: the message says nothing that may be acted on. The provider's own queue is ``submitted``."""
    external_id: str | None = None
    progress: int | None = None
    """Percent, 0 to 100. Never by itself a proof of success."""
    results: tuple[Result, ...] = ()
    """Previews before the end; all outputs with the end."""
    failure: Failure | None = None
    actions: tuple[Action, ...] = ()
    """The possible follow-ups. Only the latest are valid."""
    cost: float | None = None
    """In the provider's own unit (points, credits)."""
    cost_unit: str | None = None
    """The unit of the cost, where it is another than the dialect's."""
    usage: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Quantities that the provider charges by, as it states them: ``tokens``, ``seconds``, ``images``, ``hardware_seconds``."""
    refunded: bool | None = None
    """Whether the provider says that it has given the price back."""
    omitted: int = 0
    """How many results and actions were left out, because a task keeps no more."""
    incomplete: bool = False
    """Whether it says that the job is done and lacks the output: a query brings it."""
    job_host: str | None = None
    """The provider's host that knows the job, where the answer names another than the upstream's."""
    unknown_word: str | None = None
    """A status word that no table knows: counted and logged, never acted on."""
    unknown_in: str | None = None
    """The part of the provider's message that has the unknown word. Added to the update after it was read."""


@dataclasses.dataclass(frozen=True, slots=True)
class WaitingFor:
    """The reason why a queued task waits: a slot at an upstream, or the upstream's recovery in one dialect."""

    upstream: str
    dialect: str | None = None
    """None: a slot."""

    @property
    def key(self) -> str:
        """The text in the database and in the API: ``elkapi``, or ``elkapi runway/aggregator``."""
        return self.upstream if self.dialect is None else f"{self.upstream} {self.dialect}"

    @classmethod
    def from_key(cls, key: str) -> "WaitingFor":
        """Read a :attr:`key`."""
        upstream, _, dialect = key.partition(" ")
        return cls(upstream, dialect or None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(Copied):
    """A request of a client, tracked from acceptance to its end. All times are aware, UTC."""

    id: UUID
    client: str
    family: str
    operation: str
    input: Mapping[str, Any]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    large_input: bool = False
    """Whether ``input`` and ``options`` are too large to be stored with the task. Read from the database they are
    shortened, and the whole ones are read only where they are needed."""
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    parent_id: UUID | None = None
    """The task that this one goes on from. It is served where its parent was, and nowhere else."""
    inherited: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The values that the dialect inherits from the parent, such as the provider's id of it."""
    callback_url: str | None = None
    callback_events: tuple[str, ...] = ()
    """Types of the messages that go to the ``callback_url``; none named: the end, and what comes late."""
    callback_when: CallbackWhen = "ended"
    """When the message about the end goes there: at the end, or once the results are kept or lost."""
    callback_format: str = "dovecote"
    """The form of those messages: Dovecote's own, or that of another API."""
    idempotency_key: str | None = None
    request_hash: str = ""
    route: tuple[str, ...] = ()
    """The upstreams that may serve it, in order."""
    skipped_upstreams: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The upstreams that might have served it and cannot say its input, with the reason."""
    on_uncertain: Policy = "hold"
    adopted: bool = False
    """Whether its job was bought elsewhere: Dovecote follows the job, and never submits the task."""
    warnings: tuple[TaskWarning, ...] = ()
    terms: Terms = NO_TERMS
    """The limit of its cost, and the preferred order of the upstreams."""
    quotes: tuple[Quote, ...] = ()
    """The expected price at each upstream of its route when it was accepted; empty where no price is known."""

    state: State = State.QUEUED
    upstream: str | None = None
    """The upstream it was handed to last."""
    dialect: str | None = None
    submission_id: UUID | None = None
    """The submission that serves it, or may. A job of any other submission is a duplicate."""
    external_id: str | None = None
    job_host: str | None = None
    """The provider's host that knows the job, where that is another than the upstream's."""
    progress: int | None = None
    results: tuple[Result, ...] = ()
    failure: Failure | None = None
    next_actions: tuple[Action, ...] = ()
    cost: float | None = None
    cost_unit: str | None = None
    """The unit of the cost, where the provider names another than the dialect's."""
    usage: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Quantities that the provider charges by."""
    refunded: bool | None = None
    settlements: tuple[Mapping[str, Any], ...] = ()
    """The latest entry of the ledger for each of its submissions, as JSON."""
    decided_by: Literal["provider", "dovecote"] | None = None
    """The party that ended it. The provider's outcome is final; a later one of the provider replaces ours."""
    outcome_source: Source | None = None
    """How the end was learned."""
    cancel_requested_at: datetime | None = None
    answered_at: datetime | None = None
    """When the input that the provider wanted was sent to it."""
    callback_expected: bool = False
    """Whether the upstream was given a callback URL that it can reach."""
    missing_since: datetime | None = None
    """Since when the provider has said, without a break, that it does not know the task."""
    last_error: str | None = None
    """The last error; None after a usable answer."""
    waits_for: WaitingFor | None = None
    """The reason why it waits while it is queued."""
    unconfirmed_since: datetime | None = None
    """Since when it is unknown whether an upstream has it; kept during a resubmit."""
    sequence: int = 0
    """Number of its last event."""

    created_at: datetime
    updated_at: datetime
    submitted_at: datetime | None = None
    finished_at: datetime | None = None
    deadline_at: datetime
    input_removed_at: datetime | None = None
    results_removed_at: datetime | None = None
    erased_at: datetime | None = None
    """When retention removed its input and its results, and when all of its content was erased on demand."""
    due_at: datetime | None = None
    """When it next needs attention. The only queue there is."""
    attempts: int = 0
    """How often it was claimed; a completion names the attempt it belongs to."""
    traceparent: str | None = None
    """The context of its trace, as W3C Trace Context writes it; None where traces are off."""

    @property
    def model(self) -> str | None:
        """The model asked for, where the client named one."""
        model = self.options.get("model", self.input.get("model"))
        return model if isinstance(model, str) else None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One attempt to submit a task to one upstream. It owns the callback token."""

    id: UUID
    task_id: UUID
    upstream: str
    dialect: str
    outcome: Outcome = Outcome.SENDING
    external_id: str | None = None
    code: str | None = None
    message: str | None = None
    sent_at: datetime
    settled_at: datetime | None = None
    retry_at: datetime | None = None
    """Before this the upstream is not asked again: it wants so, or has just been unavailable."""
    superseded_at: datetime | None = None
    """Since when another submission may serve the task. If this one made a job nevertheless, it is a duplicate
    one, and probably charged."""
    job_state: str | None = None
    """The state of a duplicate job."""
    cost: float | None = None
    """The cost of a duplicate job, in the provider's own unit."""
    refunded: bool | None = None
    """Whether the provider says that it has given the price of a duplicate job back."""
    due_at: datetime | None = None
    """When a duplicate job is looked after next."""
    attempts: int = 0

    @property
    def may_serve(self) -> bool:
        """Whether it made a job that may still have a result, or has one."""
        return self.outcome is Outcome.TAKEN and self.external_id is not None and self.job_state not in WITHOUT_RESULT

    @property
    def denied(self) -> bool:
        """Whether the upstream has reported that it created no job."""
        return self.outcome in WITHOUT_PURCHASE
