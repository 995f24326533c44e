"""The batching writer: requests that write one row share a transaction, and each is answered after its commit.

While one transaction commits the next requests gather; there is no timer, the commit before is the wait. One writer
per process also means that no two transactions of a process wait for each other's rows.

A provider or a client that waits for an answer goes first; the journeys, whose rows are due whether we look now or in
a moment, wait for a pause, or for their turn after :data:`PATIENCE`. So a burst is answered quickly and digested steadily.
"""

import asyncio
import contextlib
import dataclasses
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.database import Database, StoreBusy, StoreContended, StoreUnavailable, out_of_reach

log = logging.getLogger("dovecote")

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Batch = Callable[[AsyncConnection, Sequence[Item]], Awaitable[Sequence[Answer]]]
"""Writes many items in the transaction that it is given and answers each, in order."""

BATCH_SIZE = 256
MAX_WAITING = 10_000
MAX_CONTENDED = 5
"""How often a transaction is made that others stand in the way of."""
PATIENCE = 0.025
"""Seconds for which requests at the doors may go before the journeys."""


@dataclasses.dataclass(slots=True)
class _Wish:
    batch: Batch[Any, Any]
    item: Any
    answer: asyncio.Future[Any]
    since: float
    """When it came, by the event loop's clock."""

    def waited(self) -> float:
        """Say for how many seconds it has been waiting."""
        return asyncio.get_running_loop().time() - self.since


class Writer:
    """Gathers writes and commits them together."""

    def __init__(self, database: Database) -> None:
        """Prepare; :meth:`run` does the work."""
        self._database = database
        self._at_the_door: deque[_Wish] = deque()
        self._waiting: deque[_Wish] = deque()
        self._doors_had_their_turn = False
        self._wake = asyncio.Event()
        self._closing = False

    async def do(self, batch: Batch[Item, Answer], item: Item) -> Answer:
        """Write one item and wait for the commit.

        :raises StoreUnavailable: when the database does not answer; it may have been written all the same
        :raises StoreBusy: when too many writes are waiting already
        """
        return await self._do(self._waiting, batch, item)

    async def do_first(self, batch: Batch[Item, Answer], item: Item) -> Answer:
        """Write one item that somebody outside waits for, before those that can wait; else as :meth:`do`."""
        return await self._do(self._at_the_door, batch, item)

    async def _do(self, line: deque[_Wish], batch: Batch[Item, Answer], item: Item) -> Answer:
        if self._closing or len(line) >= MAX_WAITING:
            raise StoreBusy("shutting down" if self._closing else "too many writes are waiting")
        loop = asyncio.get_running_loop()
        wish = _Wish(batch, item, loop.create_future(), loop.time())
        line.append(wish)
        self._wake.set()
        answer: Answer = await wish.answer
        return answer

    async def run(self) -> None:
        """Commit batch after batch until closed; then commit what is left."""
        while not self._closing:
            await self._wake.wait()
            self._wake.clear()
            await self._commit_all()

    async def _commit_all(self) -> None:
        while self._at_the_door or self._waiting:
            await self._commit(self._gather())

    @contextlib.asynccontextmanager
    async def running(self) -> Any:
        """Run in the background for the length of a ``with``; what is under way or waits at the end is still committed."""
        task = asyncio.create_task(self.run(), name="writer")
        try:
            yield self
        finally:
            self._closing = True
            self._wake.set()
            await task

    def _gather(self) -> list[_Wish]:
        line = self._at_the_door or self._waiting
        # By turns even when both lines never end: neither starves the other.
        if self._doors_had_their_turn and self._waiting and self._waiting[0].waited() > PATIENCE:
            line = self._waiting
        self._doors_had_their_turn = line is self._at_the_door
        wishes = (line.popleft() for _ in range(min(len(line), BATCH_SIZE)))
        return [wish for wish in wishes if not wish.answer.done()]

    async def _commit(self, wishes: list[_Wish]) -> None:
        """Write all wishes in one transaction; when a statement is wrong, each in its own, so that one cannot spoil the rest."""
        try:
            await self._write(wishes)
        except asyncio.CancelledError:
            _fail(wishes, StoreUnavailable("shutting down"))
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is handed to those who wait
            if out_of_reach(error) or len(wishes) == 1:
                _fail(wishes, error)
                return
            log.warning(
                "%d writes cannot be made together, so each is made by itself: %s", len(wishes), type(error).__name__
            )
            for wish in wishes:
                await self._commit([wish])

    async def _write(self, wishes: list[_Wish]) -> None:
        for _ in range(MAX_CONTENDED - 1):
            try:
                await self._write_once(wishes)
            except StoreContended as error:
                log.info("%d writes are made again: %s", len(wishes), error)
            else:
                return
        await self._write_once(wishes)

    async def _write_once(self, wishes: list[_Wish]) -> None:
        groups: dict[Batch[Any, Any], list[_Wish]] = {}
        for wish in wishes:
            groups.setdefault(wish.batch, []).append(wish)
        answers: list[tuple[_Wish, Any]] = []
        async with self._database.writing() as connection:
            for batch, group in groups.items():
                given = await batch(connection, [wish.item for wish in group])
                answers += zip(group, given, strict=True)
        for wish, answer in answers:
            if not wish.answer.done():
                wish.answer.set_result(answer)


def _fail(wishes: list[_Wish], error: BaseException) -> None:
    for wish in wishes:
        if not wish.answer.done():
            wish.answer.set_exception(error)
