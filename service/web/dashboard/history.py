"""The values of a task's time line, and the records that it is made from. Pure."""

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final, Literal
from uuid import UUID

from service.domain.events import Event
from service.domain.task import State, Submission, Task
from service.store.callbacks import Received
from service.store.history import Answer, Poll
from service.store.webhooks.attempts import Delivery
from service.store.webhooks.messages import Message
from service.web.dashboard.bodies import Body
from service.web.dashboard.decisions import Chip
from service.web.dashboard.paid import Tone

Kind = Literal["submission", "callback", "poll", "state", "act", "message"]
KINDS: Final[Mapping[Kind, str]] = {
    "submission": "Submissions",
    "callback": "Callbacks",
    "poll": "Polls",
    "state": "States",
    "act": "Acts",
    "message": "Messages",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """One of several equal things that an item stands for, such as a poll."""

    at: str
    words: str
    measure: str = ""
    tone: Tone | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One line of the time line."""

    kind: Kind
    at: dt.datetime
    title: str
    wire: str = ""
    """The arrow, by its symbol; blank for a state."""
    tone: Tone | None = None
    """The tone of the arrow."""
    state: State = State.QUEUED
    """The task's state from here on."""
    chips: tuple[Chip, ...] = ()
    measure: str = ""
    meaning: str = ""
    bodies: tuple[Body, ...] = ()
    parts: tuple[Part, ...] = ()
    callback: UUID | None = None
    """The callback that can be run again."""
    message: UUID | None = None
    count: int = 1
    """How many equal things it stands for."""
    until: dt.datetime | None = None
    """When the last of several equal things happened."""
    future: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A callback with what this version reads in it."""

    received: Received
    says: str
    signed: bool
    bodies: tuple[Body, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Everything that is known of a task."""

    task: Task
    events: Sequence[Event]
    submissions: Sequence[Submission]
    answers: Mapping[UUID, Answer]
    sent: Mapping[UUID, Body]
    """The request of each submission, as Dovecote writes it today."""
    callbacks: Sequence[Heard]
    polls: Sequence[Poll]
    messages: Sequence[Message]
    attempts: Mapping[UUID, Sequence[Delivery]]
