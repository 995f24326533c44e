"""Follow what happens: a client's feed, and streams of it and of single tasks."""

import functools
from uuid import UUID

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.validation import Mistake
from service.domain.webhook_events import TYPES
from service.flows import feed
from service.flows.signals import feed_of
from service.web.api.models import ref
from service.web.api.route import Answers, Asked, Endpoint, Parameter, answer_json, invalid
from service.web.api.tasks import LONGEST_WAIT, MAX_ON_PAGE
from service.web.problems import Problem
from service.web.sse import HEARTBEAT, MEDIA_TYPE, PORTION, Stream, Streams

LARGEST = 2**63 - 1
"""The last number that a database counts to."""


async def page(asked: Asked) -> Response:
    """Give a page of the client's feed."""
    found = await feed.wait_for_client(
        asked.context,
        asked.client,
        after=_cursor(asked.query.get("after"), "after") or 0,
        most=asked.query.get("limit", 50),
        types=asked.query.get("type", []),
        seconds=asked.query.get("wait", 0),
    )
    events = [feed.render_item(asked.context, each) for each in found.items]
    return answer_json({"events": events, "next": str(found.next)})


async def stream_feed(asked: Asked) -> Response:
    """Stream the client's feed."""
    after = _resumed(asked)
    types = asked.query.get("type", [])
    look = functools.partial(_look_at_feed, asked, types)
    begin = await feed.now(asked.context) if after is None else after
    return _streamed(asked, Stream(_streams(asked), feed_of(asked.client), look, after=begin, announce=after is None))


async def _look_at_feed(asked: Asked, types: list[str], after: int) -> feed.Page:
    return await feed.of_client(asked.context, asked.client, after=after, most=PORTION, types=types)


async def stream_task(asked: Asked) -> Response:
    """Stream what a task goes through, to its end."""
    after = _resumed(asked) or 0
    task_id = _task_id(asked)
    first = (
        None if task_id is None else await feed.of_task(asked.context, task_id, asked.sees_only, after=after, most=1)
    )
    if task_id is None or first is None:
        raise Problem(404, "not_found", "there is no task with this id")
    if first.state is not None and not first.items:
        return Response(status_code=204)  # by which a browser knows that it need not come again
    look = functools.partial(_look_at_task, asked, task_id)
    return _streamed(asked, Stream(_streams(asked), task_id, look, after=after))


async def _look_at_task(asked: Asked, task_id: UUID, after: int) -> feed.Page | None:
    return await feed.of_task(asked.context, task_id, asked.sees_only, after=after, most=PORTION)


def _streams(asked: Asked) -> Streams:
    streams: Streams = asked.request.app.state.streams
    return streams


def _streamed(asked: Asked, stream: Stream) -> Response:
    """Answer with a stream; who asks for its head only gets that."""
    return stream if asked.request.method == "GET" else Response(media_type=MEDIA_TYPE)


def _task_id(asked: Asked) -> UUID | None:
    try:
        return UUID(asked.request.path_params["id"])
    except ValueError:
        return None


def _resumed(asked: Asked) -> int | None:
    """Read where to go on. The header counts more: whoever reconnects by himself repeats the query of the first time."""
    header = _cursor(asked.request.headers.get("last-event-id") or None, "Last-Event-ID")
    return _cursor(asked.query.get("after"), "after") if header is None else header


def _cursor(given: str | None, name: str) -> int | None:
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and int(given[:20]) <= LARGEST and len(given) <= len(str(LARGEST))):
        raise invalid([Mistake(name, "is no cursor: give an `id` or a `next` that you were given")])
    return int(given)


_TAG = "Feed"
_AFTER = Parameter(
    name="after",
    place="query",
    schema={"type": "string", "pattern": "^[0-9]{1,19}$", "examples": ["4711"]},
    description="Only what comes after this cursor: an event's `id`, or `next` of the page before. `0` is the beginning.",
)
_TYPE = Parameter(
    name="type",
    place="query",
    schema={"type": "string", "enum": list(TYPES)},
    description="Only events of this type; may be repeated.",
    many=True,
)
_LAST = Parameter(
    name="Last-Event-ID",
    place="header",
    schema={"type": "string", "examples": ["4711"]},
    description="The `id` of the last event that was received; counts more than `after`. Browsers send it by themselves.",
)
_STREAM = Answers(
    description=(
        f"Server-sent events. Each has an `id`, an `event` (its type) and a line of `data`: a FeedEvent as JSON. A comment "
        f"comes after {HEARTBEAT:.0f} s without news."
    ),
    schema={"type": "string"},
    media_type=MEDIA_TYPE,
)

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/events",
        handler=page,
        name="listEvents",
        scope=Scope.READ,
        tag=_TAG,
        summary="Get what happened to all tasks",
        description=(
            "Everything that webhooks tell, oldest first, each once and without gaps: keep `next`, and ask with `after` "
            "for what follows. With `wait` it is a long poll."
        ),
        parameters=(
            _AFTER,
            Parameter(
                name="limit",
                place="query",
                schema={"type": "integer", "minimum": 1, "maximum": MAX_ON_PAGE, "default": 50},
                description="How many at most.",
            ),
            _TYPE,
            Parameter(
                name="wait",
                place="query",
                schema={"type": "integer", "minimum": 0, "maximum": LONGEST_WAIT},
                description="Seconds to wait for an event where there is none yet.",
            ),
        ),
        answers={
            200: Answers(
                description="A page of events, and the cursor behind them.",
                schema={
                    "type": "object",
                    "required": ["events", "next"],
                    "properties": {
                        "events": {"type": "array", "items": ref("FeedEvent")},
                        "next": {"type": "string"},
                    },
                },
            )
        },
        problems=(422,),
    ),
    Endpoint(
        method="GET",
        path="/v1/events/stream",
        handler=stream_feed,
        name="streamEvents",
        scope=Scope.READ,
        tag=_TAG,
        summary="Stream what happens to all tasks",
        description="Without a cursor it begins now, and says so with an `id` of its own; `after=0` begins at the beginning.",
        parameters=(_AFTER, _TYPE, _LAST),
        answers={200: _STREAM},
        problems=(422,),
    ),
    Endpoint(
        method="GET",
        path="/v1/tasks/{id}/stream",
        handler=stream_task,
        name="streamTask",
        scope=Scope.READ,
        tag=_TAG,
        summary="Stream what happens to a task, to its end",
        description="From its beginning. When the task has ended, an `end` event follows and the stream ends.",
        parameters=(
            Parameter(
                name="id", place="path", schema={"type": "string", "format": "uuid"}, description="The task's id."
            ),
            _AFTER,
            _LAST,
        ),
        answers={
            200: _STREAM,
            204: Answers(description="The task has ended, and you know all of it: do not connect again.", schema=None),
        },
        problems=(404, 422),
    ),
)
