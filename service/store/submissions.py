"""Statements on submissions: begin one before anything is sent, and write down how it went."""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, Row, bindparam, case, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.task import Submission
from service.store.tables import submissions


def submission_of(row: Row[Any]) -> Submission:
    """Read a row into a submission."""
    return Submission(**row._mapping)  # noqa: SLF001 - the documented way to a row's names


_OF_TASKS = (
    select(submissions)
    .where(submissions.c.task_id.in_(bindparam("ids", expanding=True)))
    .order_by(submissions.c.task_id, submissions.c.id)
)
_BY_ID = select(submissions).where(submissions.c.id.in_(bindparam("ids", expanding=True)))
_SETTLE = (
    update(submissions)
    .where(
        submissions.c.id == bindparam("of_submission"),
        # Proof that a job exists counts whatever was known before; anything else only while nothing is known.
        or_(submissions.c.outcome == "sending", bindparam("taken", type_=Boolean)),
    )
    .values(
        outcome=bindparam("outcome"),
        external_id=case(
            (bindparam("by_answer", type_=Boolean), func.coalesce(bindparam("external_id"), submissions.c.external_id)),
            else_=func.coalesce(submissions.c.external_id, bindparam("external_id")),
        ),
        code=bindparam("code"),
        message=bindparam("message"),
        settled_at=bindparam("settled_at"),
    )
)


async def begin(connection: AsyncConnection, started: Sequence[Submission]) -> None:
    """Insert submissions that are about to be sent. Fails where a task already has one that may have created a job."""
    if started:
        await connection.execute(submissions.insert(), [dataclasses.asdict(submission) for submission in started])


async def settle(
    connection: AsyncConnection, settled: Sequence[Submission], *, answered: Collection[UUID] = ()
) -> None:
    """Write how submissions went.

    :param answered: those whose answer came; it alone may replace an id that a callback had named
    """
    if settled:
        await connection.execute(
            _SETTLE,
            [
                {
                    "of_submission": submission.id,
                    "taken": submission.outcome == "taken",
                    "by_answer": submission.id in answered,
                    "outcome": submission.outcome,
                    "external_id": submission.external_id,
                    "code": submission.code,
                    "message": submission.message,
                    "settled_at": submission.settled_at,
                }
                for submission in settled
            ],
        )


async def of_tasks(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, list[Submission]]:
    """Read all submissions of some tasks, in the order in which they were begun."""
    found: dict[UUID, list[Submission]] = {task_id: [] for task_id in ids}
    for row in await connection.execute(_OF_TASKS, {"ids": list(ids)}):
        found[row.task_id].append(submission_of(row))
    return found


async def by_id(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, Submission]:
    """Read submissions by id; what is not there is left out."""
    rows = await connection.execute(_BY_ID, {"ids": sorted(set(ids))})
    return {row.id: submission_of(row) for row in rows}
