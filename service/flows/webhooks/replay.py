"""Replay messages: deliver them again under the same id, signed with the current secret."""

import datetime as dt
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.operator_events import OPERATOR_TYPES
from service.domain.task import Task
from service.domain.webhook_events import PROGRESS, TYPES
from service.flows.context import Context
from service.store import queue
from service.store.erasures import EMPTY_BODY, REASON
from service.store.webhooks import endpoints
from service.store.webhooks import messages as message_store
from service.store.webhooks.messages import Filter, Message

MAX_REPLAYED = 1000
"""Messages that one request replays."""
REPLAYED = (*(kind for kind in TYPES if kind != PROGRESS), *OPERATOR_TYPES)
"""Types that can be replayed. Progress and test messages mean nothing later."""
UNDELIVERED = ("exhausted", "discarded")
"""States of messages that no receiver accepted."""

REQUEST: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "after": {
            "type": "string",
            "format": "date-time",
            "description": "Only messages written at or after this time.",
        },
        "before": {"type": "string", "format": "date-time", "description": "Only messages written before this time."},
        "type": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "string", "enum": list(REPLAYED)},
            "description": "Only messages of these types. Default: all types that can be replayed.",
        },
        "state": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "string", "enum": [*UNDELIVERED, "delivered"]},
            "description": "Only messages in these states. Default: `exhausted` and `discarded`.",
        },
        "endpoint": {"type": "string", "format": "uuid", "description": "Only messages to this endpoint."},
        "limit": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_REPLAYED,
            "default": MAX_REPLAYED,
            "description": "Maximum number of messages.",
        },
        "dry_run": {
            "type": "boolean",
            "default": False,
            "description": "Whether to count the messages only. None is delivered.",
        },
        "cursor": {
            "type": "string",
            "format": "uuid",
            "description": "`next` of the previous answer.",
        },
    },
}
"""JSON Schema of the body of ``POST /v1/messages/replay``."""


class NotReplayable(Exception):
    """Messages of this type cannot be replayed."""


class Disabled(Exception):
    """The endpoint is disabled or deleted."""


async def replay_one(context: Context, message: Message) -> None:
    """Replay a message, or send it now when it is pending.

    :raises NotReplayable: for progress and test messages
    :raises Disabled: when its endpoint is disabled or deleted
    """
    if message.body == EMPTY_BODY:
        raise NotReplayable(f"{REASON}: there is nothing left to deliver")
    if message.type not in REPLAYED:
        raise NotReplayable(f"messages of type {message.type} cannot be replayed: read the task instead")
    if not await context.writers.requests.run(_replay_one, message, now=context.now()):
        raise Disabled("the endpoint is disabled or deleted: enable it first")
    context.signals.wake("webhooks")


async def count_replayable(context: Context, wanted: Filter, *, most: int) -> tuple[int, UUID | None]:
    """Return what :func:`replay_many` would return, and replay nothing."""
    async with context.database.reading() as connection:
        found = await message_store.replayable(connection, wanted, most=most + 1)
    return min(len(found), most), found[most - 1] if len(found) > most else None


async def replay_many(context: Context, wanted: Filter, *, most: int) -> tuple[int, UUID | None]:
    """Replay settled messages, oldest first. Return their number, and the cursor for more, if there are more."""
    count, following = await context.writers.requests.run(_replay_many, wanted, most=most, now=context.now())
    if count:
        context.signals.wake("webhooks")
    return count, following


async def replay_of_tasks(context: Context, tasks: Sequence[Task]) -> int:
    """Replay the messages of some tasks that no receiver accepted; return how many there were."""
    count = await context.writers.requests.run(_replay_of_tasks, tasks, now=context.now())
    if count:
        context.signals.wake("webhooks")
    return count


async def _replay_of_tasks(connection: AsyncConnection, tasks: Sequence[Task], *, now: dt.datetime) -> int:
    found: list[UUID] = []
    for task in tasks:
        wanted = Filter(client=task.client, task_id=task.id, types=REPLAYED, states=UNDELIVERED)
        found += await message_store.replayable(connection, wanted, most=MAX_REPLAYED)
    await queue.replay(connection, found, now=now)
    return len(found)


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
