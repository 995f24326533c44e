"""The retention journey: remove what is older than the settings allow, in small steps, in one process at a time.

A sweep goes through each kind of data once, oldest first. No step holds a lock for long: the number of its rows follows the
time that the step before has taken. Between two steps it pauses, so that requests and other journeys go on.
"""

import asyncio
import dataclasses
import datetime as dt
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.money.budgets import period_of
from service.flows.context import Context, log
from service.flows.retention.limits import limits_at
from service.store import leases, sqlite_space
from service.store.database import StoreUnavailable
from service.store.money import counters
from service.store.retention import STEPS, Limits, Remove, Step

LEASE_NAME: Final = "retention"
LEASE_SECONDS: Final = 60.0
EVERY: Final = 60.0
"""Seconds between two sweeps."""
TURN: Final = 1.0
"""Seconds of work after which a stop, or another holder of the lease, is noticed."""
FIRST_SIZE: Final = 20
MIN_SIZE: Final = 10
"""Rows of a step: the first one, and the smallest. A step has a cost of its own, so that a smaller one would not be shorter."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """How much room a sweep leaves for other work."""

    target: float
    """Seconds that a step should take: it holds its locks for so long."""
    pause: float
    """The pause after a step, as a multiple of its time."""
    most: int = 500
    """Rows of the largest step."""
    min_pause: float = 0.002

    def next_size(self, size: int, seconds: float) -> int:
        """Return the rows of the next step, from those of the last one and the time that it took."""
        fitting = size * self.target / max(seconds, 0.0001)
        return max(MIN_SIZE, min(int(min(fitting, 2 * size)), self.most))

    def pause_after(self, seconds: float) -> float:
        """Return the pause after a step that took some seconds."""
        return max(self.pause * seconds, self.min_pause)


PACES: Final = {True: Pace(target=0.008, pause=5.0), False: Pace(target=0.025, pause=2.0)}
"""On SQLite, where nobody else writes during a step, and on PostgreSQL, where only rows of ended tasks are locked."""
ALONE: Final = Pace(target=0.25, pause=0.0, most=2000, min_pause=0.0)
"""For a sweep beside which nothing else runs."""
_PAGES: Final = "free pages"
GIVES_BACK_FOR: Final = 60.0
"""Seconds for which one sweep returns free pages. SQLite needs hours for millions of them; new rows use the rest."""
MAX_COUNTERS: Final = 500
"""Counters of budgets that are removed in one step."""
COUNTERS_KEPT: Final = dt.timedelta(days=62)
"""For how long the counters of budgets are kept after their period. Only those of the present period decide anything."""


@dataclasses.dataclass(slots=True)
class Sweep:
    """How far a sweep has come, in the memory of this process. A sweep that is cut short begins anew."""

    pace: Pace | None = None
    """None: the one that suits the database, beside other work."""
    kinds: Iterator[str] = dataclasses.field(default_factory=lambda: iter(()))
    kind: str | None = None
    after: Any = None
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    """The rows of the next step, by kind."""
    removed: Counter[str] = dataclasses.field(default_factory=Counter)
    longest: float = 0.0
    """Seconds of the longest step."""
    failed: dict[str, Exception] = dataclasses.field(default_factory=dict)
    """The failures of this sweep, by kind."""
    gives_back_until: float | None = None
    """The end of returning free pages, by the monotonic clock."""
    under_way: bool = False
    """Whether there is anything left to do, if only to return free pages."""

    def begin(self) -> None:
        """Begin at the first kind."""
        self.kinds, self.after, self.removed, self.longest, self.failed = iter(STEPS), None, Counter(), 0.0, {}
        self.kind, self.under_way, self.gives_back_until = next(self.kinds), True, None

    def go_on(self) -> None:
        """Go on to the next kind."""
        self.kind, self.after = next(self.kinds, None), None

    def note(self, began: float) -> float:
        """Note a step that has just been committed, and return for how many seconds it held its locks."""
        seconds = time.monotonic() - began
        self.longest = max(self.longest, seconds)
        return seconds


async def run_due(context: Context, sweep: Sweep) -> int:
    """Work on a sweep for a while, if this process has the lease; return 1 where the sweep is not at its end.

    A kind whose step fails is left for the next sweep, so that it does not keep the kinds behind it from going.

    :raises ExceptionGroup: at the end of a sweep, with the failures of its steps
    """
    now = context.now()
    holds = await context.writers.journeys.run(
        leases.acquire, LEASE_NAME, context.process, now=now, seconds=LEASE_SECONDS
    )
    if not holds:
        sweep.under_way = False
        return 0
    if not sweep.under_way:
        sweep.begin()
    end = time.monotonic() + TURN
    while sweep.kind is not None and time.monotonic() < end:
        await _step(context, sweep)
    if sweep.kind is not None or await _remove_counters(context) or await _give_back(context, sweep):
        return 1
    sweep.under_way = False
    if sweep.removed:
        counts = ",".join(f"{kind}:{count}" for kind, count in sweep.removed.items())
        log.info("retention sweep ended removed=%s longest_step_ms=%.0f", counts, sweep.longest * 1000)
    if sweep.failed:
        raise ExceptionGroup(f"retention did not remove all {', '.join(sweep.failed)}", list(sweep.failed.values()))
    return 0


async def run_to_the_end(context: Context, *, alone: bool = False) -> Sweep:
    """Remove everything that is too old, and return the finished sweep.

    :param alone: whether nothing else uses the database, so that steps may be long
    :raises LookupError: when another process has the lease
    :raises ExceptionGroup: when some of it could not be removed
    """
    sweep = Sweep(ALONE if alone else None)
    while await run_due(context, sweep):
        pass
    await context.writers.journeys.run(leases.release, LEASE_NAME, context.process)
    if not sweep.sizes:
        raise LookupError("another process is removing old data at the moment")
    return sweep


async def _step(context: Context, sweep: Sweep) -> None:
    """Do one step of a sweep, and pause."""
    kind = sweep.kind or ""
    limits = limits_at(context.settings.retention, kind, context.now())
    size = sweep.sizes.setdefault(kind, FIRST_SIZE)
    if limits is None:
        sweep.go_on()
        return
    try:
        step, began = await context.writers.journeys.run(_timed, STEPS[kind], limits, after=sweep.after, most=size)
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - raised at the end of the sweep
        sweep.failed[kind] = error
        sweep.go_on()
        return
    seconds, pace = sweep.note(began), _pace(context, sweep)
    sweep.sizes[kind] = pace.next_size(size, seconds) if step.examined else size
    if step.removed:
        sweep.removed[kind] += step.removed
        context.signals.wake("results")  # kept copies may be due to be deleted
    if step.examined:
        sweep.after = step.after
        await asyncio.sleep(pace.pause_after(seconds))
    else:
        sweep.go_on()


def _pace(context: Context, sweep: Sweep) -> Pace:
    return sweep.pace or PACES[context.database.sqlite]


async def _remove_counters(context: Context) -> bool:
    """Remove some counters of budgets whose period is long over; return whether there may be more."""
    before = period_of("month", context.now() - COUNTERS_KEPT)
    return await context.writers.journeys.run(counters.remove_ended, before, most=MAX_COUNTERS) == MAX_COUNTERS


async def _timed(
    connection: AsyncConnection, remove: Remove, limits: Limits, *, after: Any, most: int
) -> tuple[Step, float]:
    """Do a step, and return when it began. The caller has the answer after the commit, when the locks are released."""
    began = time.monotonic()
    return await remove(connection, limits, after=after, most=most), began


async def _give_back(context: Context, sweep: Sweep) -> bool:
    """Return free pages of a SQLite file to the file system for a while; return whether more are free than are needed."""
    if not context.database.sqlite:
        return False
    now, pace = time.monotonic(), _pace(context, sweep)
    sweep.gives_back_until = sweep.gives_back_until or now + GIVES_BACK_FOR
    end = min(now + TURN, sweep.gives_back_until)
    while time.monotonic() < end:
        size = sweep.sizes.setdefault(_PAGES, FIRST_SIZE)
        gave, began = await context.writers.journeys.run(_give_back_some, size, pace.target)
        if not gave:
            return False
        seconds = sweep.note(began)
        sweep.sizes[_PAGES] = pace.next_size(size, seconds)
        await asyncio.sleep(pace.pause_after(seconds))
    return time.monotonic() < sweep.gives_back_until


async def _give_back_some(connection: AsyncConnection, pages: int, seconds: float) -> tuple[int, float]:
    """Return how many free pages were given back, and when that began."""
    began = time.monotonic()
    return await sqlite_space.give_back(connection, pages, seconds=seconds), began
