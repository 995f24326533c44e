"""Learn from how the last tasks ended: what a kind takes, and whether callbacks still come."""

import datetime as dt

from service.flows.context import Context, log
from service.store.tasks import recent_endings

WINDOW = dt.timedelta(days=7)
MOST = 2000
"""Endings that are read at most."""


async def learn(context: Context) -> int:
    """Read the last endings and take them in; answer how many there were.

    :raises StoreUnavailable: when the database is out of reach
    """
    async with context.database.reading() as connection:
        endings = await recent_endings(connection, since=context.now() - WINDOW, most=MOST)
    before = context.statistics.unreliable_callbacks()
    context.statistics.learn(endings)
    for upstream, dialect in context.statistics.unreliable_callbacks() - before:
        log.warning(
            "callbacks of %s (%s) have all but stopped coming: polling as if there were none", upstream, dialect
        )
    return len(endings)
