"""The clocks: APScheduler ticks, signals ring in between, and the journeys do the work."""

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from service.flows import callbacks, polling
from service.flows.concurrency import TaskPool
from service.flows.context import Context, log
from service.flows.signals import Journey
from service.flows.statistics import update_statistics
from service.flows.submission import duplicates
from service.flows.submission import run as submission_run
from service.flows.upstreams import credit
from service.flows.webhooks import dispatch
from service.store.database import StoreUnavailable

TICK = 1.0
"""Seconds between looks at a queue when no bell rings."""
LEARN_EVERY = 30.0
DRAIN = 25.0
"""Seconds that conversations under way get to end when the process is stopped."""


@contextlib.asynccontextmanager
async def working(context: Context) -> AsyncIterator[None]:
    """Run all journeys in the background for the length of a ``with``."""
    submits, polls, messages, chases = (
        TaskPool(most, when_free=context.signals.journeys[journey].set) for journey, most in _BOUNDS.items()
    )
    rounds: dict[Journey, Callable[[], Awaitable[int]]] = {
        "submit": lambda: submission_run.run_due(context, submits),
        "poll": lambda: polling.run_due(context, polls),
        "callbacks": lambda: callbacks.run_due(context),
        "webhooks": lambda: dispatch.run_due(context, messages),
        "duplicates": lambda: duplicates.run_due(context, chases),
    }
    scheduler = AsyncIOScheduler(timezone=dt.UTC)
    for journey, bell in context.signals.journeys.items():
        scheduler.add_job(bell.set, IntervalTrigger(seconds=TICK, timezone=dt.UTC), id=journey, **_TICKING)
    scheduler.add_job(
        update_statistics, IntervalTrigger(seconds=LEARN_EVERY, timezone=dt.UTC), args=[context], id="learn", **_TICKING
    )
    scheduler.add_job(_look_at_credit, args=[context, credit.AT_START], id="credit at start", misfire_grace_time=None)
    scheduler.add_job(
        _look_at_credit, IntervalTrigger(seconds=credit.EVERY, timezone=dt.UTC), args=[context], id="credit", **_TICKING
    )
    pumps = [asyncio.create_task(_pump(context, journey, work), name=journey) for journey, work in rounds.items()]
    await _quietly("learn", update_statistics(context))
    scheduler.start()
    try:
        yield
    finally:
        scheduler.shutdown(wait=False)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        # Purchases first: an answer that is not waited for leaves a task unconfirmed.
        await asyncio.gather(*(each.finish(within=DRAIN) for each in (submits, polls, messages, chases)))


_BOUNDS: dict[Journey, int] = {
    "submit": submission_run.MAX_CONCURRENT,
    "poll": polling.MAX_CONCURRENT,
    "webhooks": dispatch.MAX_CONCURRENT,
    "duplicates": duplicates.MAX_CONCURRENT,
}
_TICKING = {"max_instances": 1, "coalesce": True, "misfire_grace_time": None}


async def _look_at_credit(context: Context, after: float = credit.DUE) -> None:
    """Ask what is left on the accounts. Nothing waits for it."""
    await _quietly("credit", credit.ask_due(context, after=after))


async def _pump(context: Context, journey: Journey, work: Callable[[], Awaitable[int]]) -> None:
    """Work off a queue whenever its bell rings."""
    bell = context.signals.journeys[journey]
    while True:
        await bell.wait()
        bell.clear()
        while await _quietly(journey, work()):
            pass


async def _quietly(what: str, work: Awaitable[int]) -> int:
    """Do one round; what goes wrong is logged, and the next tick tries again."""
    try:
        return await work
    except StoreUnavailable as error:
        log.warning("%s: %s; will look again", what, error)
    except Exception:  # noqa: BLE001 - a clock never stops
        log.exception("%s: a round broke off; will look again", what)
    return 0
