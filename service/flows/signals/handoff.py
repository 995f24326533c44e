"""Rows that a process claims as it writes them, on their way to the journey of the same process.

A row that is written due at once is found by a claim a moment later: a transaction, and the row is read and parsed again. A
row that is written with the lease of its first claim needs neither, and the process goes on with the value that it wrote. The lease
makes that safe: if the process dies, or forgets the row, the lease ends and the row is claimed as any other.

A handoff never lets a new row overtake older ones. It is open only while a claim has found that no other row of the queue is due, and
closes as soon as more rows come than its journey takes.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from service.domain.schedules import LEASE

Row = TypeVar("Row")
FRESH: Final = LEASE / 4
"""Seconds for which a row waits here. Later it is left to its lease."""
CLAIM_EVERY: Final = 1.0
"""Seconds after which a journey looks for other rows, however many it is handed."""


class Handoff(Generic[Row]):
    """The rows of one queue that this process has claimed as it wrote them."""

    def __init__(self, limit: int, wake: asyncio.Event, *, monotonic: Callable[[], float]) -> None:
        """Start closed: nothing is handed over before a journey works.

        :param limit: rows that may wait here
        :param wake: is set for each row
        :param monotonic: seconds of a clock that never jumps
        """
        self._limit = limit
        self._wake = wake
        self._monotonic = monotonic
        self._rows: deque[tuple[float, Row]] = deque()
        self._works = False
        self._is_open = False
        self._claimed_at: float | None = None

    def start(self) -> None:
        """Start to admit rows, as soon as a claim has found no other."""
        self._works = True

    def stop(self) -> None:
        """Admit no more rows."""
        self._works = self._is_open = False

    def admits(self) -> bool:
        """Return whether a row that is written now may be claimed as it is written."""
        if len(self._rows) >= self._limit:
            self._is_open = False
        return self._is_open

    def put(self, row: Row) -> None:
        """Add a row. Called after the commit that wrote it with its lease."""
        self._rows.append((self._monotonic(), row))
        self._wake.set()

    def put_back(self, rows: list[tuple[float, Row]]) -> None:
        """Keep rows for another round, with the times at which they came."""
        self._rows.extendleft(reversed(rows))

    def waiting(self) -> list[Row]:
        """Return the rows that wait here."""
        return [row for _, row in self._rows]

    def take(self, most: int) -> list[tuple[float, Row]]:
        """Remove and return rows that are fresh, the oldest first, with the times at which they came."""
        oldest = self._monotonic() - FRESH
        taken: list[tuple[float, Row]] = []
        while self._rows and len(taken) < most:
            came, row = self._rows.popleft()
            if came >= oldest:
                taken.append((came, row))
        return taken

    def needs_claim(self, taken: int) -> bool:
        """Return whether a round that was handed some rows claims others, too."""
        return not taken or self._claimed_at is None or self._monotonic() - self._claimed_at >= CLAIM_EVERY

    def claimed(self, *, all_due: bool) -> None:
        """Note a claim.

        :param all_due: whether it found every row that was due
        """
        self._claimed_at = self._monotonic()
        self._is_open = self._works and all_due
