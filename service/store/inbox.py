"""SQL for the inbox: stored callbacks as a list, with their tasks."""

import dataclasses
from collections.abc import Collection
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.task import Submission
from service.store.callbacks import Received
from service.store.submissions import submission_of
from service.store.tables import callbacks, submissions, tasks

MAX_COUNTED: Final = 10_000
"""The last callbacks, of which decisions are counted."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which callbacks to list."""

    client: str | None = None
    """None: every client's, and those of no known submission."""
    decisions: tuple[str, ...] = ()
    upstream: str | None = None
    task_id: UUID | None = None
    before: UUID | None = None
    """Only ids below this one: the keyset cursor."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A stored callback with its submission and task, where they are known."""

    received: Received
    submission: Submission | None
    family: str | None
    operation: str | None
    client: str | None

    @property
    def id(self) -> UUID:
        """The callback's id: the cursor behind it."""
        return self.received.id


def _selected() -> Select[Any]:
    known = callbacks.outerjoin(submissions, submissions.c.id == callbacks.c.submission_id).outerjoin(
        tasks, tasks.c.id == submissions.c.task_id
    )
    return select(
        *(column.label(f"c_{column.name}") for column in callbacks.c),
        *(column.label(f"s_{column.name}") for column in submissions.c),
        tasks.c.family,
        tasks.c.operation,
        tasks.c.client,
    ).select_from(known)


def _entry(row: Row[Any]) -> Entry:
    values = row._mapping  # noqa: SLF001 - the documented way to a row's names
    received = Received(**{column.name: values[f"c_{column.name}"] for column in callbacks.c})
    submission = None
    if values["s_id"] is not None:
        submission = submission_of({column.name: values[f"s_{column.name}"] for column in submissions.c})
    return Entry(
        received=received,
        submission=submission,
        family=values["family"],
        operation=values["operation"],
        client=values["client"],
    )


async def page(connection: AsyncConnection, wanted: Filter, *, most: int) -> list[Entry]:
    """List callbacks, newest first."""
    statement = _selected()
    if wanted.decisions:
        statement = statement.where(callbacks.c.decision.in_(wanted.decisions))
    if wanted.client is not None:
        statement = statement.where(tasks.c.client == wanted.client)
    if wanted.task_id is not None:
        statement = statement.where(submissions.c.task_id == wanted.task_id)
    if wanted.upstream is not None:
        statement = statement.where(submissions.c.upstream == wanted.upstream)
    if wanted.before is not None:
        statement = statement.where(callbacks.c.id < wanted.before)
    rows = await connection.execute(statement.order_by(callbacks.c.id.desc()).limit(most))
    return [_entry(row) for row in rows]


async def find(connection: AsyncConnection, callback_id: UUID, client: str | None) -> Entry | None:
    """Read one callback; with a client, only if it is about a task of that client."""
    statement = _selected().where(callbacks.c.id == callback_id)
    if client is not None:
        statement = statement.where(tasks.c.client == client)
    row = (await connection.execute(statement)).first()
    return None if row is None else _entry(row)


async def count_by_decision(connection: AsyncConnection) -> dict[str | None, int]:
    """Count the decisions on the last :data:`MAX_COUNTED` callbacks. None: those that are still to be read."""
    last = select(callbacks.c.decision).order_by(callbacks.c.id.desc()).limit(MAX_COUNTED).subquery()
    rows = await connection.execute(select(last.c.decision, func.count()).group_by(last.c.decision))
    return {row[0]: row[1] for row in rows}


async def count_decided(connection: AsyncConnection, decisions: Collection[str], *, most: int) -> int:
    """Count the callbacks with one of these decisions, up to a number and one more."""
    found = select(callbacks.c.id).where(callbacks.c.decision.in_(sorted(decisions))).limit(most + 1).subquery()
    return int(await connection.scalar(select(func.count()).select_from(found)) or 0)


async def ids_of_tasks(connection: AsyncConnection, task_ids: Collection[UUID]) -> list[UUID]:
    """Return the ids of the stored callbacks of some tasks."""
    whose = select(submissions.c.id).where(submissions.c.task_id.in_(sorted(task_ids)))
    return list((await connection.scalars(select(callbacks.c.id).where(callbacks.c.submission_id.in_(whose)))).all())
