"""Tell the clients: claim the messages that are due, sign and post each, and write down how it went."""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any

import httpx
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection
from standardwebhooks import Webhook

from service.domain.timing import LEASE, next_delivery
from service.flows.guard import ForbiddenAddress, forbidden
from service.flows.http import AnswerTooLarge, send
from service.flows.runtime import Runtime, log
from service.flows.underway import Underway
from service.store import queue

MOST_UNDER_WAY = 100
ATTEMPT_TIMEOUT = 15.0
"""Seconds that one attempt may take altogether."""
ANSWER_CAP = 64 * 1024
"""Bytes of a receiver's answer that are read: its status decides, whatever the body holds."""

_NO_ADDRESS = (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError)
"""A URL that nothing can be sent to, today or later."""


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt:
    """How one attempt to deliver went."""

    status: int | None = None
    error: str | None = None
    hopeless: bool = False

    @property
    def delivered(self) -> bool:
        """Whether the receiver has it."""
        return self.status is not None and httpx.codes.is_success(self.status)


async def run_due(runtime: Runtime, underway: Underway) -> int:
    """Take the messages that are due and start to deliver them; answer how many were taken."""
    room = min(underway.room, MOST_UNDER_WAY)
    if not room:
        return 0
    now = runtime.now()
    claimed = await runtime.writer.do(_claim, (now, now + dt.timedelta(seconds=LEASE), room))
    for row in claimed:
        underway.start(deliver(runtime, row))
    return len(claimed)


async def _claim(
    connection: AsyncConnection, wishes: Sequence[tuple[dt.datetime, dt.datetime, int]]
) -> list[Sequence[Row[Any]]]:
    return [
        await queue.claim_rows(connection, "outbox", now=now, until=until, most=most) for now, until, most in wishes
    ]


async def deliver(runtime: Runtime, row: Row[Any]) -> None:
    """Make one attempt to deliver a claimed message."""
    attempt = await _post(runtime, row)
    await runtime.writer.do(_settle, _settlement(runtime, row, attempt))


async def _settle(connection: AsyncConnection, settled: Sequence[dict[str, Any]]) -> list[None]:
    await queue.settle_outbox(connection, settled)
    return [None] * len(settled)


def signed_headers(secret: str, message_id: str, at: dt.datetime, body: str) -> dict[str, str]:
    """Sign a message as Standard Webhooks say."""
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, at, body),
    }


async def _post(runtime: Runtime, row: Row[Any]) -> Attempt:
    try:
        headers = signed_headers(runtime.webhook_secret, str(row.id), runtime.now(), row.body)
        answer = await send(
            runtime.http.messages,
            "POST",
            row.url,
            headers=headers,
            content=row.body.encode(),
            read_timeout=ATTEMPT_TIMEOUT,
            total_timeout=ATTEMPT_TIMEOUT,
            cap=ANSWER_CAP,
        )
    except ForbiddenAddress as error:
        return Attempt(error=str(error), hopeless=True)
    except AnswerTooLarge as error:
        return _judged(error.status)
    except Exception as error:  # noqa: BLE001 - whatever a client's URL leads to, the schedule goes on and ends
        refused = forbidden(error)
        words = str(refused) if refused is not None else f"{type(error).__name__} {error}".strip()
        return Attempt(error=words[:300], hopeless=refused is not None or isinstance(error, _NO_ADDRESS))
    return _judged(answer.status)


def _judged(status: int) -> Attempt:
    return Attempt(status=status, error=None if httpx.codes.is_success(status) else f"HTTP {status}")


def _settlement(runtime: Runtime, row: Row[Any], attempt: Attempt) -> dict[str, Any]:
    now = runtime.now()
    due = None
    if attempt.delivered:
        state = "delivered"
    elif attempt.hopeless:
        state = "discarded"
    else:
        due = next_delivery(row.attempts, chance=runtime.chance(), now=now)
        state = "exhausted" if due is None else "pending"
    if state != "delivered":
        log.warning(
            "message %s of task %s: attempt %d failed (%s), now %s",
            row.id,
            row.task_id,
            row.attempts,
            attempt.error,
            state,
        )
    return {
        "of_row": row.id,
        "of_attempt": row.attempts,
        "state": state,
        "delivered_at": now if attempt.delivered else None,
        "last_status": attempt.status,
        "last_error": attempt.error,
        "due_at": due,
    }
