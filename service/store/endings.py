"""SQL for the last finished tasks: the input of the statistics."""

import dataclasses
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Text, bindparam, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.statistics import Ending
from service.domain.task import Result, Source, State
from service.store.subqueries import any_row
from service.store.tables import callbacks, submissions, tasks

_HASTENED = any_row(
    callbacks.c.submission_id == submissions.c.id,
    submissions.c.task_id == tasks.c.id,
    # Not by the index of decisions: SQLite would read every such callback for each task.
    func.coalesce(callbacks.c.decision, "") == "hastened",
)
# As Task.model. The rest of the input is not read: it may contain whole images.
_MODEL = func.coalesce(tasks.c.options["model"].as_string(), tasks.c.input["model"].as_string())
_ENDINGS = (
    select(
        tasks.c.family,
        tasks.c.operation,
        _MODEL.label("model"),
        tasks.c.upstream,
        tasks.c.dialect,
        tasks.c.submitted_at,
        tasks.c.finished_at,
        tasks.c.outcome_source,
        tasks.c.callback_expected,
        _HASTENED.label("hastened"),
    )
    .where(
        tasks.c.finished_at.is_not(None),
        tasks.c.finished_at > bindparam("since"),
        tasks.c.decided_by == "provider",
        tasks.c.submitted_at.is_not(None),
        tasks.c.adopted.is_(False),  # when such a job began is not known
    )
    .order_by(tasks.c.finished_at.desc())
    .limit(bindparam("most"))
)


async def recent_endings(connection: AsyncConnection, *, since: datetime, most: int) -> list[Ending]:
    """Read the last finished tasks, newest first: the input of the statistics."""
    return [
        Ending(
            family=row.family,
            operation=row.operation,
            model=row.model,
            upstream=row.upstream or "",
            dialect=row.dialect or "",
            seconds=(row.finished_at - row.submitted_at).total_seconds(),
            by_callback=row.outcome_source == Source.CALLBACK or bool(row.hastened),
            callback_expected=row.callback_expected,
        )
        for row in await connection.execute(_ENDINGS, {"since": since, "most": most})
    ]


MAX_SHOWN = 20_000
"""Characters of the results of a task above which they are not read for an overview."""
_RESULTS = (
    select(tasks.c.id, tasks.c.upstream, tasks.c.results)
    .where(
        tasks.c.finished_at.is_not(None),
        tasks.c.finished_at > bindparam("since"),
        tasks.c.state == str(State.SUCCEEDED),
        func.length(cast(tasks.c.results, Text)) <= MAX_SHOWN,
    )
    .order_by(tasks.c.finished_at.desc())
    .limit(bindparam("most"))
)


async def recent_results(
    connection: AsyncConnection, *, since: datetime, most: int
) -> list[tuple[UUID, str, tuple[Result, ...]]]:
    """Read the id, the upstream and the results of the last tasks that succeeded, newest first."""
    rows = await connection.execute(_RESULTS, {"since": since, "most": most})
    return [(row.id, row.upstream or "", tuple(map(Result.from_json, row.results))) for row in rows]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A finished task, as overviews of upstreams need it."""

    family: str
    model: str | None
    operation: str = ""
    upstream: str
    state: State
    code: str | None
    """The code of its failure."""
    by_callback: bool
    """Whether a callback reported the end, or caused the poll that found it."""
    callback_expected: bool
    seconds: float | None
    """From the submit to the end; None where it was never submitted."""
    finished_at: datetime


_FINISHED = (
    select(
        tasks.c.family,
        tasks.c.operation,
        _MODEL.label("model"),
        tasks.c.upstream,
        tasks.c.state,
        tasks.c.failure["code"].as_string().label("code"),
        _HASTENED.label("hastened"),
        tasks.c.outcome_source,
        tasks.c.callback_expected,
        tasks.c.submitted_at,
        tasks.c.finished_at,
    )
    .where(tasks.c.finished_at.is_not(None), tasks.c.finished_at > bindparam("since"))
    .order_by(tasks.c.finished_at.desc())
    .limit(bindparam("most"))
)


async def recent_finished(
    connection: AsyncConnection, *, since: datetime, most: int, client: str | None = None
) -> list[Finished]:
    """Read the last finished tasks, newest first; of a client, those of its last tasks."""
    statement = _FINISHED if client is None else _FINISHED.where(tasks.c.id.in_(_last_of(client, most)))
    return [
        Finished(
            family=row.family,
            model=row.model,
            operation=row.operation,
            upstream=row.upstream or "",
            state=State(row.state),
            code=row.code,
            by_callback=row.outcome_source == Source.CALLBACK or bool(row.hastened),
            callback_expected=row.callback_expected,
            seconds=None if row.submitted_at is None else (row.finished_at - row.submitted_at).total_seconds(),
            finished_at=row.finished_at,
        )
        for row in await connection.execute(statement, {"since": since, "most": most})
    ]


def _last_of(client: str, most: int) -> Select[Any]:
    """Select the ids of the last tasks of a client: no index has its finished ones in order."""
    last = select(tasks.c.id).where(tasks.c.client == client).order_by(tasks.c.id.desc()).limit(most).subquery()
    return select(last.c.id)
