"""In-process wake-ups. They are hints: ``due_at`` and the rows are the truth, and a lost wake-up costs time only."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Final, Literal
from uuid import UUID

Journey = Literal["submit", "poll", "callbacks", "webhooks", "duplicates", "erasures", "results"]
Topic = UUID | str
"""A subject that can be watched: a task by its id, or all tasks of a client by :func:`feed_of`."""
Watcher = Callable[[], None]
_FEED: Final = "client:"


ANY_CHANGE: Final[Topic] = "any change"
"""The topic of every change of any task, for overviews of all clients."""


def feed_of(client: str) -> Topic:
    """Return the topic of a client's feed. Long names may share a topic: then a watcher wakes for nothing."""
    return f"{_FEED}{client[:200]}"


class Signals:
    """Wakes the journeys of this process, and requests that wait for a task or for a client's feed."""

    def __init__(self) -> None:
        """Start with no watchers."""
        self.journeys: dict[Journey, asyncio.Event] = {
            "submit": asyncio.Event(),
            "poll": asyncio.Event(),
            "callbacks": asyncio.Event(),
            "webhooks": asyncio.Event(),
            "duplicates": asyncio.Event(),
            "erasures": asyncio.Event(),
            "results": asyncio.Event(),
        }
        self.publish: Callable[[str], None] = lambda _: None
        """Sends a hint to the other processes; set where there are any."""
        self.closed = False
        """Whether the process is stopping and all waits must end."""
        self._watchers: dict[Topic, set[Watcher]] = {}

    def wake(self, *journeys: Journey) -> None:
        """Wake journeys that have rows due, in every process."""
        for journey in journeys:
            self.journeys[journey].set()
            self.publish(journey)

    def changed(self, task_id: UUID, client: str) -> None:
        """Wake the watchers of a task and of its client's feed, in every process."""
        for topic in (task_id, feed_of(client)):
            self.notify(topic)
            self.publish(str(topic))
        self.notify(ANY_CHANGE)

    def received(self, hint: str) -> None:
        """Act on a hint that another process published."""
        for journey, event in self.journeys.items():
            if hint == journey:
                event.set()
                return
        self.notify(hint)
        if hint.startswith(_FEED):
            self.notify(ANY_CHANGE)
        with contextlib.suppress(ValueError):  # a newer process may publish hints that are unknown to this version
            self.notify(UUID(hint))

    def notify(self, topic: Topic) -> None:
        """Wake the watchers of a topic in this process."""
        for watcher in tuple(self._watchers.get(topic, ())):
            watcher()

    def notify_all(self) -> None:
        """Wake every watcher in this process: hints may have been lost."""
        for topic in tuple(self._watchers):
            self.notify(topic)

    def close(self) -> None:
        """End all waits: the process is stopping."""
        self.closed = True
        self.notify_all()

    def watch(self, topic: Topic, watcher: Watcher) -> None:
        """Call a watcher at each change of a topic, until :meth:`unwatch`."""
        self._watchers.setdefault(topic, set()).add(watcher)

    def unwatch(self, topic: Topic, watcher: Watcher) -> None:
        """Stop calling a watcher."""
        watchers = self._watchers[topic]
        watchers.discard(watcher)
        if not watchers:
            del self._watchers[topic]

    @property
    def watched(self) -> bool:
        """Whether there is any watcher."""
        return bool(self._watchers)

    @contextlib.contextmanager
    def watching(self, topic: Topic) -> Iterator[asyncio.Event]:
        """Yield an event that is set at each change of a topic."""
        changed = asyncio.Event()
        self.watch(topic, changed.set)
        try:
            yield changed
        finally:
            self.unwatch(topic, changed.set)
