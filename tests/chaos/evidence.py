"""What the outside saw: written line by line as it happens, and read by the verifier. It imports nothing of ``service/``."""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import orjson


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line of evidence."""

    at: float = dataclasses.field(default_factory=time.time)
    """When it was seen, in seconds since 1970 by the clock of the outside."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Accepted(Record):
    """A submit that was answered with 2xx."""

    kind: ClassVar[str] = "accepted"
    task: str
    client: str
    prompt: str
    key: str | None
    """Its idempotency key; None at a door."""
    family: str
    hook: bool
    """Whether a completion webhook is due."""
    on_uncertain: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Refused(Record):
    """An answer that no request of the load may get: it is an error of the server."""

    kind: ClassVar[str] = "refused"
    what: str
    status: int
    text: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Called(Record):
    """A callback that a provider sent. ``status`` is 0 where no answer came, and -1 where it was lost on its way."""

    kind: ClassVar[str] = "called"
    token: str
    body: str
    sha256: str
    status: int
    own: bool
    """Whether a sandbox sent it; else the load made it up."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Arrived(Record):
    """A message that a receiver got, and what it answered. 0: it hung up without an answer."""

    kind: ClassVar[str] = "arrived"
    message: str
    type: str | None
    task: str | None
    state: str | None
    sequence: int | None
    sha256: str
    verified: bool
    status: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reading(Record):
    """A task as the API showed it, between ``asked`` and ``at``."""

    kind: ClassVar[str] = "reading"
    asked: float
    task: str
    state: str
    explanation: str
    document: dict[str, Any]
    clock_off: bool
    """Whether the clock of the process that answered may have been wrong."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Job(Record):
    """A paid job of a sandbox, as it was at the end."""

    kind: ClassVar[str] = "job"
    upstream: str
    id: str
    prompt: str
    created_at: float
    ended_at: float | None
    state: str
    callback_token: str | None
    faults: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fault(Record):
    """A fault that began or ended."""

    kind: ClassVar[str] = "fault"
    name: str
    target: str
    event: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Seen(Record):
    """A row as it was in the database during the round. It is written when it has changed."""

    kind: ClassVar[str] = "seen"
    table: str
    id: str
    state: str
    number: int
    """The attempts of a message, the sequence of a task."""
    final: bool
    """Whether nothing may change it any more: a delivered message, a task that its provider has decided."""
    job: str | None = None
    """The provider's id of a task's job."""


KINDS = {each.kind: each for each in (Accepted, Refused, Called, Arrived, Reading, Seen, Job, Fault)}
Kind = TypeVar("Kind", bound=Record)


class Evidence:
    """The evidence of a round."""

    def __init__(self, file: Path) -> None:
        """Prepare to write to a file."""
        self.file = file
        self._records: list[Record] = []
        self._lines = file.open("ab")

    def add(self, record: Record) -> None:
        """Write a record."""
        self._records.append(record)
        self._lines.write(orjson.dumps({"kind": KINDS_OF[type(record)], **dataclasses.asdict(record)}) + b"\n")

    def close(self) -> None:
        """Write the rest."""
        self._lines.close()

    def of(self, kind: type[Kind]) -> list[Kind]:
        """Return the records of a kind."""
        return [each for each in self._records if isinstance(each, kind)]


KINDS_OF = {each: name for name, each in KINDS.items()}


def read(file: Path) -> Iterator[Record]:
    """Read the evidence of a round."""
    for line in file.read_bytes().splitlines():
        fields = orjson.loads(line)
        yield KINDS[fields.pop("kind")](**fields)
