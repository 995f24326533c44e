"""Keep the sums of hours and days that have ended, so that the ledger and the usage of a long time are read quickly."""

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from service.flows.context import Context, log
from service.store import leases, ledger, sums
from service.store.database import StoreUnavailable
from service.store.money import label_sums, usage
from service.store.sums import day_of, hour_of
from service.store.triggers import LABELS, MONEY, SUBMISSIONS

EVERY: Final = 300.0
"""Seconds between two rounds."""
LEASE: Final = 120.0
MAX_PERIODS: Final = 12
"""Periods of a subject that one round sums. The next one follows at once while there are more."""
SETTLED: Final = dt.timedelta(hours=3)
"""How long after its end the hours of a day are kept as one day: most of its tasks have ended."""
HOURS_KEPT: Final = dt.timedelta(days=2)
"""The hours of the last days stay beside them: somebody may be reading them just now."""
OLDEST: Final = dt.timedelta(days=1100)
"""Older periods are summed from their rows."""
LOCK_TIMEOUT: Final = 0.25
"""Seconds that moving the watch waits for the writers of the moment on PostgreSQL: others wait behind it."""

_SUMS_OF: Final[
    Mapping[str, Callable[[AsyncConnection, dt.datetime, dt.datetime], Awaitable[list[dict[str, Any]]]]]
] = {
    SUBMISSIONS: ledger.sums_of,
    MONEY: usage.sums_of,
    LABELS: label_sums.sums_of,
}


async def run_due(context: Context) -> int:
    """Sum periods that have ended or changed, if this process has the lease; return how many are left."""
    now = context.now()
    if not await context.writers.journeys.run(leases.acquire, "sums", context.process, now=now, seconds=LEASE):
        return 0
    await _move_watch(context, hour_of(now))
    left = 0
    for subject in sums.SUBJECTS:
        async with context.database.reading() as connection:
            due = await sums.due(connection, subject, days_until=day_of(now - SETTLED), oldest=day_of(now - OLDEST))
        for period in due[:MAX_PERIODS]:
            await sum_again(context, subject, period)
        left += max(len(due) - MAX_PERIODS, 0)
    await context.writers.journeys.run(
        sums.drop, hours_before=day_of(now - HOURS_KEPT), days_before=day_of(now - OLDEST)
    )
    return left


async def _move_watch(context: Context, until: dt.datetime) -> None:
    """Write the time of the watch in a transaction of its own: it waits for all other writers."""
    async with context.database.reading() as connection:
        found = [await sums.watched_until(connection, subject) for subject in sums.SUBJECTS]
    if all(each is not None and each >= until for each in found):
        return
    try:
        async with context.database.writing(lock_timeout=LOCK_TIMEOUT) as connection:
            await sums.watch(connection, until)
    except StoreUnavailable as error:
        log.info("watch of sums not moved; it is tried again error=%s", error)


async def sum_again(context: Context, subject: str, period: tuple[dt.datetime, dt.datetime]) -> bool:
    """Sum a period and keep it; return False where another process began it meanwhile."""
    journeys = context.writers.journeys
    version = await journeys.run(sums.begin, subject, period)
    async with context.database.reading() as connection:
        rows = await _SUMS_OF[subject](connection, *period)
    return await journeys.run(sums.keep, subject, period, version, rows)
