"""The ledger: what was paid, perhaps paid, paid twice and refunded, by day, upstream, family or client."""

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final

from starlette.responses import Response

from service.domain.api_key import Scope
from service.flows.money.ledger import Account, summarize
from service.providers.registry import FAMILIES
from service.store import ledger as ledger_store
from service.store import overview
from service.web.dashboard import words
from service.web.dashboard.paid import Tone
from service.web.dashboard.visit import Visit
from service.web.problems import Problem
from service.web.spreadsheet import line

PERIODS: Final[Mapping[str, tuple[str, int]]] = {
    "7d": ("Last 7 days", 7),
    "14d": ("Last 14 days", 14),
    "30d": ("Last 30 days", 30),
    "90d": ("Last 90 days", 90),
}
GROUPS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "upstream": ("upstream, family", ("upstream", "family")),
    "day": ("day", ("day",)),
    "client": ("client", ("client",)),
}
MAX_TWICE: Final = 20
CHART: Final = (900, 240)
_BASE, _TOP, _LEFT = 200, 20, 44
KINDS: Final[tuple[tuple[str, Tone, bool], ...]] = (
    ("paid", "work", False),
    ("perhaps_paid", "doubt", False),
    ("refunded", "calm", False),
    ("perhaps_refunded", "calm", False),
    ("unpaid", "calm", True),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Bar:
    """A part of a day's bar."""

    x: float
    y: float
    width: float
    height: float
    tone: Tone
    soft: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Submissions by day."""

    bars: tuple[Bar, ...]
    days: tuple[tuple[float, str], ...]
    """Place and words of each day."""
    lines: tuple[tuple[float, str], ...]
    """Place and words of each line."""
    label: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """An account as the page shows it."""

    group: tuple[str, ...]
    submissions: int
    paid: int
    perhaps: int
    refunded: int
    perhaps_refunded: int
    unpaid: int
    cost: str


def sums_of(group: tuple[str, ...], account: Account) -> Sums:
    """Return an account as the page shows it. Costs of different units are never added."""
    cost = ", ".join(
        f"{words.number(amount)}{words.NARROW}{unit}" for unit, amount in sorted(account.cost.items()) if amount
    )
    return Sums(
        group=group,
        submissions=account.submissions,
        paid=account.paid,
        perhaps=account.perhaps_paid,
        refunded=account.refunded,
        perhaps_refunded=account.perhaps_refunded,
        unpaid=account.unpaid,
        cost=cost,
    )


async def ledger_page(visit: Visit) -> Response:
    """Return the page."""
    period, by, since = _asked(visit)
    columns = GROUPS[by][1]
    async with visit.context.database.reading() as connection:
        # One statement for both tables: it reads every submission of the period.
        found = await ledger_store.entries(connection, by=tuple(dict.fromkeys((*columns, "day"))), since=since)
        twice = await overview.with_duplicate_jobs(connection, None, most=MAX_TWICE)
    groups, total = summarize([dataclasses.replace(each, group=each.group[: len(columns)]) for each in found])
    days, _ = summarize([dataclasses.replace(each, group=each.group[-1:]) for each in found])
    return visit.page(
        "ledger.html",
        title="Ledger",
        period=period,
        periods={name: title for name, (title, _) in PERIODS.items()},
        by=by,
        groups={name: title for name, (title, _) in GROUPS.items()},
        columns=columns,
        rows=[sums_of(key, account) for key, account in groups.items()],
        total=sums_of((), total),
        chart=chart_of({key[0]: account for key, account in days.items()}, since=since, now=visit.now),
        since=since,
        twice=[task for task in twice if task.created_at >= since],
        families={name: family.title for name, family in FAMILIES.items()},
    )


async def ledger_csv(visit: Visit) -> Response:
    """Return the ledger of a period as CSV."""
    _, by, since = _asked(visit)
    async with visit.context.database.reading() as connection:
        groups, _ = summarize(await ledger_store.entries(connection, by=GROUPS[by][1], since=since))
    heads = (*GROUPS[by][1], "submissions", "paid", "perhaps_paid", "refunded", "perhaps_refunded", "unpaid", "cost")
    rows = [sums_of(key, account) for key, account in groups.items()]
    cells = [
        (
            *row.group,
            *map(str, (row.submissions, row.paid, row.perhaps, row.refunded, row.perhaps_refunded, row.unpaid)),
            row.cost.replace(words.NARROW, " "),
        )
        for row in rows
    ]
    text = "".join(map(line, [heads, *cells]))
    headers = {"Content-Disposition": 'attachment; filename="ledger.csv"'}
    return Response(text, headers=headers, media_type="text/csv; charset=utf-8")


def _asked(visit: Visit) -> tuple[str, str, dt.datetime]:
    """Return the period, the grouping, and the first moment of the period.

    :raises Problem: 403 for anybody but an operator: the ledger is of all clients
    """
    if not visit.is_operator:
        raise Problem(403, "forbidden", f"a key with the scope {Scope.ADMIN} is required: the ledger is of all clients")
    period = visit.query("period", "14d")
    by = visit.query("by", "upstream")
    period, by = period if period in PERIODS else "14d", by if by in GROUPS else "upstream"
    first = visit.now.date() - dt.timedelta(days=PERIODS[period][1] - 1)
    return period, by, dt.datetime.combine(first, dt.time(), dt.UTC)


def chart_of(days: Mapping[str, Account], *, since: dt.datetime, now: dt.datetime) -> Chart:
    """Return the chart of submissions by day."""
    dates = [since.date() + dt.timedelta(days=number) for number in range((now.date() - since.date()).days + 1)]
    accounts = [days.get(date.isoformat(), Account()) for date in dates]
    highest = _round_up(max((each.submissions for each in accounts), default=0))
    slot = (CHART[0] - _LEFT - 6) / max(len(dates), 1)
    width = min(slot * 0.64, 48)
    bars: list[Bar] = []
    for index, account in enumerate(accounts):
        x = _LEFT + slot * index + (slot - width) / 2
        bars += _bars(account, x, width, (_BASE - _TOP) / highest)
    every = -(-len(dates) // 15)
    marks = tuple(
        (_LEFT + slot * (index + 0.5), f"{date:%m-%d}") for index, date in enumerate(dates) if index % every == 0
    )
    lines = tuple((_BASE - (_BASE - _TOP) * part / 3, words.count(round(highest * part / 3))) for part in range(4))
    return Chart(bars=tuple(bars), days=marks, lines=lines, label=_label(dates, accounts))


def _bars(account: Account, x: float, width: float, scale: float) -> list[Bar]:
    y, found = float(_BASE), []
    for kind, tone, soft in KINDS:
        number = getattr(account, kind)
        if number:
            height = max(number * scale, 3.0)  # the smallest sliver that can be seen
            y -= height
            found.append(Bar(round(x, 1), round(y, 1), round(width, 1), round(height, 1), tone, soft))
    return found


def _label(dates: Sequence[dt.date], accounts: Sequence[Account]) -> str:
    paid = [each.paid for each in accounts] or [0]
    doubt = sum(each.perhaps_paid for each in accounts)
    return (
        f"Submissions by day, {dates[0]} to {dates[-1]}: between {min(paid)} and {max(paid)} paid each day, {doubt} perhaps paid "
        "or paid twice. The table below has the same numbers."
    )


def _round_up(value: int) -> int:
    """Return the next number of the form 3, 6, 15, 30, 60, 150 …, which has round thirds."""
    step = 1
    while True:
        for factor in (3, 6, 15):
            if value <= factor * step:
                return factor * step
        step *= 10
