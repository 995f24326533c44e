"""Report to operators that no worker is alive. The process that notices it delivers the message by itself."""

import asyncio
import datetime as dt

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.operator_events import WORKER_MISSING, Occurrence
from service.flows.context import Context, log
from service.flows.webhooks.attempt import Claimed
from service.flows.webhooks.dispatch import deliver
from service.flows.webhooks.operator import announce, ended
from service.store import health
from service.store.database import StoreUnavailable
from service.store.webhooks import endpoints
from service.store.webhooks.claim import destination_of
from service.store.webhooks.messages import Message

EVERY = 15.0
"""Seconds between two checks."""
WORKER_SILENT = 60.0
"""Seconds after the last heartbeat of any worker, and after the start of this process, from which on none is alive."""


async def watch_workers(context: Context) -> None:
    """Check again and again whether a worker is alive."""
    while True:
        await asyncio.sleep(EVERY)
        try:
            await check_workers(context)
        except StoreUnavailable as error:
            log.warning("workers cannot be checked error=%s", error)
        except Exception:  # noqa: BLE001 - the next check is tried whatever this one met
            log.exception("check of workers failed")


async def check_workers(context: Context) -> None:
    """Report once that no worker is alive, until one is again.

    :raises StoreUnavailable: when the database is out of reach
    """
    async with context.database.reading() as connection:
        silent = silent_seconds(context, await health.last_worker(connection))
    if silent <= WORKER_SILENT:
        await ended(context, WORKER_MISSING, "")
        return
    missing = Occurrence(WORKER_MISSING, "", {"silent_seconds": round(silent)})
    messages = await context.writers.journeys.run(_announce, context, missing)
    if messages:
        log.error("no worker is alive seconds=%.0f", silent)
    await asyncio.gather(*(_deliver(context, each) for each in messages))


def silent_seconds(context: Context, seen: dt.datetime | None) -> float:
    """Return for how long no worker has been alive, counted from the start of this process at the earliest."""
    since = max(seen or context.started_at, context.started_at)
    return (context.now() - since) / dt.timedelta(seconds=1)


async def _announce(connection: AsyncConnection, context: Context, missing: Occurrence) -> list[Message]:
    return await announce(context, connection, [missing], claimed=True)


async def _deliver(context: Context, message: Message) -> None:
    """Make the first attempt here. A worker makes the others when it is back."""
    claimed_at = context.monotonic()
    ids = [] if message.endpoint_id is None else [message.endpoint_id]
    async with context.database.reading() as connection:
        found = await endpoints.of_ids(connection, ids)
    context.destination_slots.acquire(destination_of(message))
    await deliver(context, Claimed(message, found.get(ids[0]) if ids else None), claimed_at=claimed_at)
