"""Follow events: a client's feed, and streams of it and of single tasks."""

import functools
from typing import Final
from uuid import UUID

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.feed_cursor import BEGINNING, PATTERN, NotACursor
from service.domain.validation import Mistake
from service.domain.webhook_events import TYPES
from service.flows import feed
from service.flows.feed import FROM_BEGINNING, CursorExpired
from service.flows.signals.local import Topic, feed_of
from service.web.api.lookup import existing, page_size, path_id
from service.web.api.models import ref
from service.web.api.route import (
    ID_SCHEMA,
    LIMIT,
    ApiRequest,
    Endpoint,
    Parameter,
    ResponseSpec,
    invalid,
    json_response,
)
from service.web.api.tasks import LONGEST_WAIT, MAX_WAIT
from service.web.problems import Problem
from service.web.sse import HEARTBEAT, MAX_PAGE, MEDIA_TYPE, ReadPage, Stream, Streams


async def list_feed(request: ApiRequest) -> Response:
    """Return a page of the client's feed."""
    after = await _position(request, request.query.get("after"), "after", request.client)
    try:
        page = await feed.wait_for_client(
            request.context,
            request.client,
            after=FROM_BEGINNING if after is None else after,
            most=page_size(request),
            types=request.query.get("type", []),
            seconds=min(request.query.get("wait", 0), LONGEST_WAIT),
        )
    except CursorExpired as error:
        raise _expired(request, error) from None
    events = [feed.render_item(request.context, each, page.history) for each in page.items]
    following = page.history.encode(page.next, request.client) if page.next > 0 else BEGINNING
    return json_response({"events": events, "next": following})


async def stream_feed(request: ApiRequest) -> Response:
    """Stream the client's feed."""
    after = await _resume_after(request, request.client)
    read = functools.partial(_read_feed, request, request.query.get("type", []))
    announce = None
    if after is None:
        after, announce = await feed.now(request.context, request.client)
    try:
        await feed.of_client(request.context, request.client, after=after, most=1)
    except CursorExpired as error:
        raise _expired(request, error) from None
    return _stream(request, feed_of(request.client), read, after=after, announce=announce)


async def _read_feed(request: ApiRequest, types: list[str], after: int) -> feed.Page:
    return await feed.of_client(request.context, request.client, after=after, most=MAX_PAGE, types=types)


async def stream_task(request: ApiRequest) -> Response:
    """Stream a task's events until it ends."""
    task_id = path_id(request, "task")
    owner = request.sees_only or await feed.owner_of(request.context, task_id)
    resumed = None if owner is None else await _resume_after(request, owner)
    after = FROM_BEGINNING if resumed is None else resumed
    try:
        first = existing(await feed.of_task(request.context, task_id, request.sees_only, after=after, most=1), "task")
    except CursorExpired as error:
        raise _expired(request, error) from None
    if first.state is not None and not first.items:
        return Response(status_code=204)  # makes a browser stop reconnecting
    return _stream(request, task_id, functools.partial(_read_task, request, task_id), after=after)


async def _read_task(request: ApiRequest, task_id: UUID, after: int) -> feed.Page | None:
    return await feed.of_task(request.context, task_id, request.sees_only, after=after, most=MAX_PAGE)


def _stream(request: ApiRequest, topic: Topic, read: ReadPage, *, after: int, announce: str | None = None) -> Response:
    """Return a stream; for a HEAD request only its header."""
    if request.http.method != "GET":
        return Response(media_type=MEDIA_TYPE)
    streams: Streams = request.http.app.state.streams
    is_valid = functools.partial(request.authenticator.is_valid, request.context, request.caller)
    client = None if request.caller.is_sole else request.client
    return Stream(streams, topic, read, client=client, is_valid=is_valid, after=after, announce=announce)


async def _resume_after(request: ApiRequest, client: str) -> int | None:
    """Return the position to resume after. The header overrides: a client that reconnects repeats its first query."""
    header = await _position(request, request.http.headers.get("last-event-id") or None, "Last-Event-ID", client)
    return await _position(request, request.query.get("after"), "after", client) if header is None else header


async def _position(request: ApiRequest, cursor: str | None, name: str, client: str) -> int | None:
    """Return the position of a cursor.

    :raises Problem: 422 for a text that is no cursor; 409 for a cursor of another history of the database
    """
    if cursor is None or cursor == BEGINNING:
        return None if cursor is None else FROM_BEGINNING
    try:
        return await feed.position_of(request.context, cursor, client)
    except NotACursor:
        raise invalid([Mistake(name, "is not a cursor: send an `id` or a `next` from an earlier response")]) from None
    except feed.CursorRefused as error:
        detail = (
            f"this feed has not issued the cursor to you: {error.reason}. Continue after {error.newest}, your newest "
            "cursor, and compare your tasks with GET /v1/tasks"
        )
        raise Problem(409, "cursor_unknown", detail, members={"newest": error.newest}) from None


def _expired(request: ApiRequest, error: CursorExpired) -> Problem:
    detail = (
        "events after the cursor were removed: events of ended tasks are kept for "
        f"{request.context.settings.retention.events} (retention). Continue after {BEGINNING}, the oldest event that is kept, or "
        f"after {error.newest}, your newest cursor, and compare your tasks with GET /v1/tasks"
    )
    return Problem(410, "cursor_expired", detail, members={"newest": error.newest})


_TAG: Final = "Feed"
_EXAMPLE: Final = "q83vASNFZ4mrze8BI0VniavN7wE"
_AFTER: Final = Parameter(
    name="after",
    place="query",
    schema={"type": "string", "pattern": PATTERN, "examples": [BEGINNING, _EXAMPLE]},
    description="Only events after this cursor: an event's `id`, or `next` of the previous page. `0` is the oldest event that is kept.",
)
_TYPE: Final = Parameter(
    name="type",
    place="query",
    schema={"type": "string", "enum": list(TYPES)},
    description="Only events of this type. May be repeated.",
    many=True,
)
_LAST_EVENT_ID: Final = Parameter(
    name="Last-Event-ID",
    place="header",
    schema={"type": "string", "examples": [_EXAMPLE]},
    description="The `id` of the last event that you received. It overrides `after`. Browsers send it when they reconnect.",
)
_STREAM: Final = ResponseSpec(
    description=(
        "Server-sent events. Each has an `id`, an `event` (its type) and one line of `data`: a FeedEvent as JSON. After "
        f"{HEARTBEAT:.0f} s without an event a comment follows. A stream ends when its key is no longer valid."
    ),
    schema={"type": "string"},
    media_type=MEDIA_TYPE,
)

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/events",
        handler=list_feed,
        name="listEvents",
        scope=Scope.READ,
        tag=_TAG,
        summary="List the events of all tasks",
        description=(
            "The events that webhooks report, oldest first, each once and without gaps. Keep `next`, and send it as `after` to "
            "get the events that follow. With `wait` the request is a long poll."
        ),
        parameters=(
            _AFTER,
            LIMIT,
            _TYPE,
            Parameter(
                name="wait",
                place="query",
                schema={"type": "integer", "minimum": 0, "maximum": MAX_WAIT},
                description=(
                    f"Seconds to wait for an event if there is none. The answer comes after {LONGEST_WAIT:.0f} s at most."
                ),
            ),
        ),
        responses={
            200: ResponseSpec(description="A page of events, and the cursor behind them.", schema=ref("FeedPage"))
        },
        problems=(409, 410, 422),
    ),
    Endpoint(
        method="GET",
        path="/v1/events/stream",
        handler=stream_feed,
        name="streamEvents",
        scope=Scope.READ,
        tag=_TAG,
        summary="Stream the events of all tasks",
        description=(
            "Without a cursor the stream starts at the present, and its first line has the `id` of that position. `after=0` "
            "starts at the beginning."
        ),
        parameters=(_AFTER, _TYPE, _LAST_EVENT_ID),
        responses={200: _STREAM},
        problems=(409, 410, 422),
    ),
    Endpoint(
        method="GET",
        path="/v1/tasks/{id}/stream",
        handler=stream_task,
        name="streamTask",
        scope=Scope.READ,
        tag=_TAG,
        summary="Stream a task's events until it ends",
        description="Starts with the task's first event. When the task has ended, an `end` event follows and the stream ends.",
        parameters=(
            Parameter(name="id", place="path", schema=ID_SCHEMA, description="The task's id."),
            _AFTER,
            _LAST_EVENT_ID,
        ),
        responses={
            200: _STREAM,
            204: ResponseSpec(
                description="The task has ended, and you have received every event: do not connect again.", schema=None
            ),
        },
        problems=(404, 409, 410, 422),
    ),
)
