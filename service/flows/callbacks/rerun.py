"""Process stored callbacks again: after an update Dovecote may understand one that it did not understand before."""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from service.flows.context import Context, log
from service.store import queue

MAX_AT_ONCE: Final = 1000
"""Callbacks of one request."""


async def rerun(context: Context, ids: Collection[UUID]) -> int:
    """Make stored callbacks due again; return how many are. The journey then reads and applies them like new ones.

    A callback that was applied before changes nothing: what it reports is known.

    :raises StoreUnavailable: when the database is out of reach
    """
    count = await context.writers.requests.run(queue.rerun_callbacks, set(ids), now=context.now())
    if count:
        log.info("callbacks run again count=%d", count)
        context.signals.wake("callbacks")
    return count
