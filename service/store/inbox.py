"""SQL for the inbox: stored callbacks as a list, with their tasks."""

import dataclasses
from collections.abc import Collection
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, Select, bindparam, func, select, text, union_all, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.task import Submission
from service.store.callbacks import Received
from service.store.submissions import submission_of
from service.store.tables import DECIDED, DECISIONS, callbacks, submissions, tasks

MAX_COUNTED: Final = 10_000
"""The last callbacks, of which decisions are counted."""


_STILL_DUE = text("callbacks.due_at IS NOT NULL")
"""The predicate of the index of undecided callbacks, where submissions are joined."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which callbacks to list."""

    client: str | None = None
    """None: every client's, and those of no known submission. A client's are listed by task."""
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
    if wanted.task_id is not None:
        statement = _of_task(wanted, wanted.task_id)
    elif wanted.client is not None:
        raise ValueError("callbacks of one client are listed by task only: no index finds them otherwise")
    elif wanted.decisions or wanted.upstream is not None:
        statement = _selected().where(callbacks.c.id.in_(select(_ids(wanted, most))))
    else:
        statement = _before(_selected(), wanted)
    if wanted.client is not None:
        statement = statement.where(tasks.c.client == wanted.client)
    rows = await connection.execute(statement.order_by(callbacks.c.id.desc()).limit(most))
    return [_entry(row) for row in rows]


def _of_task(wanted: Filter, task_id: UUID) -> Select[Any]:
    """Select by the few submissions of a task; the planner is kept from going through all callbacks by id."""
    own = select(submissions.c.id).where(submissions.c.task_id == task_id)
    few = select(callbacks.c.id).where(callbacks.c.submission_id.in_(own))
    if wanted.decisions:
        few = few.where(callbacks.c.decision.in_(wanted.decisions))
    statement = _before(_selected(), wanted).where(callbacks.c.id.in_(few.offset(0)))
    return statement if wanted.upstream is None else statement.where(submissions.c.upstream == wanted.upstream)


def _ids(wanted: Filter, most: int) -> Any:
    """Select the ids of a page by decisions and upstream: a page of each decision, so that an index serves every one."""
    parts = [
        _before(select(callbacks.c.id), wanted).where(DECIDED, callbacks.c.decision == decision)
        for decision in sorted(set(wanted.decisions) or DECISIONS)
    ]
    if wanted.upstream is not None:
        parts = [part.where(callbacks.c.upstream == wanted.upstream) for part in parts]
    pages = [part.order_by(callbacks.c.id.desc()).limit(most).subquery() for part in parts]
    if wanted.upstream is not None and not wanted.decisions:
        pages.append(_undecided(wanted, most).subquery())
    either = union_all(*(select(each) for each in pages)).subquery()
    return select(either).order_by(either.c.id.desc()).limit(most).subquery()


def _undecided(wanted: Filter, most: int) -> Select[Any]:
    """Select those that are still to be read, which are few: a sort of them, instead of a scan of all callbacks by id."""
    due = select(callbacks.c.id).join(submissions, submissions.c.id == callbacks.c.submission_id)
    due = _before(due.where(_STILL_DUE, submissions.c.upstream == wanted.upstream), wanted)
    return due.order_by(func.coalesce(callbacks.c.id, callbacks.c.id).desc()).limit(most)


def _before(statement: Select[Any], wanted: Filter) -> Select[Any]:
    return statement if wanted.before is None else statement.where(callbacks.c.id < wanted.before)


_LATE = select(callbacks.c.id).where(DECIDED, callbacks.c.upstream.is_(None)).limit(bindparam("most"))
_ITS_UPSTREAM = select(submissions.c.upstream).where(submissions.c.id == callbacks.c.submission_id).scalar_subquery()
_COMPLETE = update(callbacks).where(callbacks.c.id.in_(_LATE)).values(upstream=func.coalesce(_ITS_UPSTREAM, ""))


async def complete(connection: AsyncConnection, *, most: int) -> int:
    """Write the upstream of callbacks that an older version has decided; return how many there were."""
    return int((await connection.execute(_COMPLETE, {"most": most})).rowcount)


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
