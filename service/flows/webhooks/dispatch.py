"""Tell the clients: claim the messages that are due, sign and post each, and write down how it went."""

import asyncio
import datetime as dt
import functools
from collections.abc import Mapping

import httpx
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.http_dates import retry_after
from service.domain.schedules import FAILING_LONG, LEASE
from service.domain.text import storable
from service.domain.webhook_events import TEST
from service.flows.concurrency import EACH, TaskPool
from service.flows.context import Context, log
from service.flows.webhooks.attempt import SUCCESSES, Attempt, Claimed, settle, settlement_of
from service.flows.webhooks.signing import dressed
from service.http.client import post_briefly
from service.http.ssrf.guard import ForbiddenAddress, forbidden
from service.store import queue
from service.store.webhooks import endpoints
from service.store.webhooks.messages import message_of

MAX_CONCURRENT = 100
ATTEMPT_TIMEOUT = 15.0
"""Seconds that one attempt may take altogether."""
ANSWER_CAP = 64 * 1024
"""Bytes of a receiver's answer that are read: its status decides, whatever the body holds."""
ANSWER_KEPT = 2048
"""Bytes of it that are kept."""
ERROR_KEPT = 300

_NO_ADDRESS = (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError)
"""A URL that nothing can be sent to, today or later."""


async def run_due(context: Context, pool: TaskPool) -> int:
    """Take the messages that are due and start to deliver them; answer how many were taken."""
    room = min(pool.free, MAX_CONCURRENT)
    if not room:
        return 0
    now = context.now()
    until, limits = now + dt.timedelta(seconds=LEASE), context.destination_slots.limits()
    claimed = await context.writers.journeys.run(_claim, now=now, until=until, most=room, places=limits)
    for each in claimed:
        context.destination_slots.acquire(each.message.destination)
        pool.start(deliver(context, each))
    return len(claimed)


async def _claim(
    connection: AsyncConnection, *, now: dt.datetime, until: dt.datetime, most: int, places: Mapping[str, int]
) -> list[Claimed]:
    rows = await queue.claim_messages(connection, now=now, until=until, most=most, each=EACH, places=places)
    messages = [message_of(row) for row in rows]
    ids = {message.endpoint_id for message in messages if message.endpoint_id is not None}
    found = await endpoints.of_ids(connection, ids)
    return [Claimed(each, None if each.endpoint_id is None else found.get(each.endpoint_id)) for each in messages]


async def deliver(context: Context, claimed: Claimed) -> None:
    """Make one attempt to deliver a claimed message that has a place in its lane."""
    message = claimed.message
    try:
        attempt = _refused(context, claimed) or await _post(context, claimed)
        settlement = settlement_of(context, claimed, attempt)
        disabled = await context.writers.journeys.batch(functools.partial(settle, context), settlement)
        _say(claimed, attempt, settlement.row["state"], disabled)
    finally:
        context.destination_slots.release(message.destination)


def _refused(context: Context, claimed: Claimed) -> Attempt | None:
    """Find out whether there is nobody to send to."""
    message, endpoint = claimed.message, claimed.endpoint
    if message.endpoint_id is None:
        return None
    if endpoint is None:
        reason = "the endpoint was deleted"
    elif endpoint.disabled_at is not None and message.type != TEST:
        reason = f"the endpoint was disabled ({endpoint.disabled_reason}) when its time came"
    else:
        return None
    return Attempt(at=context.now(), error=reason, hopeless=True, made=False)


async def _post(context: Context, claimed: Claimed) -> Attempt:
    message, endpoint, at, since = claimed.message, claimed.endpoint, context.now(), _clock()
    url = message.url if endpoint is None else endpoint.url
    try:
        headers, body = dressed(
            message, endpoint, at=at, secret=context.webhook_secret, source=context.settings.public_url
        )
        answer = await post_briefly(
            context.http.messages,
            url,
            headers={**headers, "Accept-Encoding": "identity"},
            content=body.encode(),
            total_timeout=ATTEMPT_TIMEOUT,
            cap=ANSWER_CAP,
        )
    except asyncio.CancelledError:
        return Attempt(at=at, seconds=_clock() - since, error="Dovecote stopped before the answer arrived")
    except Exception as error:  # noqa: BLE001 - whatever a client's URL leads to, the schedule goes on and ends
        context.destination_slots.answered(message.destination, in_time=not isinstance(error, httpx.TimeoutException))
        refused = error if isinstance(error, ForbiddenAddress) else forbidden(error)
        words = str(refused) if refused is not None else f"{type(error).__name__} {error}".strip()
        hopeless = refused is not None or isinstance(error, _NO_ADDRESS)
        return Attempt(at=at, seconds=_clock() - since, error=storable(words)[:ERROR_KEPT], hopeless=hopeless)
    context.destination_slots.answered(message.destination, in_time=True)
    return Attempt(
        at=at,
        seconds=_clock() - since,
        status=answer.status,
        error=None if answer.status in SUCCESSES else f"HTTP {answer.status}",
        answer=storable(answer.body[:ANSWER_KEPT].decode("utf-8", "replace")) or None,
        retry_after=retry_after(answer.headers, now=context.now()),
    )


def _say(claimed: Claimed, attempt: Attempt, state: str, disabled: str | None) -> None:
    message = claimed.message
    if state != "delivered":
        log.warning(
            "message %s of task %s: attempt %d failed (%s), now %s",
            message.id,
            message.task_id,
            message.attempts,
            attempt.error,
            state,
        )
    if disabled is not None:
        why = "it answered 410 Gone" if disabled == "gone" else f"nothing but failures for {FAILING_LONG / 3600:g} h"
        log.warning("endpoint %s of client %s is disabled: %s", message.endpoint_id, message.client, why)


def _clock() -> float:
    return asyncio.get_running_loop().time()
