"""Deliver messages again: the same message under the same id, signed by what is the secret now."""

import datetime as dt
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.webhook_events import PROGRESS, TYPES
from service.flows.context import Context
from service.store import queue
from service.store.webhooks import endpoints
from service.store.webhooks import messages as message_store
from service.store.webhooks.messages import Filter, Message

MOST = 1000
"""Messages that one request replays."""
REPLAYED = tuple(kind for kind in TYPES if kind != PROGRESS)
"""What can be replayed: progress is of its moment, and so is a message that somebody tried an endpoint with."""
UNHEARD = ("exhausted", "discarded")
"""The states of messages that nobody took."""

WISH: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "after": {"type": "string", "format": "date-time", "description": "Only messages written at or after this."},
        "before": {"type": "string", "format": "date-time", "description": "Only messages written before this."},
        "type": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "string", "enum": list(REPLAYED)},
            "description": "Only of these types; default: every one that can be replayed.",
        },
        "state": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "string", "enum": [*UNHEARD, "delivered"]},
            "description": "Only in these states; default: `exhausted` and `discarded`.",
        },
        "endpoint": {"type": "string", "format": "uuid", "description": "Only to this endpoint."},
        "limit": {
            "type": "integer",
            "minimum": 1,
            "maximum": MOST,
            "default": MOST,
            "description": "How many at most.",
        },
        "cursor": {
            "type": "string",
            "format": "uuid",
            "description": "`next` of the request before: goes on behind it.",
        },
    },
}
"""JSON Schema of the body of ``POST /v1/messages/replay``."""


class NotReplayable(Exception):
    """A message of this type is of its moment: what the task is now says more."""


class Disabled(Exception):
    """The endpoint is disabled or deleted: enable it, and replay then."""


async def replay_one(context: Context, message: Message) -> None:
    """Deliver a message again, or now if it waits for its turn.

    :raises NotReplayable: for progress, and for what an endpoint was tried with
    :raises Disabled: when nobody would be sent to
    """
    if message.type not in REPLAYED:
        raise NotReplayable(f"{message.type} is of its moment: it cannot be replayed")
    if not await context.writers.requests.run(_replay_one, message, now=context.now()):
        raise Disabled("the endpoint is disabled or deleted: enable it first")
    context.signals.wake("webhooks")


async def replay_many(context: Context, wanted: Filter, *, most: int) -> tuple[int, UUID | None]:
    """Deliver settled messages again, oldest first; give how many, and where to go on if there are more."""
    count, following = await context.writers.requests.run(_replay_many, wanted, most=most, now=context.now())
    if count:
        context.signals.wake("webhooks")
    return count, following


async def _replay_one(connection: AsyncConnection, message: Message, *, now: dt.datetime) -> bool:
    if message.endpoint_id is not None:
        endpoint = (await endpoints.of_ids(connection, [message.endpoint_id])).get(message.endpoint_id)
        if endpoint is None or endpoint.disabled_at is not None:
            return False
    await queue.replay(connection, [message.id], now=now)
    return True


async def _replay_many(
    connection: AsyncConnection, wanted: Filter, *, most: int, now: dt.datetime
) -> tuple[int, UUID | None]:
    found = await message_store.replayable(connection, wanted, most=most + 1)
    chosen = found[:most]
    await queue.replay(connection, chosen, now=now)
    return len(chosen), chosen[-1] if len(found) > most else None
