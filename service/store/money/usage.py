"""SQL for usage and claims: sums of the entries that count, and the jobs that were charged and not delivered."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Numeric,
    Select,
    Table,
    bindparam,
    cast,
    func,
    literal,
    literal_column,
    select,
    text,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.money.amounts import PLACES, Amount
from service.domain.money.learned import Charge
from service.store.ledger import Day
from service.store.money import label_sums
from service.store.money.usage_columns import ALIKE, NUMBERS, OF_ENTRIES
from service.store.sums import Plan, in_kept, in_rest, plan
from service.store.tables import CURRENT, NOT_GIVEN_BACK, claims, insert_for, money_entries, money_sums
from service.store.tables import label_sums as label_sums_table
from service.store.triggers import LABELS, MONEY

_GROUPS: Final[dict[str, Any]] = {
    "client": money_entries.c.client,
    "family": money_entries.c.family,
    "operation": money_entries.c.operation,
    "model": func.coalesce(money_entries.c.model, ""),
    "upstream": money_entries.c.upstream,
    "day": Day(money_entries.c.purchased_at),
}
GROUPS: Final = (*_GROUPS, "label")
"""The fields that usage can be grouped by; ``label`` stands for ``label:NAME``."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """The entries of one group with the same unit, verdict and rate."""

    group: tuple[str, ...]
    unit: str | None
    verdict: str
    usd: Decimal | None
    """The worth of one unit in US dollars."""
    delivered: bool
    computed: bool
    count: int
    amount: Decimal
    gross: Decimal


def group_column(name: str) -> Any:
    """Return the column of a group: one of :data:`GROUPS`, or ``label:NAME``."""
    kind, _, label = name.partition(":")
    if kind == "label":
        return func.coalesce(money_entries.c.labels[label].as_string(), "")
    return _GROUPS[name]


def _group_of(table: Table, name: str) -> Any:
    """Return the column of a group in a table of kept sums."""
    return Day(table.c.since) if name == "day" else table.c[name]


def _total(whole: Any, parts: Any) -> Decimal:
    return Decimal(int(whole or 0)) + Decimal(int(parts or 0)).scaleb(-PLACES)


_KEPT_GROUPS: Final = ("client", "family", "operation", "model", "upstream")


def _statement(by: Sequence[str], chosen: Plan, client: str | None, kept: Sequence[Select[Any]] = ()) -> Select[Any]:
    """Select the sums of the entries of the rest of a plan, and of what is kept.

    :param kept: selects kept sums, by the columns of :func:`_kept_rows`
    """
    rows = select(
        *(group_column(name).label(f"by_{number}") for number, name in enumerate(by)),
        *(money_entries.c[name] for name in ALIKE),
        literal_column("1").label("count"),
        *(column.label(name) for name, column in OF_ENTRIES.items()),
    ).where(CURRENT)
    if client is not None:
        rows = rows.where(money_entries.c.client == client)
    every = union_all(
        *(rows.where(within) for within in in_rest(money_entries.c.purchased_at, chosen)), *kept
    ).subquery()
    keys = [*(every.c[f"by_{number}"] for number in range(len(by))), *(every.c[name] for name in ALIKE)]
    numbers = [
        cast(func.sum(every.c[name]), Numeric if name in NUMBERS else BigInteger).label(name)
        for name in ("count", *NUMBERS)
    ]
    places = [text(str(number)) for number in range(1, len(keys) + 1)]
    return select(*keys, *numbers).group_by(*places).order_by(*places)


def _kept_rows(table: Table, groups: Sequence[Any], client: str | None) -> Select[Any]:
    """Select kept sums by some groups."""
    columns = (*ALIKE, "count", *NUMBERS)
    rows = select(
        *(group.label(f"by_{number}") for number, group in enumerate(groups)), *(table.c[name] for name in columns)
    )
    return rows if client is None else rows.where(table.c.client == client)


async def _statement_of(
    connection: AsyncConnection, by: Sequence[str], since: datetime | None, until: datetime | None, client: str | None
) -> Select[Any]:
    """Return the statement that sums a span by some groups, with what is kept of them."""
    label = next((name for name in by if name.startswith("label:")), None)
    if label is None:
        chosen = await plan(connection, MONEY, since, until)
        kept = [
            _kept_rows(money_sums, [_group_of(money_sums, name) for name in by], client).where(in_kept(MONEY, chosen))
        ]
        return _statement(by, chosen, client, kept if chosen.days or chosen.hours else ())
    if not label_sums.GROUPS.issuperset(name for name in by if name != label):
        return _statement(by, Plan(days=(), hours=(), rest=((since, until),)), client)
    of_label = await label_sums.plan(connection, label.partition(":")[2], since, until)
    return _statement(by, of_label.chosen, client, _kept_of(label, by, of_label, client))


def _kept_of(label: str, by: Sequence[str], of_label: label_sums.LabelPlan, client: str | None) -> list[Select[Any]]:
    """Select the kept sums by a label, and of the periods in which no entry has it."""
    table, parts = label_sums_table, []
    if of_label.chosen.days or of_label.chosen.hours:
        groups = [table.c.value if name == label else _group_of(table, name) for name in by]
        of_it = (table.c.label == label.partition(":")[2], table.c.value.is_not(None))
        parts.append(_kept_rows(table, groups, client).where(in_kept(LABELS, of_label.chosen), *of_it))
    if of_label.without.days or of_label.without.hours:
        groups = [literal("") if name == label else _group_of(money_sums, name) for name in by]
        parts.append(_kept_rows(money_sums, groups, client).where(in_kept(MONEY, of_label.without)))
    return parts


async def sums(
    connection: AsyncConnection,
    *,
    by: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    client: str | None,
) -> list[Sum]:
    """Sum the entries that count by the time of the purchase: from ``since``, and before ``until``.

    :param by: groups; see :func:`group_column`. Sums are kept for all of them; for one label, with a client or a day; entries of other
        combinations are read one by one
    :param client: only entries of this client
    """
    return [
        Sum(
            group=tuple(str(each or "") for each in row[: len(by)]),
            unit=row.unit,
            verdict=row.verdict,
            usd=None if row.usd is None else Decimal(row.usd),
            delivered=bool(row.delivered),
            computed=bool(row.computed),
            count=row[len(by) + len(ALIKE)],
            amount=_total(row.amount_whole, row.amount_parts),
            gross=_total(row.gross_whole, row.gross_parts),
        )
        for row in await connection.execute(await _statement_of(connection, by, since, until, client))
    ]


async def sums_of(connection: AsyncConnection, since: datetime, until: datetime) -> list[dict[str, Any]]:
    """Return the rows that are kept of a period: the sums of its entries."""
    chosen = Plan(days=(), hours=(), rest=((since, until),))
    names = (*_KEPT_GROUPS, *ALIKE, "count", *NUMBERS)
    rows = await connection.execute(_statement(_KEPT_GROUPS, chosen, None))
    return [{name: _whole(value) for name, value in zip(names, row, strict=True)} for row in rows]


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, Decimal) else value


_CHARGES = (
    select(
        money_entries.c.upstream,
        money_entries.c.family,
        money_entries.c.operation,
        money_entries.c.model,
        money_entries.c.amount,
        money_entries.c.unit,
    )
    .where(
        money_entries.c.superseded_at.is_(None),
        money_entries.c.purchased_at > bindparam("since"),
        money_entries.c.verdict == "charged",
        money_entries.c.delivered,
        ~money_entries.c.computed,
        money_entries.c.amount > Decimal(0),
        money_entries.c.unit.is_not(None),
    )
    .order_by(money_entries.c.purchased_at.desc())
    .limit(bindparam("most"))
)


async def recent_charges(connection: AsyncConnection, *, since: datetime, most: int) -> list[Charge]:
    """Read the last charges of delivered jobs that providers stated, newest first."""
    return [
        Charge((row.upstream, row.family, row.operation, row.model), Amount(row.amount, row.unit))
        for row in await connection.execute(_CHARGES, {"since": since, "most": most})
    ]


_CLAIMED = (
    select(money_entries, claims.c.state.label("claim_state"), claims.c.note, claims.c.marked_at)
    .select_from(money_entries.outerjoin(claims, claims.c.submission_id == money_entries.c.submission_id))
    .where(NOT_GIVEN_BACK, money_entries.c.verdict != "refunded")
)


async def undelivered(connection: AsyncConnection, *, upstream: str | None, before: int | None, most: int) -> list[Any]:
    """Read the entries of jobs without a result, newest first.

    :param before: only entries with a lower number: the cursor
    """
    statement = _CLAIMED.order_by(money_entries.c.id.desc()).limit(most)
    if upstream is not None:
        statement = statement.where(money_entries.c.upstream == upstream)
    if before is not None:
        statement = statement.where(money_entries.c.id < before)
    return list((await connection.execute(statement)).all())


async def find_claim(connection: AsyncConnection, submission_id: UUID) -> Any | None:
    """Read the entry of one job without a result."""
    return (await connection.execute(_CLAIMED.where(money_entries.c.submission_id == submission_id))).first()


_MARK = insert_for(
    lambda insert: insert(claims).on_conflict_do_update(
        index_elements=["submission_id"],
        set_={name: bindparam(f"new_{name}") for name in ("state", "note", "marked_at")},
    )
)


async def mark(connection: AsyncConnection, submission_id: UUID, *, state: str, note: str | None, at: datetime) -> None:
    """Write what was done about a claim."""
    row = {"submission_id": submission_id, "state": state, "note": note, "marked_at": at}
    await connection.execute(
        _MARK[connection.dialect.name], {**row, "new_state": state, "new_note": note, "new_marked_at": at}
    )
