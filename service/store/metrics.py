"""The numbers of rows that the metrics show: one statement, whose parts each read an index of what is due or open."""

import dataclasses
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Double,
    Text,
    bindparam,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    type_coerce,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.money.amounts import PLACES
from service.domain.task import ENDED, TO_SUBMIT, State
from service.store.tables import (
    CHECKED,
    DUE,
    DUE_POLL,
    DUE_SUBMIT,
    OWED,
    WAITING,
    UtcTime,
    assets,
    budget_counters,
    callbacks,
    circuits,
    claims,
    erasures,
    money_entries,
    processes,
    reservations,
    submissions,
    tasks,
    upstreams,
    webhook_endpoints,
    webhook_messages,
)

MAX_COUNTED: Final = 100_000
"""Due rows of a queue that are counted. A longer queue shows this number."""
QUEUES: Final = {
    "submissions": (tasks, DUE_SUBMIT),
    "polls": (tasks, DUE_POLL),
    "callbacks": (callbacks, DUE),
    "webhooks": (webhook_messages, DUE),
    "duplicates": (submissions, DUE),
    "results": (assets, DUE),
    "erasures": (erasures, DUE),
}
"""The table and the predicate of each queue."""


SEPARATOR: Final = "\t"
"""The character between names that are joined in one column: none of them has it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Number:
    """One number of the statement: the group that it belongs to, up to two names, and the value."""

    group: str
    first: str
    second: str
    value: float


def _part(group: str, first: Any, second: Any, value: Any) -> Any:
    return select(
        literal(group, Text).label("kind"),
        cast(first, Text).label("first"),
        cast(second, Text).label("second"),
        cast(value, Double).label("value"),
    )


def _units(column: Any) -> Any:
    """Return an amount in units: a gauge is no account, so that a float is exact enough."""
    return cast(type_coerce(column, BigInteger), Double) / 10**PLACES


def _money() -> list[Any]:
    """Return the parts about open reservations and claims. Each reads a bounded number of rows."""
    quote = reservations.c.quote
    held = (
        select(reservations.c.upstream, quote["unit"].as_string().label("unit"), quote["max"].as_string().label("most"))
        .where(CHECKED)
        .limit(MAX_COUNTED)
        .subquery()
    )
    entry = money_entries.c
    owed = (
        select(entry.upstream, entry.unit, entry.verdict, entry.amount, entry.gross, claims.c.state)
        .select_from(money_entries.outerjoin(claims, claims.c.submission_id == entry.submission_id))
        .where(OWED, or_(entry.verdict != "charged", entry.basis != "rule"))
        .limit(MAX_COUNTED)
        .subquery()
    )
    state = func.coalesce(owed.c.state, "open")
    price = case((owed.c.verdict == "probably_refunded", owed.c.gross), else_=owed.c.amount)
    kind = owed.c.verdict.concat(SEPARATOR).concat(state)
    pending = state.in_(("open", "filed"))
    return [
        _part("reserved", held.c.upstream, held.c.unit, func.sum(cast(held.c.most, Double)))
        .where(held.c.unit.is_not(None))
        .group_by(held.c.upstream, held.c.unit),
        _part("claims", owed.c.upstream, kind, func.count())
        .where(pending)
        .group_by(owed.c.upstream, owed.c.verdict, state),
        _part("owed", owed.c.upstream, owed.c.unit.concat(SEPARATOR).concat(kind), func.sum(_units(price)))
        .where(pending, owed.c.unit.is_not(None))
        .group_by(owed.c.upstream, owed.c.unit, owed.c.verdict, state),
    ]


def _epoch(moment: Any, database: str) -> Any:
    """Return a time as seconds since 1970."""
    if database == "postgresql":
        return func.extract("epoch", moment)
    return cast(moment, Double) / 1_000_000


def _statement(database: str) -> Any:
    now = bindparam("now", type_=UtcTime)
    parts = []
    for name, (table, which) in QUEUES.items():
        oldest = select(func.min(table.c.due_at)).where(which).scalar_subquery()
        due = select(literal(1)).select_from(table).where(which, table.c.due_at <= now).limit(MAX_COUNTED).subquery()
        parts.append(_part("oldest", literal(name), literal(""), _epoch(oldest, database)))
        parts.append(_part("due", literal(name), literal(""), select(func.count()).select_from(due).scalar_subquery()))
    polled = [str(each) for each in State if each not in ENDED and each not in TO_SUBMIT]
    parts += [
        _part("open", tasks.c.state, literal(""), func.count()).where(DUE_SUBMIT).group_by(tasks.c.state),
        _part("open", tasks.c.state, literal(""), func.count())
        .where(DUE_POLL, tasks.c.state.in_(polled))
        .group_by(tasks.c.state),
        _part("waiting", tasks.c.waits_for, literal(""), func.count()).where(WAITING).group_by(tasks.c.waits_for),
        _part("credit", upstreams.c.name, upstreams.c.credit_unit, upstreams.c.credit).where(
            upstreams.c.credit.is_not(None)
        ),
        _part(
            "held", budget_counters.c.budget, budget_counters.c.period, func.sum(_units(budget_counters.c.held))
        ).group_by(budget_counters.c.budget, budget_counters.c.period),
        _part(
            "spent", budget_counters.c.budget, budget_counters.c.period, func.sum(_units(budget_counters.c.spent))
        ).group_by(budget_counters.c.budget, budget_counters.c.period),
        *_money(),
        _part("circuit", circuits.c.upstream, circuits.c.dialect, _epoch(circuits.c.open_until, database)).where(
            circuits.c.open_until.is_not(None)
        ),
        # The stored flows of a worker; "" stands for all of them.
        _part(
            "worker", func.coalesce(processes.c.flows, ""), literal(""), _epoch(func.max(processes.c.seen_at), database)
        )
        .where(processes.c.role == "worker")
        .group_by(processes.c.flows),
        _part(
            "endpoints",
            case(
                (webhook_endpoints.c.disabled_at.is_not(None), webhook_endpoints.c.disabled_reason),
                else_=literal("now"),
            ),
            literal(""),
            func.count(),
        )
        .where((webhook_endpoints.c.disabled_at.is_not(None)) | (webhook_endpoints.c.failing_since.is_not(None)))
        .group_by(webhook_endpoints.c.disabled_at.is_not(None), webhook_endpoints.c.disabled_reason),
    ]
    return union_all(*parts)


_STATEMENTS = {name: _statement(name) for name in ("sqlite", "postgresql")}


async def read_numbers(connection: AsyncConnection, *, now: datetime) -> list[Number]:
    """Read every number; a part without a value is left out."""
    rows = await connection.execute(_STATEMENTS[connection.dialect.name], {"now": now})
    return [
        Number(row.kind, row.first or "", row.second or "", float(row.value)) for row in rows if row.value is not None
    ]
