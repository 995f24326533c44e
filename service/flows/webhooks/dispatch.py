"""Deliver webhook messages: claim those that are due, post each, and record the attempt."""

import asyncio
import datetime as dt
import functools
from uuid import UUID

import httpx
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.destination_slots import MAX_DELIVERIES, DestinationSlots
from service.domain.http_dates import retry_after
from service.domain.schedules import FAILING_LONG, LEASE
from service.domain.text import storable
from service.domain.webhook_events import TEST
from service.domain.webhook_secret import SecretVersion, valid_secrets
from service.flows.concurrency import TaskPool
from service.flows.context import Context, log
from service.flows.webhooks.attempt import SUCCESSES, Attempt, settle, settlement_after
from service.flows.webhooks.claimed import Claimed
from service.flows.webhooks.signing import signed_request
from service.http.client import Answer, post_briefly
from service.http.ssrf.guard import ForbiddenAddress, forbidden
from service.store import handed, queue
from service.store.webhooks import endpoints, secrets
from service.store.webhooks.claim import destination_of
from service.store.webhooks.messages import Message, message_of

MAX_CONCURRENT = MAX_DELIVERIES
SEND_WITHIN = LEASE / 2
"""Seconds after its claim within which a message may be sent: later another process may have claimed it."""
ATTEMPT_TIMEOUT = 15.0
"""Seconds that one attempt may take."""
MAX_ANSWER = 64 * 1024
"""Bytes of a receiver's answer that are read. Its status decides, not its body."""
MAX_ANSWER_KEPT = 2048
"""Bytes of the answer that are stored."""
MAX_ERROR_KEPT = 300

_NO_ADDRESS = (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError)
"""Failures of URLs that can never be sent to."""


async def run_due(context: Context, pool: TaskPool) -> int:
    """Start to deliver the messages that were handed over and those that are due; return how many were claimed."""
    delivered = await _deliver_handed(context, pool)
    free = min(pool.free, MAX_CONCURRENT)
    if not free or not context.handed_messages.needs_claim(delivered):
        return 0
    now, claimed_at = context.now(), context.monotonic()
    until, slots = now + dt.timedelta(seconds=LEASE), context.destination_slots
    claimed = await context.writers.journeys.run(_claim, now=now, until=until, most=free, slots=slots)
    context.handed_messages.claimed(all_due=not claimed)
    for each in claimed:
        slots.acquire(destination_of(each.message))
        pool.start(deliver(context, each, claimed_at=claimed_at))
    return len(claimed)


async def _deliver_handed(context: Context, pool: TaskPool) -> int:
    """Start to deliver the messages that this process has claimed as it wrote them; return how many.

    A message without a free slot is due again at once. It does not wait in memory: its endpoint may change, or its task be erased.
    """
    delivered = 0
    without_slot: list[UUID] = []
    for came, claimed in context.handed_messages.take(min(pool.free, MAX_CONCURRENT)):
        if context.destination_slots.try_acquire(destination_of(claimed.message)):
            pool.start(deliver(context, claimed, claimed_at=came))
            delivered += 1
        else:
            without_slot.append(claimed.message.id)
    if without_slot:
        await context.writers.journeys.run(handed.release, "webhook_messages", without_slot, now=context.now())
    return delivered


async def _claim(
    connection: AsyncConnection, *, now: dt.datetime, until: dt.datetime, most: int, slots: DestinationSlots
) -> list[Claimed]:
    rows = await queue.claim_messages(connection, now=now, until=until, most=most, slots=slots)
    messages = [message_of(row) for row in rows]
    ids = {message.endpoint_id for message in messages if message.endpoint_id is not None}
    found = await endpoints.of_ids(connection, ids)
    versions = await secrets.of_clients(connection, {each.client for each in messages if each.endpoint_id is None})
    return [
        Claimed(each, secret=versions[each.client])
        if each.endpoint_id is None
        else Claimed(each, found.get(each.endpoint_id))
        for each in messages
    ]


async def deliver(context: Context, claimed: Claimed, *, claimed_at: float) -> None:
    """Make one attempt to deliver a claimed message, for which a slot of its destination is held.

    :param claimed_at: when it was claimed, on the monotonic clock
    """
    message = claimed.message
    try:
        attempt = _undeliverable(context, claimed, claimed_at) or await _post(context, claimed)
        settlement = settlement_after(context, claimed, attempt)
        disabled = await context.writers.journeys.batch(functools.partial(settle, context), settlement)
        _count(context, claimed, attempt, settlement.row["state"], disabled)
        _trace(context, claimed, attempt, settlement.row["state"])
        _log(claimed, attempt, settlement.row["state"], disabled)
    finally:
        context.destination_slots.release(destination_of(message))


def _undeliverable(context: Context, claimed: Claimed, claimed_at: float) -> Attempt | None:
    """Return an attempt that was not made: the claim is too old, or the message has no receiver any more."""
    message, endpoint = claimed.message, claimed.endpoint
    if context.monotonic() - claimed_at > SEND_WITHIN:
        return Attempt(at=context.now(), error=message.last_error, at_once=True, made=False)
    if message.endpoint_id is None:
        return None
    if endpoint is None:
        reason = "the endpoint was deleted"
    elif endpoint.disabled_at is not None and message.type != TEST:
        reason = f"the endpoint was disabled ({endpoint.disabled_reason}) when the message was due"
    else:
        return None
    return Attempt(at=context.now(), error=reason, hopeless=True, made=False)


async def _post(context: Context, claimed: Claimed) -> Attempt:
    """Send a message once, and return the attempt. It raises nothing: after any failure the schedule continues."""
    message, at, since = claimed.message, context.now(), _clock()
    try:
        answer = await _send(context, claimed, at)
    except asyncio.CancelledError:
        return Attempt(at=at, seconds=_clock() - since, error="Dovecote stopped before the answer arrived")
    except Exception as error:  # noqa: BLE001 - any failure
        in_time = not isinstance(error, httpx.TimeoutException)
        context.destination_slots.answered(destination_of(message), in_time=in_time)
        return _failed(error, at, _clock() - since)
    context.destination_slots.answered(destination_of(message), in_time=True)
    return Attempt(
        at=at,
        seconds=_clock() - since,
        status=answer.status,
        error=None if answer.status in SUCCESSES else f"HTTP {answer.status}",
        answer=None if answer.private else storable(answer.body[:MAX_ANSWER_KEPT].decode("utf-8", "replace")) or None,
        retry_after=retry_after(answer.headers, now=context.now()),
    )


async def _send(context: Context, claimed: Claimed, at: dt.datetime) -> Answer:
    """Sign a message and post it."""
    message, endpoint = claimed.message, claimed.endpoint
    version = claimed.secret or SecretVersion(message.client)
    headers, body = signed_request(
        message,
        endpoint,
        at=at,
        secrets=valid_secrets(context.webhook_secret, version, now=at),
        source=context.settings.public_url,
    )
    return await post_briefly(
        context.http.messages,
        message.url if endpoint is None else endpoint.url,
        headers={**headers, "Accept-Encoding": "identity", **_trace_header(message)},
        content=body.encode(),
        total_timeout=ATTEMPT_TIMEOUT,
        limit=MAX_ANSWER,
    )


def _trace_header(message: Message) -> dict[str, str]:
    """Return the header by which the receiver continues the trace of the task, if it has one."""
    return {} if message.traceparent is None else {"traceparent": message.traceparent}


def _failed(error: Exception, at: dt.datetime, seconds: float) -> Attempt:
    """Return an attempt without an answer."""
    refused = error if isinstance(error, ForbiddenAddress) else forbidden(error)
    reason = str(refused) if refused is not None else f"{type(error).__name__} {error}".strip()
    return Attempt(
        at=at,
        seconds=seconds,
        error=storable(reason)[:MAX_ERROR_KEPT],
        detail="" if refused is None else refused.detail,
        hopeless=refused is not None or isinstance(error, _NO_ADDRESS),
        made=not isinstance(error, httpx.PoolTimeout),  # a lack of descriptors here is no failure of the receiver
    )


def _count(context: Context, claimed: Claimed, attempt: Attempt, state: str, disabled: str | None) -> None:
    """Count an attempt: ``delivered``, ``failed`` (it is tried again), ``exhausted``, ``discarded`` or ``not_made``."""
    metrics, message = context.metrics, claimed.message
    result = "failed" if state == "pending" else state
    metrics.attempts.labels(result if attempt.made or state != "pending" else "not_made").inc()
    if attempt.made:
        metrics.attempt_seconds.observe(attempt.seconds)
    if state == "delivered" and message.replayed_at is None:
        metrics.webhook_delay.observe(max((context.now() - message.created_at).total_seconds(), 0.0))
    if disabled is not None:
        metrics.endpoints_disabled.labels(disabled).inc()


def _trace(context: Context, claimed: Claimed, attempt: Attempt, state: str) -> None:
    """Record an attempt that was made."""
    message = claimed.message
    if context.traces is not None and message.traceparent is not None and attempt.made:
        context.traces.record(
            "delivery",
            message.traceparent,
            attempt.at,
            attempt.at + dt.timedelta(seconds=attempt.seconds),
            failed=not attempt.delivered,
            task=None if message.task_id is None else str(message.task_id),
            message=str(message.id),
            type=message.type,
            attempt=message.attempts,
            state=state,
            status=attempt.status,
        )


def _log(claimed: Claimed, attempt: Attempt, state: str, disabled: str | None) -> None:
    message = claimed.message
    if attempt.at_once:
        log.warning(
            "webhook not sent in time message=%s task=%s client=%s", message.id, message.task_id, message.client
        )
    elif state == "delivered":
        log.info(
            "webhook delivered message=%s task=%s client=%s attempt=%d status=%s seconds=%.3f",
            message.id,
            message.task_id,
            message.client,
            message.attempts,
            attempt.status,
            attempt.seconds,
        )
    else:
        log.warning(
            "webhook attempt failed message=%s task=%s client=%s attempt=%d state=%s error=%r detail=%r",
            message.id,
            message.task_id,
            message.client,
            message.attempts,
            state,
            attempt.error,
            attempt.detail,
        )
    if disabled is not None:
        why = "answered 410 Gone" if disabled == "gone" else f"only failures for {FAILING_LONG / 3600:g} h"
        log.warning("endpoint disabled endpoint=%s client=%s reason=%r", message.endpoint_id, message.client, why)


def _clock() -> float:
    return asyncio.get_running_loop().time()
