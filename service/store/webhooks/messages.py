"""Statements on webhook_messages: the messages to clients."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, bindparam, func, or_, select, union_all, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store import queue
from service.store.prepared import Prepared
from service.store.rows import row_of_value
from service.store.tables import MESSAGE_STATES, PENDING_PROGRESS, webhook_endpoints, webhook_messages


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message to a client."""

    id: UUID
    """It is also the ``webhook-id``, the same for every attempt."""
    client: str
    task_id: UUID | None
    """None: the message belongs to no task, such as a test of an endpoint."""
    endpoint_id: UUID | None = None
    """None: the message goes to the task's ``callback_url``."""
    destination: str
    """The owner of the slots that it uses during a delivery: an endpoint, or the host of a ``callback_url``."""
    sequence: int
    """The sequence of its event."""
    type: str
    url: str
    """The URL of the receiver; for an endpoint, its URL when the message was written."""
    body: str
    state: str = "pending"
    """``pending``, ``delivered``, ``exhausted`` (the schedule is used up), ``discarded`` (can never be delivered)."""
    created_at: datetime
    delivered_at: datetime | None = None
    replayed_at: datetime | None = None
    """When it was last replayed. Attempts after that do not count for the endpoint's health."""
    last_status: int | None = None
    last_error: str | None = None
    due_at: datetime | None
    attempts: int = 0
    schedule_from: int = 0
    """Attempts before the last replay. The schedule starts again there."""
    traceparent: str | None = None
    """The context of the task's trace."""


def message_of(row: Row[Any]) -> Message:
    """Return the message of a row."""
    return Message(**row._mapping)  # noqa: SLF001 - the documented way to a row's names


_INSERT = Prepared(webhook_messages.insert())


async def insert(connection: AsyncConnection, messages: Sequence[Message]) -> None:
    """Insert messages, in the transaction of the change that they announce."""
    if messages:
        await _INSERT.many(connection, [row_of_value(message) for message in messages])


_PROGRESS_PENDING = (
    select(
        webhook_messages.c.id, webhook_messages.c.task_id, webhook_messages.c.destination, webhook_messages.c.attempts
    )
    .where(webhook_messages.c.task_id.in_(bindparam("tasks", expanding=True)))
    .where(PENDING_PROGRESS)
    .order_by(webhook_messages.c.id)
    .with_for_update()
)
_RENEWED = ("sequence", "body", "created_at")
_RENEW = (
    update(webhook_messages)
    .where(webhook_messages.c.id == bindparam("of_row"))
    .values({name: bindparam(f"new_{name}") for name in _RENEWED})
)


async def insert_progress(connection: AsyncConnection, messages: Sequence[Message], *, ended: Sequence[UUID]) -> None:
    """Insert progress messages. Of each task at most one is pending for each destination: the latest.

    A pending message that was never sent gets the newer body. One that was tried is discarded, because its receiver may
    know its id. Pending progress of ended tasks is discarded.

    :param messages: at most one for each task and destination
    :param ended: tasks that have ended
    """
    task_ids = {*ended, *(message.task_id for message in messages)}
    if not task_ids:
        return
    rows = (await connection.execute(_PROGRESS_PENDING, {"tasks": sorted(filter(None, task_ids))})).all()
    newer = {(message.task_id, message.destination): message for message in messages}
    renewed, superseded = [], []
    for row in rows:
        message = newer.get((row.task_id, row.destination))
        if message is not None and row.attempts == 0:
            renewed.append({"of_row": row.id, **{f"new_{name}": getattr(message, name) for name in _RENEWED}})
            del newer[row.task_id, row.destination]
        elif message is not None or row.task_id in ended:
            superseded.append(row.id)
    if renewed:
        await connection.execute(_RENEW, renewed)
    await queue.discard(connection, superseded, reason="superseded by a newer message of the task")
    await insert(connection, list(newer.values()))


async def of_task(connection: AsyncConnection, task_id: UUID) -> list[Message]:
    """Read the messages about a task, oldest first."""
    statement = (
        select(webhook_messages)
        .where(webhook_messages.c.task_id == task_id)
        .order_by(webhook_messages.c.sequence, webhook_messages.c.id)
    )
    rows = await connection.execute(statement)
    return [message_of(row) for row in rows]


_ONE = select(webhook_messages).where(
    webhook_messages.c.id == bindparam("id"), webhook_messages.c.client == bindparam("client")
)


async def find(connection: AsyncConnection, message_id: UUID, client: str) -> Message | None:
    """Read a message of a client."""
    row = (await connection.execute(_ONE, {"id": message_id, "client": client})).first()
    return None if row is None else message_of(row)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which messages of a client to list."""

    client: str
    types: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    endpoint_id: UUID | None = None
    task_id: UUID | None = None
    after: UUID | None = None
    """Only ids above this one. A uuid of version 7 begins with its time, so this also filters by time."""
    before: UUID | None = None
    """Only ids below this one."""


async def list_messages(connection: AsyncConnection, wanted: Filter, *, most: int) -> list[Message]:
    """List messages, newest first."""
    if len(_parts(_matching(wanted), wanted)) == 1:
        [statement] = _parts(_matching(wanted, webhook_messages), wanted)
        statement = statement.limit(most)
    else:
        ids = _ordered(_matching(wanted), wanted, most, newest=True).subquery()
        statement = select(webhook_messages).where(webhook_messages.c.id.in_(select(ids.c.id)))
    rows = await connection.execute(statement.order_by(webhook_messages.c.id.desc()))
    return [message_of(row) for row in rows]


async def replayable(connection: AsyncConnection, wanted: Filter, *, most: int) -> list[UUID]:
    """Return the ids of settled messages that can be replayed, oldest first."""
    settled = set(wanted.states or MESSAGE_STATES) - {"pending"}
    if not settled:
        return []
    wanted = dataclasses.replace(wanted, states=tuple(sorted(settled)))
    enabled = select(webhook_endpoints.c.id).where(
        webhook_endpoints.c.client == wanted.client, webhook_endpoints.c.disabled_at.is_(None)
    )
    able = _matching(wanted).where(
        webhook_messages.c.body != "{}",  # erased
        or_(webhook_messages.c.endpoint_id.is_(None), webhook_messages.c.endpoint_id.in_(enabled)),
    )
    rows = await connection.execute(_ordered(able, wanted, most, newest=False))
    return [row.id for row in rows]


def _ordered(statement: Select[Any], wanted: Filter, most: int, *, newest: bool) -> Select[Any]:
    """Select the ids of a page: one of each state and type, merged, so that an index serves each."""
    key = webhook_messages.c.id.desc() if newest else webhook_messages.c.id
    pages = [part.order_by(key).limit(most) for part in _parts(statement, wanted)]
    if len(pages) == 1:
        return pages[0]
    either = union_all(*(select(page.subquery()) for page in pages)).subquery()
    return select(either).order_by(either.c.id.desc() if newest else either.c.id).limit(most)


def _parts(statement: Select[Any], wanted: Filter) -> list[Select[Any]]:
    """Return a statement for each state and type; a single one where an index serves the filter as it is."""
    if wanted.task_id is not None or not (wanted.states or wanted.types or wanted.endpoint_id is not None):
        return [_among(statement, wanted)]
    parts = [
        statement.where(webhook_messages.c.state == state) for state in sorted(set(wanted.states) or MESSAGE_STATES)
    ]
    if not wanted.types:
        return parts
    return [part.where(webhook_messages.c.type == kind) for part in parts for kind in sorted(set(wanted.types))]


def _among(statement: Select[Any], wanted: Filter) -> Select[Any]:
    """Add the conditions on state and type, where few rows are left to which they apply."""
    if wanted.states:
        statement = statement.where(webhook_messages.c.state.in_(wanted.states))
    return statement.where(webhook_messages.c.type.in_(wanted.types)) if wanted.types else statement


def _matching(wanted: Filter, columns: Any = webhook_messages.c.id) -> Select[Any]:
    # A task or an endpoint has few messages and a client many: the planner is kept from going by the client.
    few = wanted.task_id is not None or wanted.endpoint_id is not None
    whose: Any = func.coalesce(webhook_messages.c.client, "") if few else webhook_messages.c.client
    statement = select(columns).where(whose == wanted.client)
    if wanted.task_id is not None:
        statement = statement.where(webhook_messages.c.task_id == wanted.task_id)
    if wanted.endpoint_id is not None:
        endpoint: Any = webhook_messages.c.endpoint_id
        # Of the two, the task has fewer.
        endpoint = func.coalesce(endpoint, endpoint) if wanted.task_id is not None else endpoint
        statement = statement.where(endpoint == wanted.endpoint_id)
    if wanted.after is not None:
        statement = statement.where(webhook_messages.c.id > wanted.after)
    if wanted.before is not None:
        statement = statement.where(webhook_messages.c.id < wanted.before)
    return statement
