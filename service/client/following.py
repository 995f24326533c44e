"""Follow a stream over as many connections as it takes: where it goes on, what came, and when to give up."""

import json
from collections.abc import Iterator, Sequence
from typing import Final

from service.client.conversation import (
    LONGEST_RETRY_AFTER,
    PAUSES,
    RESTART,
    Ask,
    Clock,
    Reply,
    TaskOrId,
    id_of,
    refusal,
)
from service.client.errors import DovecoteError, UnexpectedAnswer, Unreachable
from service.client.events import Block, Parser, TooLarge
from service.client.values import Event

SILENCE: Final = 45.0
"""Seconds without a sign of life after which a connection counts as lost; the server gives one every 15."""

_OK: Final = 200
_NOTHING_MORE: Final = 204


class Following:
    """One stream, whatever happens to its connections."""

    def __init__(self, clock: Clock, task: TaskOrId | None, after: str | None, types: Sequence[str]) -> None:
        """Begin.

        :param task: whose events; None for those of all tasks
        :param after: the event to go on after; without one a task's begin at its beginning, the others now
        :param types: only these, of all tasks
        """
        self._clock = clock
        self._path = "/v1/events/stream" if task is None else f"/v1/tasks/{id_of(task)}/stream"
        self._types = list(types)
        self._last_id = after
        self._parser = Parser(after)
        self._heard = clock()
        self._failures = 0
        self.over = False
        """Whether there is nothing more to come."""

    def connect(self) -> Ask:
        """Say what to send to go on."""
        self._parser = Parser(self._last_id, self._parser.retry)
        cursor = {"Last-Event-ID": self._last_id} if self._last_id else {}
        headers = {"Accept": "text/event-stream", **cursor}
        params = {"type": self._types} if self._types else {}
        return Ask(method="GET", path=self._path, params=params, headers=headers, waits=SILENCE)

    def opened(self, reply: Reply) -> float | None:
        """Take in how a connection was answered: None when events follow, else the seconds to wait before the next try.

        :raises Problem: when it was refused for good
        """
        if reply.status == _NOTHING_MORE:
            self.over = True
            return 0.0
        if reply.status == _OK and reply.headers.get("content-type", "").startswith("text/event-stream"):
            return None
        if reply.status == _OK:
            raise UnexpectedAnswer(reply.status, reply.body[:200].decode("utf-8", "replace"))
        return self._next_try(refusal(reply))

    def broke(self, error: Unreachable | None) -> float:
        """Take in that a connection has ended: give the seconds to wait before the next try.

        :param error: None when the server ended it in order, as it does when it is stopped
        :raises Unreachable: when nothing has been heard for too long
        """
        if self.over:
            return 0.0
        return self._next_try(error or Unreachable("the stream ended before the task did"))

    def _next_try(self, error: DovecoteError) -> float:
        if not error.transient or self._clock() - self._heard > RESTART:
            raise error
        pause = PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1
        return max(pause, min(error.retry_after, LONGEST_RETRY_AFTER), self._parser.retry or 0.0)

    def take(self, piece: bytes) -> Iterator[Event]:
        """Take in a piece of a stream, and give the events that are complete with it.

        An event is gone on after only once the next one is asked for: whoever drops it half-way is given it again.

        :raises UnexpectedAnswer: for what is no event
        """
        self._heard = self._clock()
        self._failures = 0
        try:
            for block in self._parser.feed(piece):
                if block.type == "end":
                    self.over = True
                    return
                yield _event(block)
                self._last_id = block.id
        except TooLarge as error:
            raise UnexpectedAnswer(_OK, str(error)) from error
        self._last_id = self._parser.last_id  # which the feed gives before any event, too

    @property
    def last_id(self) -> str | None:
        """The event to go on after on another day."""
        return self._last_id


def _event(block: Block) -> Event:
    try:
        return Event.read(json.loads(block.data))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnexpectedAnswer(_OK, f"{type(error).__name__} in {block.data[:200]}") from error
