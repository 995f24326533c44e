"""Server-sent events of doors: comments while a task runs, and its result in the form of the API.

Where the upstream streams its answer, and this process reads it, the text is passed on while it comes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import orjson
from starlette.responses import StreamingResponse

from service.domain.task import State, Task
from service.flows.signals.live import LiveAnswer
from service.providers.stream import Piece
from service.web.facades.door import MAX_HELD, DoorRequest
from service.web.waiting import stopped

EVERY: Final = 10.0
"""Seconds between two comments, so that no proxy takes the connection for dead."""
_COMMENT: Final = b": waiting\n\n"
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
    meanwhile: Callable[[Task], Awaitable[Events]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> StreamingResponse:
    """Return a stream that ends with the events of a task's result.

    :param write: returns the events of a task that has ended, or for which the client has waited long enough
    :param before: events that are sent at once
    :param meanwhile: returns events to send every while until the task has ended; default: a comment
    """

    async def body() -> AsyncIterator[bytes]:
        for each in before:
            yield each
        for each in [_COMMENT] if meanwhile is None else await meanwhile(task):
            yield each
        latest, waited = task, 0.0
        while not latest.state.ended and waited < MAX_HELD and not request.context.signals.closed:
            latest = await request.wait(latest, EVERY)
            waited += EVERY
            if not latest.state.ended:
                for each in [_COMMENT] if meanwhile is None else await meanwhile(latest):
                    yield each
        for each in await write(latest):
            yield each

    return StreamingResponse(body(), headers=dict(headers or {}), media_type="text/event-stream")


Sent = Mapping[int, str]
"""The texts that a client has already, by their index."""


def live_stream_of(
    request: DoorRequest,
    task: Task,
    piece: Callable[[Piece, bool], Events],
    write: Callable[[Task, Sent], Awaitable[Events]],
    *,
    before: Events = (),
) -> StreamingResponse:
    """Return a stream with the pieces of an answer while they come, which ends with the events of the task's result.

    :param piece: returns the events of a piece; its second argument is whether it is the first of its text
    :param write: returns the events of a task that has ended, or that nobody can wait for, with the texts that are sent already
    :param before: events that are sent at once
    """

    async def body() -> AsyncIterator[bytes]:
        for each in before:
            yield each
        yield _COMMENT
        sent: dict[int, str] = {}
        with request.context.live.listening(task.id) as live:
            ending = asyncio.ensure_future(request.wait(task))
            try:
                async for found in _pieces(request, task, live, ending):
                    if found is None:
                        yield _COMMENT
                        continue
                    for each in piece(found, found.index not in sent):
                        yield each
                    sent[found.index] = sent.get(found.index, "") + found.text
                latest = await ending if ending.done() else await request.find_by_id(task.id) or task
            finally:
                await stopped(ending)
        for each in await write(latest, sent):
            yield each

    return StreamingResponse(body(), media_type="text/event-stream")


async def _pieces(
    request: DoorRequest, task: Task, live: LiveAnswer, ending: asyncio.Future[Task]
) -> AsyncIterator[Piece | None]:
    """Yield the pieces of an answer, and None where none has come for a while, until the task has ended.

    It also ends where the answer broke off and nobody can find out more: then the task is unconfirmed.
    """
    position = rounds = 0
    while True:
        more = asyncio.ensure_future(live.after(position, rounds))
        either: set[asyncio.Future[Any]] = {more, ending}
        try:
            await asyncio.wait(either, timeout=EVERY, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await stopped(more)
        news = live.pieces[position:]
        for each in news:
            yield each
        position += len(news)
        if ending.done():
            return
        if live.rounds > rounds:
            rounds = live.rounds
            latest = await request.find_by_id(task.id)
            if latest is not None and latest.state is State.UNCONFIRMED:
                return
        elif not news:
            yield None
