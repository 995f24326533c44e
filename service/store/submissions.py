"""SQL for submissions: a row is written before anything is sent, and settled with the outcome."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, Row, and_, bindparam, case, func, null, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.task import Outcome, Submission
from service.store.prepared import Prepared
from service.store.rows import row_of_value
from service.store.tables import MAY_HAVE_JOB, UtcTime, submissions


def submission_of(row: Row[Any] | Mapping[str, Any]) -> Submission:
    """Return the submission of a row."""
    values = row if isinstance(row, Mapping) else row._mapping  # noqa: SLF001 - the documented way to a row's names
    return Submission(**{**values, "outcome": Outcome(values["outcome"])})


_OF_TASKS = Prepared(
    select(submissions)
    .where(submissions.c.task_id.in_(bindparam("ids", expanding=True)))
    .order_by(submissions.c.task_id, submissions.c.sent_at, submissions.c.id)
)
_BY_ID = Prepared(select(submissions).where(submissions.c.id.in_(bindparam("ids", expanding=True))))
_BEGIN = Prepared(submissions.insert())
_SETTLE = Prepared(
    update(submissions)
    .where(
        submissions.c.id == bindparam("of_submission"),
        # Proof that a job exists always counts. Other outcomes count only while the outcome is unknown, or to allow
        # another submission.
        or_(
            submissions.c.outcome == "sending",
            and_(submissions.c.outcome == "uncertain", bindparam("superseded_at", type_=UtcTime).is_not(None)),
            and_(submissions.c.outcome == "uncertain", bindparam("certain", type_=Boolean)),
            bindparam("taken", type_=Boolean),
        ),
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
        retry_at=bindparam("retry_at"),
        superseded_at=case(
            (bindparam("revived", type_=Boolean), null()),
            else_=func.coalesce(bindparam("superseded_at"), submissions.c.superseded_at),
        ),
        job_state=bindparam("job_state"),
        cost=func.coalesce(bindparam("cost"), submissions.c.cost),
        refunded=func.coalesce(bindparam("refunded"), submissions.c.refunded),
    )
)


_SUPERSEDE_OTHERS = (
    update(submissions)
    .where(submissions.c.task_id == bindparam("of_task"), submissions.c.id != bindparam("keep"), MAY_HAVE_JOB)
    .values(superseded_at=bindparam("at"))
)


async def supersede_others(connection: AsyncConnection, kept: Sequence[Submission], *, at: datetime) -> None:
    """Supersede every other submission of each task that may have created a job."""
    if kept:
        await connection.execute(
            _SUPERSEDE_OTHERS, [{"of_task": each.task_id, "keep": each.id, "at": at} for each in kept]
        )


async def begin(connection: AsyncConnection, started: Sequence[Submission]) -> None:
    """Insert submissions that are about to be sent. The unique index refuses a second one that may have created a job."""
    if started:
        await _BEGIN.many(connection, [{**row_of_value(each), "outcome": str(each.outcome)} for each in started])


async def settle(
    connection: AsyncConnection,
    settled: Sequence[Submission],
    *,
    answered: Collection[UUID] = (),
    revived: Collection[UUID] = (),
    certain: Collection[UUID] = (),
) -> None:
    """Write the outcomes of submissions.

    :param answered: those whose answer came; it alone may replace an id that a callback had named
    :param certain: those that are known to have created no job, even if another conclusion was stored before
    :param revived: those that serve their task from now on, although they had been superseded
    """
    if settled:
        await _SETTLE.many(
            connection,
            [
                {
                    "of_submission": submission.id,
                    "taken": submission.outcome is Outcome.TAKEN,
                    "by_answer": submission.id in answered,
                    "revived": submission.id in revived,
                    "certain": submission.id in certain,
                    "outcome": str(submission.outcome),
                    "external_id": submission.external_id,
                    "code": submission.code,
                    "message": submission.message,
                    "settled_at": submission.settled_at,
                    "retry_at": submission.retry_at,
                    "superseded_at": submission.superseded_at,
                    "job_state": submission.job_state,
                    "cost": submission.cost,
                    "refunded": submission.refunded,
                }
                for submission in settled
            ],
        )


async def of_tasks(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, list[Submission]]:
    """Read all submissions of some tasks, in the order in which they began."""
    found: dict[UUID, list[Submission]] = {task_id: [] for task_id in ids}
    for row in await _OF_TASKS.rows(connection, {"ids": list(ids)}):
        found[row.task_id].append(submission_of(row))
    return found


_IS_KNOWN = select(submissions.c.id).where(
    submissions.c.upstream == bindparam("at_upstream"), submissions.c.external_id == bindparam("job")
)


async def is_known(connection: AsyncConnection, upstream: str, external_id: str) -> bool:
    """Return whether a job of an upstream belongs to a submission already."""
    return (await connection.execute(_IS_KNOWN, {"at_upstream": upstream, "job": external_id})).first() is not None


_TASK_OF_JOB = (
    select(submissions.c.task_id)
    .where(submissions.c.upstream == bindparam("at_upstream"), submissions.c.external_id == bindparam("job"))
    .order_by(submissions.c.superseded_at.is_not(None), submissions.c.id)
    .limit(1)
)


async def task_of_job(connection: AsyncConnection, upstream: str, external_id: str) -> UUID | None:
    """Return the task of a job of an upstream; of several the one that the job serves."""
    found: UUID | None = await connection.scalar(_TASK_OF_JOB, {"at_upstream": upstream, "job": external_id})
    return found


_TASKS_OF_JOBS = select(submissions.c.task_id).where(
    submissions.c.upstream == bindparam("at_upstream"),
    submissions.c.external_id.in_(bindparam("jobs", expanding=True)),
)


async def tasks_of_jobs(connection: AsyncConnection, upstream: str, external_ids: Collection[str]) -> list[UUID]:
    """Return the tasks of some jobs of an upstream."""
    found = await connection.scalars(_TASKS_OF_JOBS, {"at_upstream": upstream, "jobs": list(external_ids)})
    return sorted(set(found))


_ID_MARGIN = 60_000
"""Milliseconds by which an id and the time of its row may differ."""
_WITHOUT_KNOWN_JOB = (
    select(submissions.c.task_id)
    .where(
        submissions.c.id >= bindparam("first_id"),
        submissions.c.id != bindparam("besides"),
        submissions.c.upstream == bindparam("at_upstream"),
        submissions.c.dialect == bindparam("in_dialect"),
        submissions.c.outcome.in_(["sending", "uncertain"]),
        submissions.c.external_id.is_(None),
        submissions.c.sent_at.between(bindparam("since"), bindparam("until")),
    )
    .order_by(submissions.c.id)
    .limit(bindparam("most"))
)


async def without_known_job(
    connection: AsyncConnection, besides: Submission, *, since: datetime, until: datetime, most: int
) -> list[UUID]:
    """Return the tasks with another submission to the same upstream in a period whose job id is unknown."""
    where = {
        # Ids begin with their time, so the primary key serves the period.
        "first_id": UUID(int=int(since.timestamp() * 1000 - _ID_MARGIN) << 80),
        "besides": besides.id,
        "at_upstream": besides.upstream,
        "in_dialect": besides.dialect,
        "since": since,
        "until": until,
        "most": most,
    }
    return list((await connection.scalars(_WITHOUT_KNOWN_JOB, where)).all())


async def by_id(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, Submission]:
    """Read submissions by id; unknown ids are left out."""
    rows = await _BY_ID.rows(connection, {"ids": sorted(set(ids))})
    return {row.id: submission_of(row) for row in rows}
