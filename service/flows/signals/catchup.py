"""Wake waiters whose signal from another process was lost: one query for all of them, every :data:`INTERVAL` seconds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from service.flows.context import Context, log
from service.flows.signals.local import ANY_CHANGE, feed_of
from service.flows.signals.postgres import has_channel
from service.store import feed
from service.store.database import StoreUnavailable

INTERVAL = 2.0
"""Seconds between queries."""
INTERVAL_ALONE = 1.0
"""The same where no signals arrive from other processes of a PostgreSQL database."""
MAX_CHANGES = 5_000
"""Changes that are signalled one by one. If there are more, every waiter is woken."""


@contextlib.asynccontextmanager
async def catching_up(context: Context) -> AsyncIterator[None]:
    """Wake waiters whose signal was lost, for the length of a ``with``."""
    task = asyncio.create_task(_run(context), name="signals-catchup")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _run(context: Context) -> None:
    seen: int | None = None
    alone = not context.database.sqlite and not has_channel(context)
    while True:
        try:
            seen = await catch_up(context, seen)
        except StoreUnavailable as error:
            log.debug("signal catch-up failed; retrying error=%s", error)
        except Exception:  # noqa: BLE001 - waiters depend on it
            log.exception("signal catch-up failed; retrying")
        await asyncio.sleep(INTERVAL_ALONE if alone else INTERVAL)


async def catch_up(context: Context, seen: int | None) -> int:
    """Wake the waiters that the events after a number concern, and return the number to continue from.

    :param seen: the number that the call before returned; None for the first call, which wakes nothing
    """
    async with context.database.reading() as connection:
        until = await feed.horizon(connection)
        missed = []
        if seen is not None and context.signals.watched:
            missed = await feed.changes(connection, after=seen, most=MAX_CHANGES)
    if len(missed) == MAX_CHANGES:
        context.signals.notify_all()
    else:
        for topic in {topic for each in missed for topic in (each.task_id, feed_of(each.client))}:
            context.signals.notify(topic)
        if missed:
            context.signals.notify(ANY_CHANGE)
    return until
