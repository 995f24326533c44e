"""Server-sent events of doors: comments while a task runs, and its result in the form of the API."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import orjson
from starlette.responses import StreamingResponse

from service.domain.task import Task
from service.web.facades.door import MAX_HELD, DoorRequest

EVERY: Final = 10.0
"""Seconds between two comments, so that no proxy takes the connection for dead."""
Events = Iterable[bytes]


def event(document: Any, name: str | None = None) -> bytes:
    """Return one event."""
    head = f"event: {name}\n".encode() if name is not None else b""
    return head + b"data: " + orjson.dumps(document) + b"\n\n"


def stream_of(
    request: DoorRequest,
    task: Task,
    write: Callable[[Task], Awaitable[Events]],
    *,
    before: Events = (),
    headers: Mapping[str, str] | None = None,
) -> StreamingResponse:
    """Return a stream that ends with the events of a task's result.

    :param write: returns the events of a task that has ended, or for which the client has waited long enough
    :param before: events that are sent at once
    """

    async def body() -> AsyncIterator[bytes]:
        for each in before:
            yield each
        yield b": waiting\n\n"
        latest, waited = task, 0.0
        while not latest.state.ended and waited < MAX_HELD and not request.context.signals.closed:
            latest = await request.wait(latest, EVERY)
            waited += EVERY
            if not latest.state.ended:
                yield b": waiting\n\n"
        for each in await write(latest):
            yield each

    return StreamingResponse(body(), headers=dict(headers or {}), media_type="text/event-stream")
