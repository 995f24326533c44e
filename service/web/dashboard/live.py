"""Live updates: a stream of hints. A page that gets one reads its parts again."""

import asyncio
import functools
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.flows import feed
from service.flows.signals.local import ANY_CHANGE, Topic, feed_of
from service.web.dashboard.task_query import as_id
from service.web.dashboard.visit import Visit
from service.web.problems import Problem
from service.web.sse import MEDIA_TYPE, Stream, Streams

INTERVAL: Final = 1.0
"""Seconds between two hints of a page, at least."""
MAX_HINTS: Final = 10
"""Hints of a process in a second, about: each makes a page read its rows again."""
_HINT: Final = b"event: changed\ndata: {}\n\n"


class Pace:
    """The time between hints: longer with more open pages, so that their cost stays bounded at any rate of changes."""

    def __init__(self) -> None:
        """Start without pages."""
        self.pages = 0
        """Number of open pages."""

    @property
    def interval(self) -> float:
        """Seconds between two hints of a page."""
        return max(INTERVAL, self.pages / MAX_HINTS)


class Hints(Stream):
    """A stream that tells a page that something has changed."""

    pace: Pace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream, and count its page meanwhile."""
        self.pace.pages += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.pace.pages -= 1

    async def _send_events(self) -> None:
        """Send one hint for all changes of the last moment. Those that come before the next one share it."""
        if self._after < 0:  # the page is as new as its stream
            self._after = 0
            return
        await self._write(_HINT)
        await asyncio.sleep(self.pace.interval)


async def stream(visit: Visit) -> Response:
    """Stream hints about a task, or about all tasks that the visitor sees."""
    topic: Topic = ANY_CHANGE if visit.sees_only is None else feed_of(visit.sees_only)
    if "task" in visit.http.query_params:
        task_id = as_id(visit.query("task"))
        owner = None if task_id is None else await feed.owner_of(visit.context, task_id)
        if task_id is None or owner is None or visit.sees_only not in {None, owner}:
            raise Problem(404, "not_found", "no task has this id")
        topic = task_id
    if visit.http.method != "GET":
        return Response(media_type=MEDIA_TYPE)
    streams: Streams = visit.http.app.state.streams
    client = None if visit.caller.is_sole else visit.caller.client
    is_valid = functools.partial(_is_valid, visit)
    # A browser that reconnects may have missed hints.
    missed = "last-event-id" in visit.http.headers
    hints = Hints(streams, topic, _nothing, client=client, is_valid=is_valid, after=0 if missed else -1, announce="1")
    hints.pace = visit.http.app.state.pace
    return hints


async def _nothing(_: int) -> None:
    """Read nothing: a hint has no content."""


async def _is_valid(visit: Visit) -> bool:
    """Return whether the session of a page is still valid."""
    session = visit.session
    if session is not None and visit.context.now() >= session.expires_at:
        return False
    return await visit.authenticator.is_valid(visit.context, visit.caller)
