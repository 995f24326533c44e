"""SQL for usage and claims: sums of the entries that count, and the jobs that were charged and not delivered."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import BigInteger, bindparam, func, literal_column, select, text, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.money.amounts import PLACES, Amount
from service.domain.money.learned import Charge
from service.store.ledger import Day
from service.store.tables import NOT_GIVEN_BACK, claims, insert_for, money_entries

_BILLION: Final = 10**PLACES
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


def _exact(column: Any) -> tuple[Any, Any]:
    """Return a sum as whole units and billionths: the sum of large numbers overflows on SQLite."""
    raw = type_coerce(func.coalesce(column, literal_column("0")), BigInteger)
    return func.sum(raw.op("/")(literal_column(str(_BILLION)))), func.sum(raw.op("%")(literal_column(str(_BILLION))))


def _total(whole: Any, parts: Any) -> Decimal:
    return Decimal(int(whole or 0)) + Decimal(int(parts or 0)).scaleb(-PLACES)


async def sums(
    connection: AsyncConnection,
    *,
    by: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    client: str | None,
) -> list[Sum]:
    """Sum the entries that count by the time of the purchase: from ``since``, and before ``until``.

    :param by: groups; see :func:`group_column`
    :param client: only entries of this client
    """
    groups = [group_column(name).label(f"by_{number}") for number, name in enumerate(by)]
    entry = money_entries.c
    alike = [entry.unit, entry.verdict, entry.usd, entry.delivered, entry.computed]
    amounts, gross = _exact(entry.amount), _exact(entry.gross)
    numbers = [
        func.count().label("number"),
        amounts[0].label("amount_whole"),
        amounts[1].label("amount_parts"),
        gross[0].label("gross_whole"),
        gross[1].label("gross_parts"),
    ]
    statement = select(*groups, *alike, *numbers).where(entry.superseded_at.is_(None))
    if since is not None:
        statement = statement.where(entry.purchased_at >= since)
    if until is not None:
        statement = statement.where(entry.purchased_at < until)
    if client is not None:
        statement = statement.where(entry.client == client)
    places = [text(str(number)) for number in range(1, len(groups) + len(alike) + 1)]
    rows = await connection.execute(statement.group_by(*places).order_by(*places))
    return [
        Sum(
            group=tuple(str(each or "") for each in row[: len(by)]),
            unit=row.unit,
            verdict=row.verdict,
            usd=None if row.usd is None else Decimal(row.usd),
            delivered=bool(row.delivered),
            computed=bool(row.computed),
            count=row.number,
            amount=_total(row.amount_whole, row.amount_parts),
            gross=_total(row.gross_whole, row.gross_parts),
        )
        for row in rows
    ]


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
