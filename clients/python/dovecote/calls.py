"""Every call to the API about tasks, the feed and the catalogue, as generators (see :mod:`dovecote.protocol`)."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar
from urllib.parse import quote
from uuid import UUID, uuid4

from dovecote.catalogue import Family, ModelList, Upstream
from dovecote.erasures import Erasure
from dovecote.errors import DovecoteError, UnexpectedResponse, WaitTimeout
from dovecote.money import QuoteList
from dovecote.protocol import (
    RETRY_WAITING_FOR,
    Call,
    Pause,
    Request,
    Response,
    Session,
    nothing_listens,
    read_document,
    send,
)
from dovecote.tasks import Event, ResultLink, Task, TaskEvent
from dovecote.values import Page, read

LONGEST_POLL: Final = 30
"""Seconds that one request waits at the server."""

Value = TypeVar("Value")
TaskOrId = Task | str | UUID


# ── tasks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def submit(session: Session, document: Mapping[str, Any], idempotency_key: str | None) -> Call[Task]:
    """Submit a task. Without an idempotency key one is generated, so that a lost response makes no second task."""
    headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
    body = given(document)
    if "parent_id" in body:
        body["parent_id"] = id_of(body["parent_id"])
    request = Request(method="POST", path="/v1/tasks", document=body, headers=headers)
    response = yield from send(session, request)
    replayed = response.headers.get("idempotency-replayed") == "true"
    return dataclasses.replace(value_of(Task, response), replayed=replayed)


def quote_task(session: Session, document: Mapping[str, Any]) -> Call[QuoteList]:
    """Quote a request. Nothing is bought."""
    body = given(document)
    if "parent_id" in body:
        body["parent_id"] = id_of(body["parent_id"])
    return value_of(QuoteList, (yield from send(session, Request(method="POST", path="/v1/quote", document=body))))


def get(session: Session, task: TaskOrId, wait: int) -> Call[Task]:
    """Get a task, at the latest after some seconds; earlier if it ends."""
    request = Request(method="GET", path=_path(task), params={"wait": wait} if wait else {}, waits=wait)
    retry_for = RETRY_WAITING_FOR if wait else None
    return value_of(Task, (yield from send(session, request, retry_for=retry_for)))


def wait(session: Session, task: TaskOrId, timeout: float | None) -> Call[Task]:
    """Wait until a task has ended.

    :param timeout: seconds; None for no limit
    :raises WaitTimeout: when it has not ended by then
    """
    clock = session.clock
    until = None if timeout is None else clock() + timeout
    path, seen = _path(task), task if isinstance(task, Task) else None

    def left() -> float:
        return float("inf") if until is None else max(until - clock(), 0.0)

    def request() -> Request:
        seconds = int(min(left(), LONGEST_POLL))
        return Request(method="GET", path=path, params={"wait": seconds}, waits=seconds)

    while True:
        retry_for = min(RETRY_WAITING_FOR, left())
        try:
            seen = value_of(Task, (yield from send(session, request, retry_for=retry_for)))
        except DovecoteError as error:
            out_of_time = timeout is not None and retry_for < RETRY_WAITING_FOR
            if out_of_time and error.transient and not nothing_listens(session, error):
                raise WaitTimeout(seen, timeout or 0.0) from error
            raise
        if seen.ended:
            return seen
        if timeout is not None and not left():
            raise WaitTimeout(seen, timeout)
        if left() < 1:  # the server counts in whole seconds
            yield Pause(left())


def cancel(session: Session, task: TaskOrId) -> Call[Task]:
    """Cancel a task. Cancelling it twice does no harm."""
    response = yield from send(session, Request(method="POST", path=f"{_path(task)}/cancel"))
    return value_of(Task, response)


def refresh(session: Session, task: TaskOrId) -> Call[Task]:
    """Query the provider about a task now."""
    response = yield from send(session, Request(method="POST", path=f"{_path(task)}/refresh"))
    return value_of(Task, response)


def send_input(session: Session, task: TaskOrId, document: Any) -> Call[Task]:
    """Send the input that a task waits for. The provider gets it once, so the request is not repeated."""
    request = Request(method="POST", path=f"{_path(task)}/input", document=document)
    return value_of(Task, (yield from send(session, request, repeatable=False)))


def retry(session: Session, task: TaskOrId, *, confirm_double_payment: bool) -> Call[Task]:
    """Submit an unconfirmed task again. A repetition might pay again, so the request is not repeated."""
    document = {"confirm_double_payment": confirm_double_payment}
    request = Request(method="POST", path=f"{_path(task)}/retry", document=document)
    return value_of(Task, (yield from send(session, request, repeatable=False)))


def settled(session: Session, task: TaskOrId, timeout: float) -> Call[Task]:
    """Get a task, at the latest after some seconds; earlier when no copy of a result is pending."""
    until = session.clock() + timeout
    while True:
        seen = yield from get(session, task, 0)
        left = until - session.clock()
        if left <= 0 or not any(each.kept == "pending" for each in seen.results):
            return seen
        yield Pause(min(1.0, left))


def erase(session: Session, task: TaskOrId, *, cancel: bool) -> Call[Erasure]:
    """Erase the content of a task. Erasing it twice does no harm."""
    params = {"cancel": "true"} if cancel else {}
    return value_of(Erasure, (yield from send(session, Request(method="DELETE", path=_path(task), params=params))))


def erase_labelled(session: Session, document: Mapping[str, Any]) -> Call[Erasure]:
    """Erase the content of all tasks with some labels. A repetition concerns those that are not erased yet."""
    request = Request(method="POST", path="/v1/erasures", document=given(document))
    return value_of(Erasure, (yield from send(session, request)))


def erasure(session: Session, erasure_id: str | UUID) -> Call[Erasure]:
    """Get the progress of an erasure."""
    request = Request(method="GET", path=f"/v1/erasures/{id_of(erasure_id)}")
    return value_of(Erasure, (yield from send(session, request)))


def result_link(session: Session, task: TaskOrId, number: int, seconds: int | None) -> Call[ResultLink]:
    """Get a link to the kept copy of a result."""
    path = f"{_path(task)}/results/{int(number)}/link"
    request = Request(method="GET", path=path, params=given({"seconds": seconds}))
    return value_of(ResultLink, (yield from send(session, request)))


def result_provenance(session: Session, task: TaskOrId, number: int) -> Call[Mapping[str, Any]]:
    """Get where the kept copy of a result came from."""
    request = Request(method="GET", path=f"{_path(task)}/results/{int(number)}/provenance")
    document: Mapping[str, Any] = read_document((yield from send(session, request)))
    return document


def delete_results(session: Session, task: TaskOrId) -> Call[Task]:
    """Delete the kept copies of a task's results."""
    return value_of(Task, (yield from send(session, Request(method="DELETE", path=f"{_path(task)}/results"))))


def history(session: Session, task: TaskOrId, after: int) -> Call[Page[TaskEvent]]:
    """List the events of a task, oldest first."""
    request = Request(method="GET", path=f"{_path(task)}/events", params={"after": after} if after else {})
    return page_of(TaskEvent, "events", (yield from send(session, request)))


def list_tasks(session: Session, filters: Mapping[str, Any], cursor: str | None) -> Call[Page[Task]]:
    """List one page of tasks, newest first."""
    params = given({**filters, "cursor": cursor})
    labels = [f"{name}={value}" for name, value in params.pop("labels", {}).items()]
    params |= {"label": labels} if labels else {}
    response = yield from send(session, Request(method="GET", path="/v1/tasks", params=params))
    return page_of(Task, "tasks", response)


# ── the feed ───────────────────────────────────────────────────────────────────────────────────────────────────────


def list_events(session: Session, after: str, *, types: Sequence[str], limit: int, wait: int) -> Call[Page[Event]]:
    """List one page of the feed; with ``wait``, wait for events where there are none yet."""
    params = {"after": after, "limit": limit, **({"type": list(types)} if types else {})}
    params |= {"wait": wait} if wait else {}
    request = Request(method="GET", path="/v1/events", params=params, waits=wait)
    retry_for = RETRY_WAITING_FOR if wait else None
    return page_of(Event, "events", (yield from send(session, request, retry_for=retry_for)))


# ── the catalogue ──────────────────────────────────────────────────────────────────────────────────────────────────


def families(session: Session) -> Call[Sequence[Family]]:
    """List the families with their operations."""
    return page_of(Family, "families", (yield from send(session, Request(method="GET", path="/v1/families")))).items


def upstreams(session: Session) -> Call[Sequence[Upstream]]:
    """List the configured upstreams."""
    return page_of(Upstream, "upstreams", (yield from send(session, Request(method="GET", path="/v1/upstreams")))).items


def act_on_upstream(
    session: Session, upstream: Upstream | str, act: Literal["pause", "drain", "resume"]
) -> Call[Upstream]:
    """Pause, drain or resume an upstream."""
    name = upstream.name if isinstance(upstream, Upstream) else upstream
    request = Request(method="POST", path=f"/v1/upstreams/{quote(name, safe='')}/{act}")
    return value_of(Upstream, (yield from send(session, request)))


def models(session: Session, upstream: Upstream | str) -> Call[ModelList]:
    """List the models that an upstream offers now."""
    name = upstream.name if isinstance(upstream, Upstream) else upstream
    request = Request(method="GET", path=f"/v1/upstreams/{quote(name, safe='')}/models")
    return value_of(ModelList, (yield from send(session, request)))


# ── shared ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def id_of(value: object) -> str:
    """Return the id of a value, or of what is an id itself.

    :raises ValueError: when it is not a UUID, which might lead to another path
    """
    written = str(getattr(value, "id", value))
    try:
        return str(UUID(written))
    except ValueError:
        raise ValueError(f"{written[:80]!r} is not an id: an id is a UUID") from None


def given(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document without the fields that are None."""
    return {name: value for name, value in document.items() if value is not None}


def value_of(kind: type[Value], response: Response) -> Value:
    """Build a value from a response."""
    return _understood(response, lambda: read(kind, read_document(response)))


def page_of(kind: type[Value], name: str, response: Response) -> Page[Value]:
    """Build a page of values from a response."""
    document = read_document(response)
    return _understood(
        response, lambda: Page([read(kind, each) for each in document[name]], _cursor(document.get("next")))
    )


def _cursor(stated: object) -> str | None:
    return None if stated is None else str(stated)


def _understood(response: Response, build: Callable[[], Value]) -> Value:
    try:
        return build()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        body = response.body[:200].decode("utf-8", "replace")
        raise UnexpectedResponse(response.status, body) from error


def _path(task: TaskOrId) -> str:
    return f"/v1/tasks/{id_of(task)}"


def differs(task: Task, seen: Task | None) -> bool:
    """Return whether a watcher of a task has something new to see."""
    return seen is None or _visible(task) != _visible(seen)


def _visible(task: Task) -> tuple[str, int | None, str]:
    return task.state, task.progress, task.explanation
