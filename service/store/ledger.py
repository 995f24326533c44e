"""SQL for the ledger: submissions, their outcomes and costs, and what is kept of those of removed tasks."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    or_,
    select,
    text,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import literal
from sqlalchemy.sql.functions import FunctionElement

from service.domain.task import WITHOUT_RESULT, State
from service.store.sums import Plan, in_kept, in_rest, plan
from service.store.tables import ledger_entries, submission_sums, submissions, tasks
from service.store.triggers import SUBMISSIONS


class Day(FunctionElement[str]):
    """The day of an :class:`UtcTime`, in UTC, as ``2026-05-01``."""

    type = Text()
    inherit_cache = True


@compiles(Day, "sqlite")
def _of_microseconds(day: Day, compiler: Any, **more: Any) -> str:
    return f"strftime('%Y-%m-%d', {compiler.process(day.clauses, **more)} / 1000000, 'unixepoch')"


@compiles(Day, "postgresql")
def _of_timestamp(day: Day, compiler: Any, **more: Any) -> str:
    return f"to_char({compiler.process(day.clauses, **more)} AT TIME ZONE 'UTC', 'YYYY-MM-DD')"


_GROUPS: Final[dict[str, Any]] = {
    "upstream": submissions.c.upstream,
    "family": tasks.c.family,
    "day": Day(submissions.c.sent_at),
    "client": tasks.c.client,
}
GROUPS: Final = tuple(_GROUPS)
"""The fields that entries can be grouped by."""

_SERVES = tasks.c.submission_id == submissions.c.id
"""Whether a submission is the one that serves its task. Of any other, a job that it made is one too many."""
_SUCCEEDED = or_(
    and_(_SERVES, tasks.c.state == str(State.SUCCEEDED)),
    func.coalesce(submissions.c.job_state == str(State.SUCCEEDED), literal(value=False, type_=Boolean)),
)
_CAME_TO_NOTHING = case(
    (_SERVES, and_(tasks.c.state.in_(sorted(WITHOUT_RESULT)), tasks.c.decided_by == "provider")),
    else_=func.coalesce(submissions.c.job_state.in_(sorted(WITHOUT_RESULT)), literal(value=False, type_=Boolean)),
)
_REFUNDED = case((_SERVES, tasks.c.refunded), else_=submissions.c.refunded)
_COST = case((_SERVES, tasks.c.cost), else_=submissions.c.cost)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The number of submissions with equal other fields."""

    group: tuple[str, ...]
    """Values of the grouping fields, in the requested order."""
    dialect: str
    operation: str
    outcome: str
    adopted: bool = False
    """Whether their jobs were bought elsewhere."""
    serves: bool
    """Whether they serve their tasks; a job that another one made is one too many."""
    succeeded: bool
    """Whether their job is known to have succeeded."""
    came_to_nothing: bool
    """Whether the provider says that the job failed or was cancelled."""
    refunded: bool | None
    count: int
    cost: float | None
    """The sum of their costs, as far as the provider states them."""


async def entries(
    connection: AsyncConnection, *, by: Sequence[str], since: datetime | None = None, until: datetime | None = None
) -> list[Entry]:
    """Count submissions by the time at which they were sent: from ``since``, and before ``until``.

    :param by: some of :data:`GROUPS`
    """
    rows = await connection.execute(_statement(tuple(by), await plan(connection, SUBMISSIONS, since, until)))
    return [
        Entry(
            group=tuple(row[: len(by)]),
            dialect=row.dialect,
            operation=row.operation,
            outcome=row.outcome,
            adopted=bool(row.adopted),
            serves=bool(row.serves),
            succeeded=bool(row.succeeded),
            came_to_nothing=bool(row.came_to_nothing),
            refunded=None if row.given_back is None else bool(row.given_back),
            count=row.count_of,
            cost=row.cost_of,
        )
        for row in rows
    ]


_NAMES: Final = (
    "dialect",
    "operation",
    "outcome",
    "adopted",
    "serves",
    "succeeded",
    "came_to_nothing",
    "refunded",
    "cost",
)
_LIVE: Final[dict[str, Any]] = {
    "dialect": submissions.c.dialect,
    "operation": tasks.c.operation,
    "outcome": submissions.c.outcome,
    "adopted": tasks.c.adopted,
    "serves": func.coalesce(_SERVES, literal(value=False, type_=Boolean)),
    "succeeded": func.coalesce(_SUCCEEDED, literal(value=False, type_=Boolean)),
    "came_to_nothing": func.coalesce(_CAME_TO_NOTHING, literal(value=False, type_=Boolean)),
    "refunded": _REFUNDED,
    "cost": _COST,
}
_JOINED: Final = submissions.join(tasks, tasks.c.id == submissions.c.task_id)


def _statement(by: tuple[str, ...], chosen: Plan) -> Select[Any]:
    """Select the sums of the submissions of kept tasks, of the entries of removed ones, and of what is summed already."""
    live = _rows(_JOINED, {name: _GROUPS[name] for name in by}, _LIVE, one=True)
    parts = [live.where(within) for within in in_rest(submissions.c.sent_at, chosen)]
    of_removed = {name: ledger_entries.c[name] for name in _NAMES}
    removed = _rows(ledger_entries, {name: _group_in(ledger_entries, name) for name in by}, of_removed, one=True)
    parts += [removed.where(within) for within in in_rest(ledger_entries.c.sent_at, chosen)]
    if chosen.days or chosen.hours:
        of_sums = {name: submission_sums.c[name] for name in _NAMES}
        kept = _rows(submission_sums, {name: _group_in(submission_sums, name) for name in by}, of_sums, one=False)
        parts.append(kept.where(in_kept(SUBMISSIONS, chosen)))
    every = union_all(*parts).subquery()
    names = (*(f"by_{name}" for name in by), *_NAMES[: _NAMES.index("refunded")])
    keys = [*(every.c[name] for name in names), every.c.refunded.label("given_back")]
    sums = [cast(func.sum(every.c.number), BigInteger).label("count_of"), func.sum(every.c.cost).label("cost_of")]
    numbers = [text(str(number)) for number in range(1, len(keys) + 1)]
    return select(*keys, *sums).group_by(*numbers).order_by(*numbers)


def _rows(source: Any, groups: Mapping[str, Any], columns: Mapping[str, Any], *, one: bool) -> Select[Any]:
    """Select groups and columns by their names, and how many submissions a row stands for."""
    number = literal_column("1") if one else submission_sums.c.count
    return select(
        *(group.label(f"by_{name}") for name, group in groups.items()),
        *(columns[name].label(name) for name in _NAMES),
        number.label("number"),
    ).select_from(source)


def _group_in(table: Table, name: str) -> Any:
    if name == "day":
        return Day(table.c.since if table is submission_sums else table.c.sent_at)
    return table.c[name]


async def sums_of(connection: AsyncConnection, since: datetime, until: datetime) -> list[dict[str, Any]]:
    """Return the rows that are kept of a period: the sums of its submissions."""
    by = ("client", "family", "upstream")
    rows = await connection.execute(_statement(by, Plan(days=(), hours=(), rest=((since, until),))))
    names = (*by, *_NAMES[: _NAMES.index("cost")], "count", "cost")
    return [dict(zip(names, row, strict=True)) for row in rows]


_KEEP: Final = ("id", "task_id", "client", "family", "upstream", "external_id", *_NAMES, "sent_at")
_SOURCES: Final[dict[str, Any]] = {
    "id": submissions.c.id,
    "task_id": submissions.c.task_id,
    "client": tasks.c.client,
    "family": tasks.c.family,
    "upstream": submissions.c.upstream,
    "external_id": submissions.c.external_id,
    "sent_at": submissions.c.sent_at,
    **_LIVE,
}
_KEEP_ENTRIES = ledger_entries.insert().from_select(
    list(_KEEP),
    select(*(_SOURCES[name] for name in _KEEP))
    .select_from(_JOINED)
    .where(tasks.c.id.in_(bindparam("ids", expanding=True))),
)


async def keep_entries(connection: AsyncConnection, ids: Sequence[UUID]) -> None:
    """Keep what the ledger needs of the submissions of tasks that are about to be removed."""
    await connection.execute(_KEEP_ENTRIES, {"ids": list(ids)})


async def make_read_only(connection: AsyncConnection) -> None:
    """Make this connection read-only: a server may be using the database."""
    sqlite = connection.dialect.name == "sqlite"
    await connection.execute(text("PRAGMA query_only = ON" if sqlite else "SET TRANSACTION READ ONLY"))
