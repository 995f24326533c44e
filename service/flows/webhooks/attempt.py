"""Decide what an attempt to deliver means for its message and for its endpoint, and record it."""

import dataclasses
import datetime as dt
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.operator_events import ENDPOINT_DISABLED, MESSAGES_EXHAUSTED, OPERATOR_TYPES, Occurrence
from service.domain.schedules import FAILING_LONG, UNWATCHED, next_delivery
from service.domain.webhook_events import TEST
from service.flows.context import Context
from service.flows.webhooks.claimed import Claimed
from service.flows.webhooks.operator import announce
from service.store import queue
from service.store.webhooks import attempts as attempt_store
from service.store.webhooks import endpoints
from service.store.webhooks.attempts import Delivery
from service.store.webhooks.endpoints import Health
from service.store.webhooks.messages import Message

SUCCESSES = range(200, 300)
"""Statuses by which a receiver accepts a message."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The outcome of one attempt to deliver."""

    at: dt.datetime
    seconds: float = 0.0
    status: int | None = None
    error: str | None = None
    answer: str | None = None
    retry_after: float | None = None
    """Seconds for which the receiver asked to wait."""
    detail: str = ""
    """More about the error, for the operator's log only."""
    hopeless: bool = False
    """Whether every further attempt would fail as well."""
    at_once: bool = False
    """Whether the message is due again at once: it was not sent, because its claim was too old."""
    made: bool = True
    """Whether a request was tried."""

    @property
    def delivered(self) -> bool:
        """Whether the receiver accepted the message."""
        return self.status in SUCCESSES

    @property
    def gone(self) -> bool:
        """Whether the receiver reports that it is gone permanently."""
        return self.status == HTTPStatus.GONE


@dataclasses.dataclass(frozen=True, slots=True)
class Settlement:
    """The changes to write after an attempt."""

    row: dict[str, Any]
    delivery: Delivery | None
    health: Health | None
    claimed: Claimed


def settlement_after(context: Context, claimed: Claimed, attempt: Attempt) -> Settlement:
    """Return the changes of a message and of its endpoint after an attempt."""
    message, now = claimed.message, context.now()
    state, due = _state_after(message, attempt, chance=context.chance(), now=now)
    row = {
        "of_row": message.id,
        "of_attempt": message.attempts,
        "state": state,
        "delivered_at": now if state == "delivered" else None,
        "last_status": attempt.status if attempt.made else message.last_status,
        "last_error": attempt.error,
        "due_at": due,
        # An attempt that was not made uses up no part of the schedule.
        "schedule_from": message.schedule_from + (0 if attempt.made else 1),
    }
    if not attempt.made:
        return Settlement(row, None, None, claimed)
    delivery = Delivery(
        message_id=message.id,
        attempt=message.attempts,
        at=attempt.at,
        status=attempt.status,
        duration_ms=round(attempt.seconds * 1000),
        answer=attempt.answer,
        error=attempt.error,
    )
    return Settlement(row, delivery, _health(claimed, attempt), claimed)


def _state_after(
    message: Message, attempt: Attempt, *, chance: float, now: dt.datetime
) -> tuple[str, dt.datetime | None]:
    if attempt.delivered:
        return "delivered", None
    if attempt.at_once:
        return "pending", now
    if attempt.hopeless or attempt.gone:
        return "discarded", None
    if message.type == TEST:
        return "exhausted", None  # the client sees the result at once
    made = message.attempts - message.schedule_from
    due = next_delivery(made, chance=chance, now=now, retry_after=attempt.retry_after)
    return ("exhausted", None) if due is None else ("pending", due)


def _health(claimed: Claimed, attempt: Attempt) -> Health | None:
    """Return what an attempt means for the health of its endpoint. Tests and replays mean nothing."""
    message, endpoint = claimed.message, claimed.endpoint
    if endpoint is None or message.type == TEST or message.replayed_at is not None:
        return None
    return Health(endpoint.id, succeeded=attempt.delivered, gone=attempt.gone)


async def settle(context: Context, connection: AsyncConnection, settled: Sequence[Settlement]) -> list[str | None]:
    """Write settlements. Return for each the reason for which its endpoint was disabled by it, or None."""
    await queue.settle_messages(connection, sorted((each.row for each in settled), key=lambda row: row["of_row"]))
    await attempt_store.record(connection, [each.delivery for each in settled if each.delivery is not None])
    now = context.now()
    disabled = await endpoints.record_health(
        connection,
        [each.health for each in settled if each.health is not None],
        now=now,
        unwatched=now - dt.timedelta(seconds=UNWATCHED),
        too_long=now - dt.timedelta(seconds=FAILING_LONG),
    )
    # Reported once for each endpoint, even when several attempts of the batch went to it.
    reasons = [None if each.health is None else disabled.pop(each.health.endpoint_id, None) for each in settled]
    occurrences = [each for settlement, why in zip(settled, reasons, strict=True) for each in _notable(settlement, why)]
    await announce(context, connection, occurrences)
    return reasons


def _notable(settled: Settlement, disabled: str | None) -> Iterator[Occurrence]:
    """Yield what an operator should know of a settlement: its endpoint was disabled, or its message given up."""
    message, endpoint = settled.claimed.message, settled.claimed.endpoint
    if disabled is not None and endpoint is not None:
        data = {"endpoint_id": str(endpoint.id), "client": endpoint.client, "url": endpoint.url, "reason": disabled}
        yield Occurrence(ENDPOINT_DISABLED, str(endpoint.id), data)
    # A test is watched by its client, and an operator's own endpoint cannot be told that it does not answer.
    if settled.row["state"] == "exhausted" and message.type not in {TEST, *OPERATOR_TYPES}:
        data = {
            "message_id": str(message.id),
            "client": message.client,
            "destination": message.destination,
            "error": settled.row["last_error"],
        }
        yield Occurrence(MESSAGES_EXHAUSTED, f"{message.client} {message.destination}", data)
