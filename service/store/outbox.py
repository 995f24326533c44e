"""Statements on the outbox: messages owed to clients."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.tables import outbox


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A notice that is owed to a client."""

    id: UUID
    """Also its ``webhook-id``, the same for every attempt."""
    task_id: UUID
    sequence: int
    """Of the event that it tells of."""
    type: str
    url: str
    body: str
    state: str = "pending"
    """``pending``, ``delivered``, ``exhausted`` (the schedule is used up), ``discarded`` (can never be delivered)."""
    created_at: datetime
    delivered_at: datetime | None = None
    last_status: int | None = None
    last_error: str | None = None
    due_at: datetime | None
    attempts: int = 0


async def owe(connection: AsyncConnection, messages: Sequence[Message]) -> None:
    """Insert messages, in the transaction of the change that they tell of."""
    if messages:
        await connection.execute(outbox.insert(), [dataclasses.asdict(message) for message in messages])


async def of_task(connection: AsyncConnection, task_id: UUID) -> list[Message]:
    """Read the messages about a task, oldest first."""
    rows = await connection.execute(select(outbox).where(outbox.c.task_id == task_id).order_by(outbox.c.id))
    return [Message(**row._mapping) for row in rows]  # noqa: SLF001 - the documented way to a row's names
