"""SQL for the ledger: submissions, their outcomes and costs, and what is kept of those of removed tasks."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Boolean, Select, Text, and_, bindparam, case, func, or_, select, text, union_all
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import literal
from sqlalchemy.sql.functions import FunctionElement

from service.domain.task import WITHOUT_RESULT, State
from service.store.tables import ledger_entries, submissions, tasks


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
    rows = await connection.execute(_statement(tuple(by), since, until))
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
    "sent_at",
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
    "sent_at": submissions.c.sent_at,
}
_JOINED: Final = submissions.join(tasks, tasks.c.id == submissions.c.task_id)


def _statement(by: tuple[str, ...], since: datetime | None, until: datetime | None) -> Select[Any]:
    """Select the sums of the submissions of kept tasks, and of the entries of removed ones."""
    live = select(
        *(_GROUPS[name].label(f"by_{name}") for name in by), *(_LIVE[name].label(name) for name in _NAMES)
    ).select_from(_JOINED)
    removed = select(
        *(_group_of_removed(name).label(f"by_{name}") for name in by), *(ledger_entries.c[name] for name in _NAMES)
    )
    if since is not None:
        live, removed = live.where(submissions.c.sent_at >= since), removed.where(ledger_entries.c.sent_at >= since)
    if until is not None:
        live, removed = live.where(submissions.c.sent_at < until), removed.where(ledger_entries.c.sent_at < until)
    both = union_all(live, removed).subquery()
    names = (*(f"by_{name}" for name in by), *_NAMES[: _NAMES.index("refunded")])
    keys = [*(both.c[name] for name in names), both.c.refunded.label("given_back")]
    sums = [func.count().label("count_of"), func.sum(both.c.cost).label("cost_of")]
    numbers = [text(str(number)) for number in range(1, len(keys) + 1)]
    return select(*keys, *sums).group_by(*numbers).order_by(*numbers)


def _group_of_removed(name: str) -> Any:
    return Day(ledger_entries.c.sent_at) if name == "day" else ledger_entries.c[name]


_KEEP: Final = ("id", "task_id", "client", "family", "upstream", "external_id", *_NAMES)
_SOURCES: Final[dict[str, Any]] = {
    "id": submissions.c.id,
    "task_id": submissions.c.task_id,
    "client": tasks.c.client,
    "family": tasks.c.family,
    "upstream": submissions.c.upstream,
    "external_id": submissions.c.external_id,
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
