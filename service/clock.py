"""The clock of a process. It follows a reference, and does not jump before stored times have been moved.

The reference is the database's clock on PostgreSQL, so that all processes agree, and this machine's clock on SQLite.
Between two readings of the reference the time comes from the monotonic clock. When the reference jumps by more than
:data:`JUMP` seconds, every stored time is first moved by the same span: no wait becomes longer, and no task expires
because of a jump.
"""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Literal

from service.flows.signals.local import Journey, Signals
from service.store import clock as clock_store
from service.store.database import Database, StoreUnavailable

log = logging.getLogger("dovecote")

PLAUSIBLE_YEARS: Final = range(2025, 2100)
"""The years in which a clock may be right: this version is not older, and will not be in use for so long."""
JUMP: Final = 5.0
"""Seconds from which on a change of the clock is a jump, and not a correction."""
CHECK_EVERY: Final = 1.0
DATABASE_EVERY: Final = 20.0
"""Seconds between two looks at the database's clock."""
LATE_FOR: Final = 60.0
"""Seconds after a jump back in which work that began before it may write due times by the old clock."""
MAX_ROUND_TRIP: Final = 1.0
"""Seconds: a slower answer of the database says too little about its clock."""
SKEW_WARNING: Final = 5.0
"""Seconds of difference to the database's clock that are logged."""


def warn_if_wrong(now: dt.datetime) -> bool:
    """Log a warning when a time cannot be right, as after a start without the clock's battery; return whether it did."""
    if now.year in PLAUSIBLE_YEARS:
        return False
    log.warning(
        "clock is wrong; set it, because TLS, deadlines and the order of tasks depend on it now=%s", now.isoformat()
    )
    return True


class Clock:
    """Returns the time. Calling it never returns a time beyond a jump that has not been handled."""

    def __init__(
        self, *, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Follow this machine's clock.

        :param wall: seconds since 1970
        :param monotonic: seconds since any moment
        """
        self._wall = wall
        self._monotonic = monotonic
        self._offset = self.wall_offset()
        self._follows_wall = True

    def __call__(self) -> dt.datetime:
        """Return the time: aware, UTC."""
        if self._follows_wall and abs(self.jump_to(self.wall_offset())) <= JUMP:
            self._offset = self.wall_offset()
        return self.at(self._offset)

    def at(self, offset: float) -> dt.datetime:
        """Return the time by another clock, which is ``offset`` seconds ahead of the monotonic one."""
        return dt.datetime.fromtimestamp(self._monotonic() + offset, dt.UTC)

    def monotonic(self) -> float:
        """Return the seconds of the monotonic clock."""
        return self._monotonic()

    def wall_offset(self) -> float:
        """Return by how many seconds this machine's clock is ahead of the monotonic one."""
        return self._wall() - self._monotonic()

    def jump_to(self, offset: float) -> float:
        """Return by how many seconds a clock is ahead of this one."""
        return offset - self._offset

    def follow_database(self, offset: float) -> None:
        """Follow the database's clock from now on.

        :param offset: seconds by which it is ahead of the monotonic clock
        """
        self._follows_wall = False
        self._offset = offset

    def accept(self, offset: float) -> None:
        """Continue from another offset."""
        self._offset = offset


@dataclasses.dataclass(frozen=True, slots=True)
class _JumpBack:
    """A jump back, by the old and the new clock, and until when work in flight may write by the old one."""

    before: dt.datetime
    after: dt.datetime
    until: float


async def _unheard(_: str, __: float) -> None:
    """Do nothing: there is no one to report to."""


class ClockGuard:
    """Watches the clocks of a process and handles their jumps."""

    def __init__(self, clock: Clock, database: Database, signals: Signals) -> None:
        """Prepare to watch.

        :param signals: woken after a jump, since rows may be due
        """
        self._clock = clock
        self._database = database
        self._signals = signals
        self._last_wall = clock.wall_offset()
        self._asked_at: float | None = None
        self._jumped_back: _JumpBack | None = None
        self.on_skew: Callable[[Literal["jump", "difference"], float], Awaitable[object]] = _unheard
        """Awaited after this machine's clock has jumped, or when it differs from the database's."""
        self.on_jump: list[Callable[[], None]] = []
        """Called after this machine's clock has jumped: for timers that wait by it."""

    async def start(self) -> None:
        """Find the reference, and move stored times if its clock was set back while no process ran.

        :raises StoreUnavailable: when the database cannot be reached
        """
        if not self._database.sqlite:
            offset = await self._database_offset()
            if offset is not None:
                self._clock.follow_database(offset)
                skew = self._clock.wall_offset() - offset
                if abs(skew) > SKEW_WARNING:
                    log.warning("clock differs from the database's, which is used seconds=%.1f", skew)
                    await self.on_skew("difference", skew)
        async with self._database.reading() as connection:
            newest = await clock_store.read_newest_event_time(connection)
        now = self._clock()
        if newest is not None and (newest - now).total_seconds() > JUMP:
            log.warning("clock was set back while stopped seconds=%.1f", (newest - now).total_seconds())
            async with self._database.writing() as connection:
                await clock_store.shift(connection, before=newest, after=now)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["ClockGuard"]:
        """Watch in the background for the length of a ``with``."""
        task = asyncio.create_task(self._watch(), name="clock guard")
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(CHECK_EVERY)
            try:
                await self.check()
            except StoreUnavailable as error:
                log.warning("clock cannot be compared with the database error=%s", error)
            except Exception:
                log.exception("clock check failed")

    async def check(self) -> None:
        """Compare the clocks once, and handle a jump.

        :raises StoreUnavailable: when the database cannot be reached; a jump is then handled at the next check
        """
        wall = self._clock.wall_offset()
        jump, self._last_wall = wall - self._last_wall, wall
        if abs(jump) > JUMP:
            log.warning("clock jumped seconds=%.1f", jump)
            for plan_again in self.on_jump:
                plan_again()
            await self.on_skew("jump", jump)
        offset = await self._reference(wall, jumped=abs(jump) > JUMP)
        if offset is None:
            return
        if abs(self._clock.jump_to(offset)) > JUMP:
            await self._move_stored_times(offset)
        elif self._jumped_back is not None:
            await self._pull_back(self._jumped_back)
        self._clock.accept(offset)

    async def _reference(self, wall: float, *, jumped: bool) -> float | None:
        """Return the offset of the reference; None while it need not be asked, or did not answer in time."""
        if self._database.sqlite:
            return wall
        now = self._clock.monotonic()
        every = DATABASE_EVERY if self._jumped_back is None else CHECK_EVERY
        if self._asked_at is not None and now - self._asked_at < every and not jumped:
            return None
        self._asked_at = now
        return await self._database_offset()

    async def _database_offset(self) -> float | None:
        async with self._database.reading() as connection:
            began = self._clock.monotonic()
            answer = await clock_store.read_database_time(connection)
            ended = self._clock.monotonic()
        return None if ended - began > MAX_ROUND_TRIP else answer - (began + ended) / 2

    async def _pull_back(self, jump: "_JumpBack") -> None:
        """Repair what work in flight has written by the old clock since a jump back."""
        async with self._database.writing() as connection:
            await clock_store.pull_back(connection, before=jump.before, after=jump.after)
        if self._clock.monotonic() > jump.until:
            self._jumped_back = None

    async def _move_stored_times(self, offset: float) -> None:
        before, after = self._clock(), self._clock.at(offset)
        async with self._database.writing() as connection:
            moved = await clock_store.shift(connection, before=before, after=after)
        self._jumped_back = _JumpBack(before, after, self._clock.monotonic() + LATE_FOR) if after < before else None
        if moved:
            log.warning("stored times moved with the clock seconds=%.1f", (after - before).total_seconds())
        self._clock.accept(offset)
        journeys: tuple[Journey, ...] = tuple(self._signals.journeys)
        self._signals.wake(*journeys)
