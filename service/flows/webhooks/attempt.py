"""How an attempt to deliver went, and what becomes of the message and of its endpoint."""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.schedules import FAILING_LONG, UNWATCHED, next_delivery
from service.domain.webhook_events import TEST
from service.flows.context import Context
from service.store import queue
from service.store.webhooks import attempts as attempt_store
from service.store.webhooks import endpoints
from service.store.webhooks.attempts import Delivery
from service.store.webhooks.endpoints import Endpoint, Health
from service.store.webhooks.messages import Message

SUCCESSES = range(200, 300)
"""Statuses by which a receiver says that it has the message."""


@dataclasses.dataclass(frozen=True, slots=True)
class Claimed:
    """A message that is ours until its lease ends."""

    message: Message
    endpoint: Endpoint | None
    """Where it goes; None: to a ``callback_url``, or the endpoint was deleted."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How one attempt to deliver went."""

    at: dt.datetime
    seconds: float = 0.0
    status: int | None = None
    error: str | None = None
    answer: str | None = None
    retry_after: float | None = None
    """Seconds that the receiver asked us to wait."""
    hopeless: bool = False
    """Whether it can go no better another time."""
    made: bool = True
    """Whether anything was tried at all."""

    @property
    def delivered(self) -> bool:
        """Whether the receiver has it."""
        return self.status in SUCCESSES

    @property
    def gone(self) -> bool:
        """Whether the receiver says that it is gone for good."""
        return self.status == HTTPStatus.GONE


@dataclasses.dataclass(frozen=True, slots=True)
class Settlement:
    """What is to be written after an attempt."""

    row: dict[str, Any]
    delivery: Delivery | None
    health: Health | None


def settlement_of(context: Context, claimed: Claimed, attempt: Attempt) -> Settlement:
    """Decide what becomes of a message after an attempt, and what the attempt says about the endpoint."""
    message, now = claimed.message, context.now()
    state, due = _state_after(message, attempt, chance=context.chance(), now=now)
    row = {
        "of_row": message.id,
        "of_attempt": message.attempts,
        "state": state,
        "delivered_at": now if state == "delivered" else None,
        "last_status": attempt.status,
        "last_error": attempt.error,
        "due_at": due,
    }
    if not attempt.made:
        return Settlement(row, None, None)
    delivery = Delivery(
        message_id=message.id,
        attempt=message.attempts,
        at=attempt.at,
        status=attempt.status,
        duration_ms=round(attempt.seconds * 1000),
        answer=attempt.answer,
        error=attempt.error,
    )
    return Settlement(row, delivery, _health(claimed, attempt))


def _state_after(
    message: Message, attempt: Attempt, *, chance: float, now: dt.datetime
) -> tuple[str, dt.datetime | None]:
    if attempt.delivered:
        return "delivered", None
    if attempt.hopeless or attempt.gone:
        return "discarded", None
    if message.type == TEST:
        return "exhausted", None  # whoever tries an endpoint looks at once
    made = message.attempts - message.schedule_from
    due = next_delivery(made, chance=chance, now=now, retry_after=attempt.retry_after)
    return ("exhausted", None) if due is None else ("pending", due)


def _health(claimed: Claimed, attempt: Attempt) -> Health | None:
    """Say what an attempt says about its endpoint: nothing, where somebody only tried or asked for it again."""
    message, endpoint = claimed.message, claimed.endpoint
    if endpoint is None or message.type == TEST or message.replayed_at is not None:
        return None
    return Health(endpoint.id, succeeded=attempt.delivered, gone=attempt.gone)


async def settle(context: Context, connection: AsyncConnection, settled: Sequence[Settlement]) -> list[str | None]:
    """Write how attempts went, and give for each the reason for which its endpoint is disabled now, if it is."""
    await queue.settle_messages(connection, sorted((each.row for each in settled), key=lambda row: row["of_row"]))
    await attempt_store.record(connection, [each.delivery for each in settled if each.delivery is not None])
    now = context.now()
    disabled = await endpoints.note_health(
        connection,
        [each.health for each in settled if each.health is not None],
        now=now,
        unwatched=now - dt.timedelta(seconds=UNWATCHED),
        too_long=now - dt.timedelta(seconds=FAILING_LONG),
    )
    # Said once, however many attempts of the batch went there.
    return [None if each.health is None else disabled.pop(each.health.endpoint_id, None) for each in settled]
