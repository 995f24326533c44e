"""Bells: hints that wake whoever waits. ``due_at`` and the rows are the truth; a bell that is missed costs time only."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Literal
from uuid import UUID

Journey = Literal["submit", "poll", "inbox", "outbox", "extras"]
Topic = UUID | str
"""What can be watched: a task by its id, or all tasks of a client by :func:`feed_of`."""
Watcher = Callable[[], None]


def feed_of(client: str) -> Topic:
    """Name what a client is told. Long names may share a topic: then somebody is woken for nothing."""
    return f"client:{client[:200]}"


class Bells:
    """Wakes the journeys of this process, and requests that wait for a task or for a client's news."""

    def __init__(self) -> None:
        """Hang the bells."""
        self.journeys: dict[Journey, asyncio.Event] = {
            "submit": asyncio.Event(),
            "poll": asyncio.Event(),
            "inbox": asyncio.Event(),
            "outbox": asyncio.Event(),
            "extras": asyncio.Event(),
        }
        self.abroad: Callable[[str], None] = lambda _: None
        """Tells the other processes; set where there are any."""
        self.closed = False
        """Whether the process ends, and nobody should wait any more."""
        self._watchers: dict[Topic, set[Watcher]] = {}

    def ring(self, *journeys: Journey) -> None:
        """Say that a journey has rows due."""
        for journey in journeys:
            self.journeys[journey].set()
            self.abroad(journey)

    def changed(self, task_id: UUID, client: str) -> None:
        """Say that a task of a client has changed."""
        for topic in (task_id, feed_of(client)):
            self.tell(topic)
            self.abroad(str(topic))

    def heard(self, hint: str) -> None:
        """Take in what another process rang."""
        for journey, bell in self.journeys.items():
            if hint == journey:
                bell.set()
                return
        self.tell(hint)
        with contextlib.suppress(ValueError):  # a newer process may ring what we do not know
            self.tell(UUID(hint))

    def tell(self, topic: Topic) -> None:
        """Wake those of this process who watch something."""
        for watcher in tuple(self._watchers.get(topic, ())):
            watcher()

    def tell_all(self) -> None:
        """Wake everybody who watches anything: hints may have been missed."""
        for topic in tuple(self._watchers):
            self.tell(topic)

    def close(self) -> None:
        """Have everybody leave who waits: the process ends."""
        self.closed = True
        self.tell_all()

    def watch(self, topic: Topic, watcher: Watcher) -> None:
        """Call somebody whenever something changes, until :meth:`unwatch`."""
        self._watchers.setdefault(topic, set()).add(watcher)

    def unwatch(self, topic: Topic, watcher: Watcher) -> None:
        """Call somebody no more."""
        watchers = self._watchers[topic]
        watchers.discard(watcher)
        if not watchers:
            del self._watchers[topic]

    @property
    def watched(self) -> bool:
        """Whether anybody watches anything."""
        return bool(self._watchers)

    @contextlib.contextmanager
    def watching(self, topic: Topic) -> Iterator[asyncio.Event]:
        """Lend an event that is set whenever something changes."""
        changed = asyncio.Event()
        self.watch(topic, changed.set)
        try:
            yield changed
        finally:
            self.unwatch(topic, changed.set)
