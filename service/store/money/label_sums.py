"""SQL for the kept sums of money by a label: how they are made, which of them serve a question, and what erasure removes.

A label that has many values in a period, such as the id of a person, is not kept there: its entries are read one by one.
"""

import dataclasses
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, case, delete, func, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.money import usage_columns as columns
from service.store.sums import DAY, HOUR, Plan, part_of, plan_of, valid_periods
from service.store.tables import CURRENT, UtcTime, label_sums, money_entries
from service.store.triggers import LABELS, MONEY

MAX_VALUES: Final = 500
"""Values of a label in one period above which its sums are not kept."""
MAX_LABELS: Final = 50
"""Labels in one period above which no sums by label are kept of it."""
GROUPS: Final = frozenset({"client", "day"})
"""The groups of a kept sum by a label, beside the label."""


@dataclasses.dataclass(frozen=True, slots=True)
class LabelPlan:
    """How a span is summed by a label."""

    chosen: Plan
    without: Plan
    """The kept periods in which no entry has the label: all of their sums count as those without it."""


async def plan(connection: AsyncConnection, label: str, since: datetime | None, until: datetime | None) -> LabelPlan:
    """Read how a span is summed by a label now."""
    valid = await valid_periods(connection, LABELS, since, until)
    rows = (await connection.execute(_KNOWN, {"of_label": label})).all()
    known = {(row.since, row.hours): row.number == row.values for row in rows}
    found, without = [], []
    whole = set(await valid_periods(connection, MONEY, since, until))
    for period in valid:
        is_kept = known.get((period[0], (period[1] - period[0]) // HOUR))
        if is_kept is None and period in whole:
            without.append(period)
        if is_kept or (is_kept is None and period in whole):
            found.append(period)
    chosen = plan_of(found, since, until)
    return LabelPlan(chosen, part_of(chosen, without))


_KNOWN = (
    select(
        label_sums.c.since,
        label_sums.c.hours,
        func.count().label("number"),
        func.count(label_sums.c.value).label("values"),
    )
    .where(or_(label_sums.c.label == bindparam("of_label"), label_sums.c.label == ""))
    .group_by(label_sums.c.since, label_sums.c.hours)
)


# ── keeping ────────────────────────────────────────────────────────────────────────────────────────────────────


def _pairs(dialect: str) -> Any:
    """Return each label of an entry as a row with its name and value."""
    function = func.json_each if dialect == "sqlite" else func.json_each_text
    return function(money_entries.c.labels).table_valued("key", "value").alias("pairs")


async def sums_of(connection: AsyncConnection, since: datetime, until: datetime) -> list[dict[str, Any]]:
    """Return the rows that are kept of a period: the sums of its entries by each label."""
    pairs = _pairs(connection.dialect.name)
    within = (CURRENT, money_entries.c.purchased_at >= since, money_entries.c.purchased_at < until)
    joined = money_entries.join(pairs, true())
    counted = select(pairs.c.key, func.count(pairs.c.value.distinct()).label("number")).select_from(joined)
    counted = counted.where(*within).group_by(pairs.c.key)
    numbers = {row.key: row.number for row in await connection.execute(counted)}
    if len(numbers) > MAX_LABELS:
        return [_too_many("")]
    few = sorted(label for label, number in numbers.items() if number <= MAX_VALUES)
    kept = [_too_many(label) for label in sorted(numbers.keys() - set(few))]
    if not few:
        return kept
    keys = (money_entries.c.client, *(money_entries.c[name] for name in columns.ALIKE))
    sums = columns.sums_of_entries()
    all_of = select(*keys, *sums).where(*within).group_by(*keys)
    whole = {tuple(row[: len(keys)]): _numbers(row, len(keys)) for row in await connection.execute(all_of)}
    of_pairs = select(pairs.c.key, pairs.c.value, *keys, *sums).select_from(joined)
    of_pairs = of_pairs.where(*within, pairs.c.key.in_(few)).group_by(pairs.c.key, pairs.c.value, *keys)
    rows = (await connection.execute(of_pairs)).all()
    left = {label: dict(whole) for label in few}
    for row in rows:
        group, numbers_of = tuple(row[2 : 2 + len(keys)]), _numbers(row, 2 + len(keys))
        kept.append(_row(row[0], row[1], group, numbers_of))
        rest = left[row[0]][group]
        left[row[0]][group] = tuple(all_ - part for all_, part in zip(rest, numbers_of, strict=True))
    kept += [
        _row(label, "", group, rest) for label, groups in left.items() for group, rest in groups.items() if rest[0]
    ]
    return kept


def _numbers(row: Any, first: int) -> tuple[int, ...]:
    return tuple(int(each or 0) for each in row[first:])


def _row(label: str, value: str, group: Sequence[Any], numbers: Sequence[int]) -> dict[str, Any]:
    names = ("label", "value", "client", *columns.ALIKE, "count", *columns.NUMBERS)
    return dict(zip(names, (label, value, *group, *numbers), strict=True))


def _too_many(label: str) -> dict[str, Any]:
    row = _row(label, "", ("", None, "", None, False, False), [0] * (1 + len(columns.NUMBERS)))
    return {**row, "value": None}


# ── erasure ────────────────────────────────────────────────────────────────────────────────────────────────────

_LABELS_OF = select(money_entries.c.labels, money_entries.c.purchased_at).where(
    money_entries.c.submission_id.in_(bindparam("ids", expanding=True)), CURRENT
)
_REMOVE = delete(label_sums).where(
    label_sums.c.label == bindparam("of_label"),
    label_sums.c.value == bindparam("of_value"),
    label_sums.c.since
    > case(
        (label_sums.c.hours == 1, bindparam("hour_before", type_=UtcTime)), else_=bindparam("day_before", type_=UtcTime)
    ),
    label_sums.c.since <= bindparam("at", type_=UtcTime),
)


async def remove_of(connection: AsyncConnection, submissions: Collection[UUID]) -> None:
    """Remove the kept sums of the labels of some submissions, before their labels are removed.

    The removal of the labels is a change of the periods, which are summed again.
    """
    rows = await connection.execute(_LABELS_OF, {"ids": list(submissions)})
    given = [
        {
            "of_label": label,
            "of_value": value,
            "hour_before": row.purchased_at - HOUR,
            "day_before": row.purchased_at - DAY,
            "at": row.purchased_at,
        }
        for row in rows
        for label, value in row.labels.items()
    ]
    if given:  # of the periods that contain the purchase
        await connection.execute(_REMOVE, given)
