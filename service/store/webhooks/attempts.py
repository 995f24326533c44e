"""Statements on webhook_attempts: every attempt to deliver a message, and its outcome."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.prepared import Prepared
from service.store.rows import row_of_value
from service.store.tables import webhook_attempts, webhook_messages


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One attempt to deliver."""

    message_id: UUID
    attempt: int
    """Number of the attempt, from 1. A missing number was under way when its process died."""
    at: datetime
    """When it began."""
    status: int | None
    duration_ms: int
    answer: str | None
    """The beginning of the receiver's answer."""
    error: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """When an attempt was made, and the answer's status."""

    at: datetime
    status: int | None


MAX_RECENT: Final = 500
"""Messages in each state whose attempts a chart is made of: the last ones."""
_STATES: Final = ("pending", "delivered", "exhausted", "discarded")


async def made_since(connection: AsyncConnection, endpoint_id: UUID, since: datetime) -> list[Made]:
    """Read the attempts to deliver the last messages to an endpoint that were written after a time."""
    first = UUID(int=int(since.timestamp() * 1000) << 80)
    messages = webhook_messages.c
    recent = [
        select(messages.id)
        .where(messages.endpoint_id == endpoint_id, messages.state == state, messages.id > first)
        .order_by(messages.id.desc())
        .limit(MAX_RECENT)
        .subquery()
        for state in _STATES
    ]
    either = union_all(*(select(each.c.id) for each in recent))
    made = select(webhook_attempts.c.at, webhook_attempts.c.status).where(webhook_attempts.c.message_id.in_(either))
    return [Made(row.at, row.status) for row in await connection.execute(made)]


_OF_MESSAGE = (
    select(webhook_attempts)
    .where(webhook_attempts.c.message_id == bindparam("message"))
    .order_by(webhook_attempts.c.attempt)
)
_RECORD = Prepared(webhook_attempts.insert())
_FIELDS = tuple(field.name for field in dataclasses.fields(Delivery))


async def record(connection: AsyncConnection, made: Sequence[Delivery]) -> None:
    """Insert attempts."""
    if made:
        await _RECORD.many(connection, [row_of_value(each) for each in made])


async def of_message(connection: AsyncConnection, message_id: UUID) -> list[Delivery]:
    """Read the attempts to deliver a message, oldest first."""
    rows = await connection.execute(_OF_MESSAGE, {"message": message_id})
    return [Delivery(**{name: getattr(row, name) for name in _FIELDS}) for row in rows]


async def of_messages(connection: AsyncConnection, messages: Sequence[UUID]) -> dict[UUID, list[Delivery]]:
    """Read the attempts to deliver some messages, oldest first."""
    statement = (
        select(webhook_attempts)
        .where(webhook_attempts.c.message_id.in_(list(messages)))
        .order_by(webhook_attempts.c.message_id, webhook_attempts.c.attempt)
    )
    found: dict[UUID, list[Delivery]] = {message: [] for message in messages}
    for row in await connection.execute(statement):
        found[row.message_id].append(Delivery(**{name: getattr(row, name) for name in _FIELDS}))
    return found
