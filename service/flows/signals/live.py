"""The answers of upstreams that are read while they come, in the memory of this process.

A web request listens to the answer to a submission that a journey of the same process reads. What another process reads is
not heard here: then the listener waits for the end of the task.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from uuid import UUID

from service.providers.stream import Piece


class LiveAnswer:
    """The answer to the submission of one task, as far as it has come."""

    def __init__(self) -> None:
        """Start empty."""
        self.pieces: list[Piece] = []
        self.rounds = 0
        """How many submissions of the task have ended while somebody listened."""
        self._changed = asyncio.Event()

    def add(self, piece: Piece) -> None:
        """Add a piece. Those of a second submission would not continue the first: they are left out."""
        if self.rounds == 0 or not self.pieces:
            self.pieces.append(piece)
            self._changed.set()

    def end(self) -> None:
        """Note that a submission has ended, and that its outcome is stored."""
        self.rounds += 1
        self._changed.set()

    async def after(self, position: int, rounds: int) -> None:
        """Wait until there are more pieces than a number, or until another submission has ended."""
        while len(self.pieces) <= position and self.rounds <= rounds:
            self._changed.clear()
            await self._changed.wait()


class LiveAnswers:
    """The answers that somebody listens to, by task."""

    def __init__(self) -> None:
        """Start empty."""
        self._answers: dict[UUID, tuple[LiveAnswer, list[None]]] = {}

    @contextlib.contextmanager
    def listening(self, task_id: UUID) -> Iterator[LiveAnswer]:
        """Yield the answer to a task's submission. One that comes already is heard from its beginning."""
        with self._using(task_id) as answer:
            yield answer

    @contextlib.contextmanager
    def answering(self, task_id: UUID) -> Iterator[LiveAnswer | None]:
        """Yield what the pieces of an answer are added to; None where nobody listens."""
        if task_id not in self._answers:
            yield None
            return
        with self._using(task_id) as answer:
            try:
                yield answer
            finally:
                answer.end()

    @contextlib.contextmanager
    def _using(self, task_id: UUID) -> Iterator[LiveAnswer]:
        answer, users = self._answers.setdefault(task_id, (LiveAnswer(), []))
        users.append(None)
        try:
            yield answer
        finally:
            users.pop()
            if not users:
                self._answers.pop(task_id, None)
