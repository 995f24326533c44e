"""SQL for overviews of many tasks: bounded counts, and the few tasks that need somebody."""

import dataclasses
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.attention import MAY_BE_STUCK, NEEDING, STUCK_AFTER
from service.domain.task import State, Task
from service.store.tables import DUPLICATE_JOB, submissions, task_labels, tasks
from service.store.tasks import Filter, fitting, task_of

MAX_COUNTED: Final = 10_000
"""Tasks that are counted; more are shown as ``10,000+``."""
MAX_NEEDING: Final = 200
"""Tasks of each kind that are read because they may need somebody."""


def _bounded(statement: Select[Any], most: int) -> Any:
    return select(func.count()).select_from(statement.limit(most + 1).subquery()).scalar_subquery()


async def count_by_state(connection: AsyncConnection, wanted: Filter) -> dict[State, int]:
    """Count the tasks that fit a filter by state, whatever states it names. No count is above :data:`MAX_COUNTED` + 1."""
    if wanted.labels:
        return await _count_labelled(connection, wanted)
    each = (dataclasses.replace(wanted, states=(state,)) for state in State)
    counts = [_bounded(fitting(select(tasks.c.id), one), MAX_COUNTED) for one in each]
    row = (await connection.execute(select(*counts))).one()
    return dict(zip(State, row, strict=True))


async def _count_labelled(connection: AsyncConnection, wanted: Filter) -> dict[State, int]:
    """Count the last tasks of a label by state. Without its key, a rare label would be looked for in all tasks."""
    name, value = next(iter(sorted(wanted.labels.items())))
    others = {key: each for key, each in wanted.labels.items() if key != name}
    chosen = select(task_labels.c.task_id).where(task_labels.c.name == name, task_labels.c.value == value)
    if wanted.client is not None:
        chosen = chosen.where(task_labels.c.client == wanted.client)
    last = chosen.order_by(task_labels.c.task_id.desc()).limit(MAX_COUNTED + 1).subquery()
    statement = fitting(select(tasks.c.state, func.count()), dataclasses.replace(wanted, states=(), labels=others))
    rows = await connection.execute(statement.where(tasks.c.id.in_(select(last))).group_by(tasks.c.state))
    return dict.fromkeys(State, 0) | {State(row[0]): row[1] for row in rows}


async def newest_id(connection: AsyncConnection) -> UUID | None:
    """Return the id of the newest task."""
    found: UUID | None = await connection.scalar(select(tasks.c.id).order_by(tasks.c.id.desc()).limit(1))
    return found


async def count_newer(connection: AsyncConnection, wanted: Filter, *, most: int) -> int:
    """Count the tasks that fit a filter, up to a number."""
    statement = fitting(select(tasks.c.id), wanted)
    return int(await connection.scalar(select(_bounded(statement, most))) or 0)


async def may_need_somebody(connection: AsyncConnection, client: str | None, *, now: datetime) -> list[Task]:
    """Read the tasks that may need somebody: at most :data:`MAX_NEEDING` of each state."""
    before = UUID(int=max(int((now - STUCK_AFTER).timestamp() * 1000), 0) << 80)
    found: list[Task] = []
    for state in sorted(NEEDING | MAY_BE_STUCK):
        wanted = Filter(client=client, states=(state,), before=None if state in NEEDING else before)
        statement = fitting(select(tasks), wanted)
        # Those that have waited longest, where there are very many. The few in submitting are sorted: in the order of
        # all ids, a database would look for them in the whole table.
        order = func.coalesce(tasks.c.id, tasks.c.id) if state is State.SUBMITTING else tasks.c.id
        rows = await connection.execute(statement.order_by(order).limit(MAX_NEEDING))
        found += [task_of(row) for row in rows]
    return found


async def with_duplicate_jobs(connection: AsyncConnection, client: str | None, *, most: int) -> list[Task]:
    """Read the tasks for which more than one job was bought, newest first."""
    doubled = select(submissions.c.task_id).where(DUPLICATE_JOB).order_by(submissions.c.task_id.desc())
    statement = select(tasks).where(tasks.c.id.in_(doubled.limit(most * (1 if client is None else 20))))
    if client is not None:
        statement = statement.where(tasks.c.client == client)
    rows = await connection.execute(statement.order_by(tasks.c.id.desc()).limit(most))
    return [task_of(row) for row in rows]


async def by_ids(connection: AsyncConnection, ids: Collection[UUID], client: str | None) -> list[Task]:
    """Read some tasks, newest first; with a client, only that client's."""
    statement = select(tasks).where(tasks.c.id.in_(sorted(ids)))
    if client is not None:
        statement = statement.where(tasks.c.client == client)
    return [task_of(row) for row in await connection.execute(statement.order_by(tasks.c.id.desc()))]


async def by_external_id(
    connection: AsyncConnection, external_id: str, upstreams: Sequence[str], client: str | None
) -> list[Task]:
    """Read the tasks of a job's id, at any of these upstreams."""
    of_job = select(submissions.c.task_id).where(
        submissions.c.upstream.in_(sorted(upstreams)), submissions.c.external_id == external_id
    )
    found = (await connection.scalars(of_job.limit(50))).all()
    return await by_ids(connection, set(found), client)


async def related(connection: AsyncConnection, task: Task, *, most: int) -> list[Task]:
    """Read the task that a task goes on from, and those that go on from the same task or from this one, oldest first."""
    family = [task.id, *([task.parent_id] if task.parent_id is not None else [])]
    parent = select(tasks).where(tasks.c.id == task.parent_id) if task.parent_id is not None else None
    # Neither the client nor the order by id stands in the statement: SQLite would read all tasks of the client instead of these few.
    statement = (
        select(tasks).where(tasks.c.parent_id.in_(family)).order_by(tasks.c.created_at, tasks.c.id).limit(most + 1)
    )
    read = [task_of(row) for row in await connection.execute(statement)]
    found = [each for each in read if each.id != task.id and each.client == task.client][:most]
    if parent is not None:
        found = [*(task_of(row) for row in await connection.execute(parent)), *found]
    return found


async def count_duplicate_jobs(connection: AsyncConnection, client: str | None, *, most: int) -> int:
    """Count the tasks for which more than one job was bought, up to a number and one more."""
    doubled = select(submissions.c.task_id).where(DUPLICATE_JOB)
    if client is not None:
        doubled = doubled.join(tasks, tasks.c.id == submissions.c.task_id).where(tasks.c.client == client)
    return int(await connection.scalar(select(_bounded(doubled, most))) or 0)


async def count_unconfirmed(connection: AsyncConnection, client: str | None) -> dict[str, int]:
    """Count the unconfirmed tasks by upstream: of the first :data:`MAX_COUNTED` and one more."""
    wanted = Filter(client=client, states=(State.UNCONFIRMED,))
    some = fitting(select(tasks.c.upstream), wanted).limit(MAX_COUNTED + 1).subquery()
    rows = await connection.execute(select(some.c.upstream, func.count()).group_by(some.c.upstream))
    return {row[0]: row[1] for row in rows if row[0] is not None}
