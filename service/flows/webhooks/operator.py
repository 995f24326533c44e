"""Report to operators what happens to the installation: messages to the endpoints whose scope is ``admin``."""

import datetime as dt
import logging
import platform
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.events import rfc3339
from service.domain.operator_events import CLOCK_SKEW, MAX_SUBJECT, Kind, Occurrence
from service.domain.schedules import LEASE
from service.domain.webhook_events import endpoint_wants
from service.flows.context import Context
from service.flows.webhooks.enqueue import endpoint_destination
from service.store.database import StoreUnavailable
from service.store.webhooks import endpoints, occurrences
from service.store.webhooks import messages as message_store
from service.store.webhooks.endpoints import Endpoint
from service.store.webhooks.messages import Message

log = logging.getLogger("dovecote")


async def announce(
    context: Context, connection: AsyncConnection, happened: Iterable[Occurrence], *, claimed: bool = False
) -> list[Message]:
    """Write the messages about what happened, in the transaction that noticed it, unless it was reported before.

    :param claimed: the caller delivers them: they are claimed as they are written
    """
    in_order = sorted(happened, key=lambda each: (each.kind.type, each.subject))  # so that no two processes deadlock
    new = [each for each in in_order if await _is_new(context, connection, each)]
    if not new:
        return []
    receivers = await endpoints.of_operators(connection)
    messages = [
        _message(context, each, receiver, claimed=claimed)
        for each in new
        for receiver in receivers
        if endpoint_wants(receiver.events, each.kind.type)
    ]
    await message_store.insert(connection, messages)
    for each in new:
        log.info("operator event type=%s subject=%s messages=%d", each.kind.type, each.subject, len(messages))
    if messages and not claimed:
        context.signals.wake("webhooks")
    return messages


async def report(context: Context, *happened: Occurrence) -> list[Message]:
    """Write the messages in a transaction of their own. A report is a hint: an unreachable database is only logged."""
    try:
        return await context.writers.journeys.run(_announce, context, happened)
    except StoreUnavailable as error:
        for each in happened:
            log.warning("operator event not written type=%s error=%s", each.kind.type, error)
        return []


async def ended(context: Context, kind: Kind, subject: str) -> None:
    """Note that something is over, so that its next occurrence is reported."""
    try:
        await context.writers.journeys.run(occurrences.end, kind.type, subject[:MAX_SUBJECT])
    except StoreUnavailable as error:
        log.warning("end of an operator event not written type=%s error=%s", kind.type, error)


async def others_ended(context: Context, kind: Kind, subjects: Collection[str]) -> None:
    """Note that the occurrences of a kind about all other subjects are over."""
    try:
        await context.writers.journeys.run(occurrences.end_others, kind.type, subjects)
    except StoreUnavailable as error:
        log.warning("end of an operator event not written type=%s error=%s", kind.type, error)


async def _announce(connection: AsyncConnection, context: Context, happened: Sequence[Occurrence]) -> list[Message]:
    return await announce(context, connection, happened)


async def _is_new(context: Context, connection: AsyncConnection, each: Occurrence) -> bool:
    if each.kind.again_after == 0.0:  # it is noticed by one process, in one transaction
        return True
    return await occurrences.begin(
        connection,
        each.kind.type,
        each.subject[:MAX_SUBJECT],
        now=context.now(),
        again_after=each.kind.again_after,
    )


def _message(context: Context, happened: Occurrence, receiver: Endpoint, *, claimed: bool) -> Message:
    now = context.now()
    document: dict[str, Any] = {
        "type": happened.kind.type,
        "timestamp": rfc3339(now),
        "sequence": 0,
        "data": {name: happened.data.get(name) for name in happened.kind.data},
    }
    return Message(
        id=context.new_id(),
        client=receiver.client,
        task_id=None,
        endpoint_id=receiver.id,
        destination=endpoint_destination(receiver.id),
        sequence=0,
        type=happened.kind.type,
        url=receiver.url,
        body=orjson.dumps(document).decode(),
        created_at=now,
        due_at=now + dt.timedelta(seconds=LEASE) if claimed else now,
        attempts=int(claimed),
    )


async def report_clock(context: Context, kind: Literal["jump", "difference"], seconds: float) -> None:
    """Report that this machine's clock jumped, or differs from the database's."""
    data = {"machine": platform.node(), "seconds": round(seconds, 1), "kind": kind}
    await report(context, Occurrence(CLOCK_SKEW, platform.node(), data))
