"""Read a stream of events over several connections, without doing I/O."""

import json
from collections.abc import Iterator, Sequence
from typing import Final

from dovecote.calls import TaskOrId, id_of
from dovecote.errors import DovecoteError, UnexpectedResponse, Unreachable
from dovecote.protocol import (
    MAX_RETRY_AFTER,
    PAUSES,
    RETRY_CONNECTING_FOR,
    RETRY_WAITING_FOR,
    Request,
    Response,
    Session,
    nothing_listens,
    refusal,
    unexpected,
)
from dovecote.sse import Block, Parser, TooLarge
from dovecote.tasks import Event
from dovecote.values import read

SILENCE: Final = 45.0
"""Seconds without any data after which a connection counts as lost; the server sends a comment every 15."""

_OK: Final = 200
_NO_CONTENT: Final = 204


class EventStream:
    """One stream of events, over as many connections as it takes."""

    def __init__(self, session: Session, task: TaskOrId | None, after: str | None, types: Sequence[str]) -> None:
        """Prepare a stream.

        :param task: whose events; None for those of all tasks
        :param after: the event to continue after; without one, the events of a task start at its beginning, and those of
            all tasks start now
        :param types: only events of these types; for all tasks only
        """
        self._session = session
        self._path = "/v1/events/stream" if task is None else f"/v1/tasks/{id_of(task)}/stream"
        self._types = list(types)
        self._last_id = after
        self._parser = Parser(after)
        self._last_data = session.clock()
        self._failures = 0
        self.ended = False
        """Whether no further event can come."""
        self.error: DovecoteError | None = None
        """Why the next connection is necessary."""

    def request(self) -> Request:
        """Return the request that opens the next connection."""
        self._parser = Parser(self._last_id, self._parser.retry)
        cursor = {"Last-Event-ID": self._last_id} if self._last_id else {}
        headers = {"Accept": "text/event-stream", **cursor}
        params = {"type": self._types} if self._types else {}
        return Request(method="GET", path=self._path, params=params, headers=headers, waits=SILENCE)

    def opened(self, response: Response) -> float | None:
        """Process the head of a response: return None when events follow, else the seconds before the next attempt.

        :raises Problem: when the server refuses the request
        """
        self._session.reached = True
        if response.status == _NO_CONTENT:
            self.ended = True
            return 0.0
        if response.status == _OK and response.headers.get("content-type", "").startswith("text/event-stream"):
            return None
        if response.status == _OK:
            raise unexpected(response)
        return self._next_attempt(refusal(response))

    def closed(self, error: Unreachable | None) -> float:
        """Process the end of a connection: return the seconds before the next attempt.

        :param error: None when the server closed the connection in order, as it does when it stops
        :raises Unreachable: when no data has come for too long
        """
        if self.ended:
            return 0.0
        return self._next_attempt(error or Unreachable("the stream ended before the task did"))

    def _next_attempt(self, error: DovecoteError) -> float:
        limit = RETRY_CONNECTING_FOR if nothing_listens(self._session, error) else RETRY_WAITING_FOR
        pause = PAUSES[min(self._failures, len(PAUSES) - 1)]
        seconds = max(pause, min(error.retry_after, MAX_RETRY_AFTER), self._parser.retry or 0.0)
        if not error.transient or self._session.clock() - self._last_data + seconds > limit:
            raise error
        self._failures += 1
        self.error = error
        return seconds

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Parse a piece of the stream and yield the events that it completes.

        An event counts as processed when the next one is asked for: an event whose processing was interrupted comes again.

        :raises UnexpectedResponse: for data that is not an event
        """
        self._last_data = self._session.clock()
        self._failures = 0
        try:
            for block in self._parser.feed(piece):
                if block.type == "end":
                    self.ended = True
                    return
                yield _event(block)
                self._last_id = block.id
        except TooLarge as error:
            raise UnexpectedResponse(_OK, str(error)) from error
        self._last_id = self._parser.last_id  # the feed sends a cursor before any event


def _event(block: Block) -> Event:
    try:
        return read(Event, json.loads(block.data))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnexpectedResponse(_OK, block.data) from error
