"""What is asked of a server, when it is asked again, and what its answers mean: all but the network and the clock.

A conversation is a generator. It yields an :class:`Ask` or a :class:`Pause`, is sent what came of it, and returns what the
caller wanted to know. The two clients differ in how they carry that out, and in nothing else.
"""

import dataclasses
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4

from service.client.errors import (
    DovecoteError,
    FieldError,
    Problem,
    StillOpen,
    UnexpectedAnswer,
    Unreachable,
)
from service.client.values import Event, Task

PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds before each further try; the last of them from then on."""
PATIENCE: Final = 15.0
"""Seconds for which a request is tried again while there is no answer."""
RESTART: Final = 300.0
"""The same where somebody waits anyway: a server may be started again meanwhile."""
LONGEST_RETRY_AFTER: Final = 60.0
LONGEST_POLL: Final = 30
"""Seconds that one question waits at the server."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request to be sent."""

    method: str
    path: str
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    document: Any = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    waits: float = 0.0
    """Seconds that the server may take longer than usual."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pause:
    """Time to let pass."""

    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes


Clock = Callable[[], float]
"""Gives seconds since some moment."""
Given = TypeVar("Given")
Talk = Generator[Ask | Pause, Reply | Unreachable | None, Given]
"""A conversation that ends with something."""
TaskOrId = Task | str | UUID


# ── one question ───────────────────────────────────────────────────────────────────────────────────────────────────


def asked(question: Ask | Callable[[], Ask], clock: Clock, *, patience: float = PATIENCE) -> Talk[Any]:
    """Ask until there is an answer, and give its document. Only for what may be repeated.

    :param question: or what makes it anew for each try
    :param patience: seconds after which no further try is made
    :raises Problem: when the server refuses
    :raises Unreachable: when no answer came
    :raises UnexpectedAnswer: when something else answered
    """
    began = clock()
    for pause in _pauses():
        reply = yield question() if callable(question) else question
        if isinstance(reply, Reply) and _is_success(reply):
            return read_document(reply)
        error = refusal(reply) if isinstance(reply, Reply) else reply or Unreachable("nothing was sent")
        seconds = max(pause, min(error.retry_after, LONGEST_RETRY_AFTER))
        if not error.transient or clock() - began + seconds > patience:
            raise error
        yield Pause(seconds)
    raise AssertionError("pauses do not end")


def _pauses() -> Generator[float, None, None]:
    yield from PAUSES
    while True:
        yield PAUSES[-1]


def _is_success(reply: Reply) -> bool:
    return 200 <= reply.status < 300  # noqa: PLR2004 - the class of statuses that says so


def read_document(reply: Reply) -> Any:
    """Read the body of a success.

    :raises UnexpectedAnswer: when it is not JSON
    """
    try:
        return json.loads(reply.body)
    except ValueError:
        raise UnexpectedAnswer(reply.status, _words(reply)) from None


def refusal(reply: Reply) -> Problem | UnexpectedAnswer:
    """Read the problem that a server answered."""
    retry_after = _seconds(reply.headers.get("retry-after", ""))
    try:
        document = json.loads(reply.body)
        return Problem(
            reply.status,
            document["code"],
            document.get("detail", ""),
            title=document.get("title", ""),
            errors=tuple(FieldError(each["path"], each["message"]) for each in document.get("errors", ())),
            retry_after=retry_after,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return UnexpectedAnswer(reply.status, _words(reply), retry_after=retry_after)


def _words(reply: Reply) -> str:
    return reply.body[:200].decode("utf-8", "replace") or "(nothing)"


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdecimal() else 0.0


# ── what can be asked ──────────────────────────────────────────────────────────────────────────────────────────────


def submit(clock: Clock, wish: Mapping[str, Any], idempotency_key: str | None) -> Talk[Task]:
    """Submit a task. It has a key in any case, so that a try whose answer got lost can be repeated: it is one task."""
    document = {name: value for name, value in wish.items() if value is not None}
    key = idempotency_key or str(uuid4())
    ask = Ask(method="POST", path="/v1/tasks", document=document, headers={"Idempotency-Key": key})
    return _read(Task.read, (yield from asked(ask, clock)))


def get(clock: Clock, task: TaskOrId) -> Talk[Task]:
    """Ask for a task."""
    ask = Ask(method="GET", path=f"/v1/tasks/{id_of(task)}")
    return _read(Task.read, (yield from asked(ask, clock)))


def cancel(clock: Clock, task: TaskOrId) -> Talk[Task]:
    """Cancel a task. To ask for it twice does no harm."""
    ask = Ask(method="POST", path=f"/v1/tasks/{id_of(task)}/cancel")
    return _read(Task.read, (yield from asked(ask, clock)))


def wait(clock: Clock, task: TaskOrId, timeout: float | None) -> Talk[Task]:
    """Wait for a task's end.

    :param timeout: seconds; None for as long as it takes
    :raises StillOpen: when it has not ended by then
    """
    until = None if timeout is None else clock() + timeout
    path, seen = f"/v1/tasks/{id_of(task)}", task if isinstance(task, Task) else None

    def left() -> float:
        return float("inf") if until is None else max(until - clock(), 0.0)

    def question() -> Ask:
        seconds = int(min(left(), LONGEST_POLL))
        return Ask(method="GET", path=path, params={"wait": seconds}, waits=seconds)

    while True:
        patience = min(RESTART, left())
        try:
            seen = _read(Task.read, (yield from asked(question, clock, patience=patience)))
        except DovecoteError as error:
            if error.transient and timeout is not None and patience < RESTART:
                raise StillOpen(seen, timeout) from error
            raise
        if seen.ended:
            return seen
        if timeout is not None and not left():
            raise StillOpen(seen, timeout)
        if left() < 1:  # the server counts in whole seconds
            yield Pause(left())


@dataclasses.dataclass(frozen=True, slots=True)
class Listed:
    """A page of something, and where the next one begins."""

    items: Sequence[Any]
    next: str | None


def page_of_tasks(clock: Clock, filters: Mapping[str, Any], cursor: str | None) -> Talk[Listed]:
    """Ask for a page of tasks, newest first."""
    given = {name: value for name, value in filters.items() if value is not None}
    labels = [f"{name}={value}" for name, value in (given.pop("labels", None) or {}).items()]
    params = {**given, **({"label": labels} if labels else {}), **({"cursor": cursor} if cursor else {})}
    ask = Ask(method="GET", path="/v1/tasks", params=params)
    document = yield from asked(ask, clock)
    return Listed([_read(Task.read, each) for each in _field(ask, document, "tasks")], _field(ask, document, "next"))


def page_of_events(clock: Clock, after: str, *, types: Sequence[str], limit: int, seconds: int) -> Talk[Listed]:
    """Ask for a page of the feed; with seconds, wait for news where there is none."""
    params = {"after": after, "limit": limit, **({"type": list(types)} if types else {})}
    if seconds:
        params["wait"] = seconds
    ask = Ask(method="GET", path="/v1/events", params=params, waits=seconds)
    document = yield from asked(ask, clock, patience=RESTART if seconds else PATIENCE)
    return Listed([_read(Event.read, each) for each in _field(ask, document, "events")], _field(ask, document, "next"))


def id_of(task: TaskOrId) -> str:
    """Give the id of a task.

    :raises ValueError: for what is none: it would lead to another address
    """
    return str(UUID(str(task.id if isinstance(task, Task) else task)))


def _read(read: Callable[[Any], Given], document: Any) -> Given:
    try:
        return read(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnexpectedAnswer(200, f"{type(error).__name__} in {str(document)[:200]}") from error


def _field(ask: Ask, document: Any, name: str) -> Any:
    if not isinstance(document, Mapping) or name not in document:
        raise UnexpectedAnswer(200, f"{ask.path} without {name}")
    return document[name]
