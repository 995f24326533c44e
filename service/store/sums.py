"""SQL for sums that are kept for hours and days that have ended: which of them hold, and how they are made.

A period holds while it is kept and no change of its rows is noted. Everything else is summed from its rows. So a sum is always
that of the rows, and what is kept only makes it quick. Triggers note the changes; see :mod:`service.store.triggers`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from sqlalchemy import Table, and_, bindparam, delete, exists, false, func, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.tables import (
    UtcTime,
    insert_for,
    label_sums,
    ledger_entries,
    money_entries,
    money_sums,
    submission_sums,
    submissions,
    sum_changes,
    sum_periods,
    sum_watches,
)
from service.store.triggers import LABELS, MONEY, SUBMISSIONS, SUM_LOCK

SUBJECTS: Final = (SUBMISSIONS, MONEY, LABELS)
TABLES: Final[Mapping[str, Table]] = {SUBMISSIONS: submission_sums, MONEY: money_sums, LABELS: label_sums}
"""The kept sums of each subject."""
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MAX_SPANS: Final = 100
"""Spans of rows in one statement. With more of them, after many changes at once, everything is summed from its rows."""

Span: TypeAlias = tuple[datetime | None, datetime | None]
"""From a time, and before another; None: without a bound."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How a span is summed: from kept periods, and from the rows of the rest."""

    days: tuple[tuple[datetime, datetime], ...]
    """Runs of kept days."""
    hours: tuple[tuple[datetime, datetime], ...]
    """Runs of kept hours."""
    rest: tuple[Span, ...]


def plan_of(valid: Sequence[tuple[datetime, datetime]], since: datetime | None, until: datetime | None) -> Plan:
    """Return how a span is summed.

    :param valid: the kept periods within it, each an hour or a day
    """
    days = sorted(period for period in valid if period[1] - period[0] == DAY)
    within = {period[0] for period in days}
    hours = sorted(
        period for period in valid if period[1] - period[0] == HOUR and _day_of(period[0]) not in within
    )  # fmt: skip
    runs_of_days, runs_of_hours = _runs(days), _runs(hours)
    rest: list[Span] = []
    at = since
    for first, end in sorted([*runs_of_days, *runs_of_hours]):
        if at is None or at < first:
            rest.append((at, first))
        at = end
    if until is None or at is None or at < until:
        rest.append((at, until))
    if len(rest) > MAX_SPANS or not (rest or days or hours):  # an empty span has no part, and a statement needs one
        return Plan(days=(), hours=(), rest=((since, until),))
    return Plan(days=runs_of_days, hours=runs_of_hours, rest=tuple(rest))


def part_of(chosen: Plan, periods: Sequence[tuple[datetime, datetime]]) -> Plan:
    """Return the part of a plan that reads the kept sums of some periods."""
    used = {
        hours: [
            period
            for period in periods
            if period[1] - period[0] == hours and any(first <= period[0] < end for first, end in runs)
        ]
        for hours, runs in ((DAY, chosen.days), (HOUR, chosen.hours))
    }
    return Plan(days=_runs(sorted(used[DAY])), hours=_runs(sorted(used[HOUR])), rest=())


def _day_of(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _runs(periods: Sequence[tuple[datetime, datetime]]) -> tuple[tuple[datetime, datetime], ...]:
    """Join periods that follow one another."""
    found: list[tuple[datetime, datetime]] = []
    for first, end in periods:
        if found and found[-1][1] == first:
            found[-1] = (found[-1][0], end)
        else:
            found.append((first, end))
    return tuple(found)


_CHANGED = exists().where(
    sum_changes.c.subject == sum_periods.c.subject,
    sum_changes.c.hour >= sum_periods.c.since,
    sum_changes.c.hour < sum_periods.c.until,
)
_PERIODS = select(sum_periods.c.since, sum_periods.c.until).where(
    sum_periods.c.subject == bindparam("of_subject"), sum_periods.c.kept, ~_CHANGED
)


async def plan(connection: AsyncConnection, subject: str, since: datetime | None, until: datetime | None) -> Plan:
    """Read how a span is summed now."""
    return plan_of(await valid_periods(connection, subject, since, until), since, until)


async def valid_periods(
    connection: AsyncConnection, subject: str, since: datetime | None, until: datetime | None
) -> list[tuple[datetime, datetime]]:
    """Read the kept periods within a span that hold."""
    statement = _PERIODS
    if since is not None:
        statement = statement.where(sum_periods.c.since >= since)
    if until is not None:
        statement = statement.where(sum_periods.c.until <= until)
    rows = await connection.execute(statement, {"of_subject": subject})
    return [(row.since, row.until) for row in rows]


def in_kept(subject: str, chosen: Plan) -> Any:
    """Return the condition for the kept sums of a plan."""
    sums = TABLES[subject].c
    parts = [
        and_(sums.since >= first, sums.since < end, sums.hours == hours)
        for hours, runs in ((24, chosen.days), (1, chosen.hours))
        for first, end in runs
    ]
    return or_(false(), *parts)


def in_rest(moment: Any, chosen: Plan) -> list[Any]:
    """Return the conditions for the rows of a plan that are summed themselves, one for each span: an index serves each."""
    return [
        and_(True, *([moment >= since] if since else []), *([moment < until] if until else []))
        for since, until in chosen.rest
    ]


# ── keeping ────────────────────────────────────────────────────────────────────────────────────────────────────

_LOCK = text("SELECT pg_advisory_xact_lock(:number)")
_WATCH = insert_for(
    lambda insert: insert(sum_watches).on_conflict_do_update(
        index_elements=["subject"],
        set_={"until": bindparam("later", type_=UtcTime)},
        where=sum_watches.c.until < bindparam("later", type_=UtcTime),
    )
)
_WATCHED = select(sum_watches.c.until).where(sum_watches.c.subject == bindparam("of_subject"))
_ALL_PERIODS = select(sum_periods.c.since, sum_periods.c.until, (sum_periods.c.kept & ~_CHANGED).label("valid")).where(
    sum_periods.c.subject == bindparam("of_subject")
)
_FIRST_PURCHASE: Final = [select(func.min(money_entries.c.purchased_at)).where(text("superseded_at IS NULL"))]
_FIRST: Final[Mapping[str, Any]] = {
    SUBMISSIONS: [select(func.min(submissions.c.sent_at)), select(func.min(ledger_entries.c.sent_at))],
    MONEY: _FIRST_PURCHASE,
    LABELS: _FIRST_PURCHASE,
}


async def watch(connection: AsyncConnection, until: datetime) -> None:
    """Write the time before which changes of rows are noted from now on. The transaction contains nothing else.

    On PostgreSQL it waits for the writers that may not have seen an earlier watch.
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(_LOCK, {"number": SUM_LOCK})
    for subject in SUBJECTS:
        row = {"subject": subject, "until": until, "later": until}
        await connection.execute(_WATCH[connection.dialect.name], row)


async def watched_until(connection: AsyncConnection, subject: str) -> datetime | None:
    """Return the time before which changes are noted."""
    found: datetime | None = await connection.scalar(_WATCHED, {"of_subject": subject})
    return found


async def due(
    connection: AsyncConnection, subject: str, *, days_until: datetime, oldest: datetime
) -> list[tuple[datetime, datetime]]:
    """Return the periods that are to be summed, newest first.

    :param days_until: days that end by then are kept as days, and what comes later as hours
    :param oldest: nothing before is kept
    """
    until = await watched_until(connection, subject)
    firsts = [await connection.scalar(statement) for statement in _FIRST[subject]]
    begins = [each for each in firsts if each is not None]
    if until is None or not begins:
        return []
    rows = await connection.execute(_ALL_PERIODS, {"of_subject": subject})
    valid = {(row.since, row.until) for row in rows if row.valid}
    days_until = min(days_until, _day_of(until))
    at = max(_day_of(min(begins)), oldest)
    wanted = []
    while at < until:
        end = at + (DAY if at < days_until else HOUR)
        wanted.append((at, end))
        at = end
    return [period for period in reversed(wanted) if period not in valid]


_FORGET_CHANGES = delete(sum_changes).where(
    sum_changes.c.subject == bindparam("of_subject"),
    sum_changes.c.hour >= bindparam("first", type_=UtcTime),
    sum_changes.c.hour < bindparam("end", type_=UtcTime),
)
# Their changes are forgotten, too. They are summed again when they are wanted.
_KEEP_NONE_BESIDE = (
    update(sum_periods)
    .where(
        sum_periods.c.subject == bindparam("of_subject"),
        sum_periods.c.since < bindparam("end", type_=UtcTime),
        sum_periods.c.until > bindparam("first", type_=UtcTime),
    )
    .values(kept=False)
)
_BEGIN = insert_for(
    lambda insert: (
        insert(sum_periods)
        .on_conflict_do_update(
            index_elements=["subject", "since", "until"],
            set_={"version": sum_periods.c.version + 1, "kept": False},
        )
        .returning(sum_periods.c.version)
    )
)
_FINISH = (
    update(sum_periods)
    .where(
        sum_periods.c.subject == bindparam("of_subject"),
        sum_periods.c.since == bindparam("first", type_=UtcTime),
        sum_periods.c.until == bindparam("end", type_=UtcTime),
        sum_periods.c.version == bindparam("begun"),
    )
    .values(kept=True)
)


_DROP = delete(sum_periods).where(
    sum_periods.c.subject == bindparam("of_subject"),
    sum_periods.c.since == bindparam("first", type_=UtcTime),
    sum_periods.c.until == bindparam("end", type_=UtcTime),
)


async def begin(connection: AsyncConnection, subject: str, period: tuple[datetime, datetime]) -> int:
    """Begin to sum a period, and return its version. Delete the changes noted so far: the rows already contain them."""
    first, end = period
    given = {"of_subject": subject, "first": first, "end": end}
    await connection.execute(_FORGET_CHANGES, given)
    await connection.execute(_KEEP_NONE_BESIDE, given)
    row = {"subject": subject, "since": first, "until": end, "version": 1, "kept": False}
    version: int = (await connection.execute(_BEGIN[connection.dialect.name], row)).scalar_one()
    return version


async def keep(
    connection: AsyncConnection,
    subject: str,
    period: tuple[datetime, datetime],
    version: int,
    rows: Sequence[Mapping[str, Any]],
) -> bool:
    """Keep the sums of a period; return False where it was begun again meanwhile.

    :param rows: read after the period was begun
    """
    first, end = period
    given = {"of_subject": subject, "first": first, "end": end, "begun": version}
    if (await connection.execute(_FINISH, given)).rowcount == 0:
        return False
    sums, hours = TABLES[subject], (end - first) // HOUR
    await connection.execute(delete(sums).where(sums.c.hours == hours, sums.c.since == first))
    if rows:
        await connection.execute(sums.insert(), [{**row, "since": first, "hours": hours} for row in rows])
    return True


async def drop(connection: AsyncConnection, *, hours_before: datetime, days_before: datetime) -> None:
    """Remove the hours whose days are kept as days, and everything before another time."""
    for subject, sums in TABLES.items():
        of_hours, of_days = and_(sums.c.hours == 1, sums.c.since < hours_before), sums.c.since < days_before
        await connection.execute(delete(sums).where(or_(of_hours, of_days)))
        await connection.execute(_FORGET_CHANGES, {"of_subject": subject, "first": _EPOCH, "end": days_before})
        old = _ALL_PERIODS.where(sum_periods.c.until <= hours_before)
        for row in (await connection.execute(old, {"of_subject": subject})).all():
            if row.until - row.since == HOUR or row.since < days_before:
                await connection.execute(_DROP, {"of_subject": subject, "first": row.since, "end": row.until})


def hour_of(moment: datetime) -> datetime:
    """Return the beginning of an hour."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def day_of(moment: datetime) -> datetime:
    """Return the beginning of a day."""
    return _day_of(moment.astimezone(UTC))
