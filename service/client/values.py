"""What Dovecote says, as values. Fields that this version does not know are kept in ``document``."""

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any, Final, Self

ENDED: Final = frozenset({"succeeded", "failed", "cancelled", "expired"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One output of a task."""

    kind: str
    """``video``, ``image``, ``audio``, ``text`` or ``model``."""
    role: str
    """``result``, or ``cover``, ``last_frame``, ``preview``, ``extra``."""
    url: str | None = None
    """At the provider, and temporary: copy it soon."""
    text: str | None = None
    item: str | None = None
    """Which of several outputs it belongs to."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a task failed."""

    code: str
    message: str | None = None
    """The provider's own words: diagnostic, not for end users."""
    retryable: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What can be done next with a finished task."""

    id: str
    label: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task as the API shows it."""

    id: str
    family: str
    operation: str
    state: str
    explanation: str
    """In one sentence: where it stands, and why it is not finished yet."""
    progress: int | None
    results: tuple[Result, ...]
    failure: Failure | None
    next_actions: tuple[Action, ...]
    input: Mapping[str, Any]
    options: Mapping[str, Any]
    labels: Mapping[str, str]
    upstream: str | None
    external_id: str | None
    cost: float | None
    parent_id: str | None
    callback_url: str | None
    sequence: int
    """Number of its last event: of two views of a task, the one with the higher number is the newer."""
    truncated: bool
    """Whether something large was left out, as in events and webhooks; ``get`` has all of it."""
    created_at: dt.datetime | None
    updated_at: dt.datetime | None
    submitted_at: dt.datetime | None
    finished_at: dt.datetime | None
    deadline_at: dt.datetime | None
    document: Mapping[str, Any] = dataclasses.field(repr=False, compare=False)
    """All that the server said."""

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.state in ENDED

    @property
    def succeeded(self) -> bool:
        """Whether it is over, and well."""
        return self.state == "succeeded"

    @property
    def urls(self) -> tuple[str, ...]:
        """Where its results are, without covers, previews and the like."""
        return tuple(result.url for result in self.results if result.role == "result" and result.url is not None)

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """Read a task.

        :raises KeyError, TypeError, ValueError: when it is none
        """
        failure = document.get("failure")
        plain: dict[str, Any] = {name: document[name] for name in ("id", "family", "operation", "state")}
        plain |= {name: document.get(name) for name in _MAYBE}
        plain |= {name: document.get(name) or {} for name in ("input", "options", "labels")}
        plain |= {name: read_time(document.get(name)) for name in _TIMES}
        return cls(
            **plain,
            explanation=document.get("explanation", ""),
            results=tuple(_known(Result, each) for each in document.get("results", ())),
            failure=None if failure is None else _known(Failure, failure),
            next_actions=tuple(_known(Action, each) for each in document.get("next_actions", ())),
            sequence=document.get("sequence", 0),
            truncated=document.get("truncated", False),
            document=document,
        )


_MAYBE: Final = ("progress", "upstream", "external_id", "cost", "parent_id", "callback_url")
_TIMES: Final = ("created_at", "updated_at", "submitted_at", "finished_at", "deadline_at")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a task."""

    id: str
    """Its place in the feed: what to go on after."""
    type: str
    """``task.submitted``, ``task.running``, ``task.progress``, ``task.succeeded`` …"""
    timestamp: dt.datetime | None
    sequence: int
    """Number of the event in the task's own history."""
    task: Task
    """As it was when the event was read, which may be further on already."""

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """Read an event.

        :raises KeyError, TypeError, ValueError: when it is none
        """
        return cls(
            id=document["id"],
            type=document["type"],
            timestamp=read_time(document.get("timestamp")),
            sequence=document["sequence"],
            task=Task.read(document["data"]),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A webhook that was verified."""

    id: str
    """The same for every attempt to deliver it: do the work once for each."""
    type: str
    timestamp: dt.datetime | None
    sequence: int
    task: Task


def _known(kind: Any, document: Mapping[str, Any]) -> Any:
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in document.items() if name in names})


def read_time(text: str | None) -> dt.datetime | None:
    """Read a time in RFC 3339."""
    return None if text is None else dt.datetime.fromisoformat(text)
