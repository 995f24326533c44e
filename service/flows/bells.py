"""Bells: hints that wake whoever waits. ``due_at`` and the rows are the truth; a bell that is missed costs time only."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Literal
from uuid import UUID

Journey = Literal["submit", "poll", "inbox", "outbox", "extras"]


class Bells:
    """Wakes the journeys of this process, and requests that wait for a task."""

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
        self._watchers: dict[UUID, set[asyncio.Event]] = {}

    def ring(self, *journeys: Journey) -> None:
        """Say that a journey has rows due."""
        for journey in journeys:
            self.journeys[journey].set()
            self.abroad(journey)

    def changed(self, task_id: UUID) -> None:
        """Say that a task has changed."""
        self._tell(task_id)
        self.abroad(str(task_id))

    def heard(self, hint: str) -> None:
        """Take in what another process rang."""
        for journey, bell in self.journeys.items():
            if hint == journey:
                bell.set()
                return
        with contextlib.suppress(ValueError):  # a newer process may ring what we do not know
            self._tell(UUID(hint))

    @contextlib.contextmanager
    def watching(self, task_id: UUID) -> Iterator[asyncio.Event]:
        """Lend an event that is set whenever the task changes."""
        watcher = asyncio.Event()
        self._watchers.setdefault(task_id, set()).add(watcher)
        try:
            yield watcher
        finally:
            watchers = self._watchers[task_id]
            watchers.discard(watcher)
            if not watchers:
                del self._watchers[task_id]

    def _tell(self, task_id: UUID) -> None:
        for watcher in self._watchers.get(task_id, ()):
            watcher.set()
