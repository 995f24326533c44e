"""Report to operators that no worker is alive, or none of a flow. The process that notices it delivers the message by itself."""

import asyncio
import datetime as dt
from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.flows import FLOWS, Flow
from service.domain.operator_events import WORKER_MISSING, Occurrence
from service.flows.context import Context, log
from service.flows.webhooks.claimed import Claimed
from service.flows.webhooks.dispatch import deliver
from service.flows.webhooks.operator import announce, others_ended
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
    """Report once that no worker is alive, or none of a flow, until one is again.

    :raises StoreUnavailable: when the database is out of reach
    """
    async with context.database.reading() as connection:
        silent = missing_flows(context, await health.last_workers(connection))
    missing = _occurrences(silent)
    await others_ended(context, WORKER_MISSING, [each.subject for each in missing])
    if not missing:
        return
    messages = await context.writers.journeys.run(_announce, context, missing)
    if messages:
        log.error("worker missing reason=%s", sentence_of(silent))
    await asyncio.gather(*(_deliver(context, each) for each in messages))


def silent_flows(context: Context, seen: Mapping[Flow, dt.datetime]) -> dict[Flow, float]:
    """Return for how many seconds no worker of each flow has been alive, counted from the start of this process at the earliest.

    A flow that has nothing to do in this installation is left out.
    """
    now, start = context.now(), context.started_at
    needed = [flow for flow in FLOWS if flow != "results" or context.settings.stores_files]
    return {flow: (now - max(seen.get(flow, start), start)) / dt.timedelta(seconds=1) for flow in needed}


def missing_flows(context: Context, seen: Mapping[Flow, dt.datetime]) -> dict[Flow, float]:
    """Return the flows of which no worker is alive, with the seconds since one was. All of them: no worker is alive at all."""
    silent = silent_flows(context, seen)
    missing = {flow: seconds for flow, seconds in silent.items() if seconds > WORKER_SILENT}
    return dict.fromkeys(FLOWS, min(missing.values())) if missing.keys() == silent.keys() else missing


def sentence_of(missing: Mapping[Flow, float]) -> str:
    """Return in one sentence which workers are missing."""
    if len(missing) == len(FLOWS):
        return f"no worker has been alive for {min(missing.values()):.0f} s"
    flows = f"flow{'s' * (len(missing) > 1)} {', '.join(sorted(missing))}"
    return f"no worker of the {flows} has been alive for {max(missing.values()):.0f} s"


def _occurrences(missing: Mapping[Flow, float]) -> list[Occurrence]:
    """Return one occurrence for all flows, or one for each that is missing."""
    subjects = {"": sorted(missing)} if len(missing) == len(FLOWS) else {flow: [flow] for flow in missing}
    return [
        Occurrence(WORKER_MISSING, subject, {"silent_seconds": round(missing[flows[0]]), "flows": flows})
        for subject, flows in subjects.items()
    ]


async def _announce(connection: AsyncConnection, context: Context, missing: Sequence[Occurrence]) -> list[Message]:
    return await announce(context, connection, missing, claimed=True)


async def _deliver(context: Context, message: Message) -> None:
    """Make the first attempt here. A worker makes the others when it is back."""
    claimed_at = context.monotonic()
    ids = [] if message.endpoint_id is None else [message.endpoint_id]
    async with context.database.reading() as connection:
        found = await endpoints.of_ids(connection, ids)
    context.destination_slots.acquire(destination_of(message))
    await deliver(context, Claimed(message, found.get(ids[0]) if ids else None), claimed_at=claimed_at)
