"""One look for all who wait: whoever missed a bell is woken a little later, however many there are."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from service.flows.context import Context, log
from service.flows.signals import feed_of
from service.store import feed
from service.store.database import StoreUnavailable

LOOK_AGAIN = 2.0
"""Seconds between looks: a bell of another process may have been missed."""
MOST = 5_000
"""Changes that are looked at one by one; of more, everybody is told."""


@contextlib.asynccontextmanager
async def looking_out(context: Context) -> AsyncIterator[None]:
    """Look for news that nobody rang for, for the length of a ``with``."""
    task = asyncio.create_task(_look_again_and_again(context), name="lookout")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _look_again_and_again(context: Context) -> None:
    seen: int | None = None
    while True:
        try:
            seen = await look(context, seen)
        except StoreUnavailable as error:
            log.debug("nobody looks for missed news for now: %s", error)
        except Exception:  # noqa: BLE001 - who waits would wait in vain
            log.exception("a look for missed news broke off; will look again")
        await asyncio.sleep(LOOK_AGAIN)


async def look(context: Context, seen: int | None) -> int:
    """Wake those whom the events after a number concern, and give the number to look from next.

    :param seen: what the look before gave; None at the first one, which begins with what comes now
    """
    async with context.database.reading() as connection:
        until = await feed.horizon(connection)
        missed = []
        if seen is not None and context.signals.watched:
            missed = await feed.changes(connection, after=seen, most=MOST)
    if len(missed) == MOST:
        context.signals.notify_all()
    else:
        for topic in {topic for each in missed for topic in (each.task_id, feed_of(each.client))}:
            context.signals.notify(topic)
    return until
