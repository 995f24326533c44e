"""SQL for what a task's page shows beside its events: polls, and answers to submissions."""

import dataclasses
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Table, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.prepared import Prepared
from service.store.rows import row_of_value
from service.store.tables import insert_for, polls, submission_answers


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """Some polls of a task with the same outcome, between two of its events."""

    task_id: UUID
    sequence: int
    """Number of the task's last event before them."""
    outcome: str
    progress: int | None = None
    """The progress that the last of them reported."""
    count: int = 1
    first_at: datetime
    last_at: datetime
    duration_ms: int
    """Duration of the last of them."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An upstream's answer to a submission, without secrets."""

    submission_id: UUID
    endpoint: str
    """The call that it answers, such as ``POST /v1/text_to_video``."""
    status: int
    body: str
    """Its beginning."""
    size: int
    """Bytes of the whole body."""
    at: datetime


def _recording(insert: Callable[[Table], Any]) -> Any:
    statement = insert(polls)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["task_id", "sequence", "outcome"],
        set_={
            "count": polls.c.count + new.count,
            "last_at": new.last_at,
            "progress": func.coalesce(new.progress, polls.c.progress),
            "duration_ms": new.duration_ms,
        },
    )


_RECORD = Prepared(insert_for(_recording))
_KEEP = Prepared(
    insert_for(lambda insert: insert(submission_answers).on_conflict_do_nothing(index_elements=["submission_id"]))
)
_POLLS = select(polls).where(polls.c.task_id == bindparam("of_task")).order_by(polls.c.first_at, polls.c.sequence)


async def record_polls(connection: AsyncConnection, made: Sequence[Poll]) -> list[None]:
    """Write polls: one that is equal to an earlier one raises its count."""
    await _RECORD.many(connection, [row_of_value(each) for each in made])
    return [None] * len(made)


async def keep_answers(connection: AsyncConnection, received: Sequence[Answer]) -> list[None]:
    """Write answers to submissions."""
    await _KEEP.many(connection, [row_of_value(each) for each in received])
    return [None] * len(received)


async def polls_of(connection: AsyncConnection, task_id: UUID) -> list[Poll]:
    """Read the polls of a task, oldest first."""
    rows = await connection.execute(_POLLS, {"of_task": task_id})
    return [Poll(**row._mapping) for row in rows]  # noqa: SLF001 - the documented way to a row's names


async def answers_to(connection: AsyncConnection, submissions: Sequence[UUID]) -> dict[UUID, Answer]:
    """Read the answers to some submissions."""
    statement = select(submission_answers).where(submission_answers.c.submission_id.in_(list(submissions)))
    rows = await connection.execute(statement)
    return {row.submission_id: Answer(**row._mapping) for row in rows}  # noqa: SLF001 - the documented way to a row's names
