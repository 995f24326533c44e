"""Money: what was spent, by client, family, model, upstream, label or day, with a chart for each unit."""

import dataclasses
import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from starlette.responses import Response

from service.domain.money.amounts import plain
from service.flows.money.usage import rows_of
from service.store.money import usage
from service.store.money.usage import Sum
from service.web.dashboard import words
from service.web.dashboard.ledger import CHART, PERIODS, Bar, Chart
from service.web.dashboard.visit import Visit
from service.web.spreadsheet import line

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "upstream": ("upstream",),
    "family": ("family", "operation"),
    "model": ("upstream", "model"),
    "client": ("client",),
    "day": ("day",),
    "label": (),
}
"""The groups of the table by their name. A label has a name of its own."""
VIEWS: Final[Mapping[str, str]] = {"": "Usage", "/budgets": "Budgets", "/claims": "Claims"}
MAX_CHARTS: Final = 4
"""Units of which a chart is shown: the most used ones."""
MAX_LABEL: Final = 100
_BASE, _TOP, _LEFT = 200, 20, 66
_SUMS: Final = ("charged", "probably_charged", "returned", "probably_returned", "undelivered")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The period and the groups that the visitor has chosen."""

    period: str
    by: str
    label: str
    since: dt.datetime

    @property
    def columns(self) -> tuple[str, ...]:
        """The groups of the table."""
        if self.by == "label":
            return (f"label:{self.label}",) if self.label else ("day",)
        return GROUPS[self.by]


@dataclasses.dataclass(slots=True)
class Day:
    """The sums of a day in one unit."""

    charged: Decimal = Decimal(0)
    probable: Decimal = Decimal(0)
    returned: Decimal = Decimal(0)

    @property
    def whole(self) -> Decimal:
        """Everything that was bought."""
        return self.charged + self.probable + self.returned


def views_of(visit: Visit) -> Mapping[str, str]:
    """Return the pages about money that the visitor may read."""
    return {path: title for path, title in VIEWS.items() if visit.is_operator or path != "/claims"}


async def money_page(visit: Visit) -> Response:
    """Return the page."""
    asked = _asked(visit)
    rows = rows_of(await _sums(visit, asked, asked.columns), asked.columns)
    return visit.page(
        "money.html",
        title="Money",
        views=views_of(visit),
        asked=asked,
        periods={name: title for name, (title, _) in PERIODS.items()},
        groups=[each for each in GROUPS if each != "client" or visit.is_operator],
        rows=[shown_row(row, asked.columns) for row in rows],
        totals=totals_of(rows),
        charts=charts_of(await _sums(visit, asked, ("day",)), since=asked.since, now=visit.now),
    )


async def money_csv(visit: Visit) -> Response:
    """Return the table as CSV."""
    asked = _asked(visit)
    rows = rows_of(await _sums(visit, asked, asked.columns), asked.columns)
    heads = (*asked.columns, "unit", *_SUMS, "usd", "submissions", "unknown")
    lines = [heads, *([row[name] for name in heads] for row in rows)]
    headers = {"Content-Disposition": 'attachment; filename="usage.csv"'}
    return Response("".join(map(line, lines)), headers=headers, media_type="text/csv; charset=utf-8")


async def _sums(visit: Visit, asked: Choice, by: Sequence[str]) -> list[Sum]:
    async with visit.context.database.reading() as connection:
        return await usage.sums(connection, by=by, since=asked.since, until=None, client=visit.sees_only)


def _asked(visit: Visit) -> Choice:
    period, by = visit.query("period", "14d"), visit.query("by", "upstream")
    period = period if period in PERIODS else "14d"
    if by not in GROUPS or (by == "client" and not visit.is_operator):
        by = "upstream"
    first = visit.now.date() - dt.timedelta(days=PERIODS[period][1] - 1)
    since = dt.datetime.combine(first, dt.time(), dt.UTC)
    return Choice(period=period, by=by, label=visit.query("label").strip()[:MAX_LABEL], since=since)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table."""

    group: tuple[str, ...]
    unit: str
    amounts: Mapping[str, str]
    usd: str | None
    submissions: int
    unknown: int


def shown_row(row: Mapping[str, Any], columns: Sequence[str]) -> Row:
    """Return a line of the table."""
    return Row(
        group=tuple(str(row[name]) for name in columns),
        unit=row["unit"] or "",
        amounts={name: row[name] for name in _SUMS},
        usd=row["usd"],
        submissions=row["submissions"],
        unknown=row["unknown"],
    )


def totals_of(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, str]:
    """Return the sums of all groups, each unit by itself, as text."""
    sums: dict[str, dict[str, Decimal]] = {name: defaultdict(Decimal) for name in _SUMS}
    for row in rows:
        for name in _SUMS:
            sums[name][row["unit"] or ""] += Decimal(row[name])
    return {
        name: ", ".join(f"{plain(value)}{words.NARROW}{unit}" for unit, value in sorted(units.items()) if value)
        for name, units in sums.items()
    }


def charts_of(sums: Sequence[Sum], *, since: dt.datetime, now: dt.datetime) -> list[tuple[str, Chart]]:
    """Return a chart of each unit, the most used unit first. Units are never added."""
    units: dict[str, dict[str, Day]] = defaultdict(lambda: defaultdict(Day))
    used: dict[str, int] = defaultdict(int)
    for each in sums:
        if each.unit is None:
            continue
        day, used[each.unit] = units[each.unit][each.group[0]], used[each.unit] + each.count
        match each.verdict:
            case "charged":
                day.charged += each.amount
            case "probably_charged":
                day.probable += each.amount
            case "refunded" | "probably_refunded":
                day.returned += each.gross
    shown = [unit for unit in sorted(units, key=lambda unit: (-used[unit], unit)) if any(_wholes(units[unit]))]
    return [(unit, chart_of(units[unit], unit, since=since, now=now)) for unit in shown[:MAX_CHARTS]]


def _wholes(days: Mapping[str, Day]) -> list[Decimal]:
    return [day.whole for day in days.values()]


def chart_of(days: Mapping[str, Day], unit: str, *, since: dt.datetime, now: dt.datetime) -> Chart:
    """Return the chart of what was bought on each day in one unit."""
    dates = [since.date() + dt.timedelta(days=number) for number in range((now.date() - since.date()).days + 1)]
    shown = [days.get(date.isoformat(), Day()) for date in dates]
    highest = round_up(max((day.whole for day in shown), default=Decimal(0)))
    slot = (CHART[0] - _LEFT - 6) / max(len(dates), 1)
    width = min(slot * 0.64, 48)
    bars: list[Bar] = []
    for index, day in enumerate(shown):
        bars += _bars(day, _LEFT + slot * index + (slot - width) / 2, width, (_BASE - _TOP) / float(highest))
    every = -(-len(dates) // 15)
    marks = tuple(
        (_LEFT + slot * (index + 0.5), f"{date:%m-%d}") for index, date in enumerate(dates) if index % every == 0
    )
    lines = tuple((_BASE - (_BASE - _TOP) * part / 3, plain(highest * part / 3)) for part in range(4))
    total = sum((day.charged + day.probable for day in shown), Decimal(0))
    label = (
        f"Spent by day in {unit}, {dates[0]} to {dates[-1]}: {plain(total)} in all. The table below has the numbers."
    )
    return Chart(bars=tuple(bars), days=marks, lines=lines, label=label)


def _bars(day: Day, x: float, width: float, scale: float) -> list[Bar]:
    y, found = float(_BASE), []
    for value, tone in ((day.charged, "work"), (day.probable, "doubt"), (day.returned, "calm")):
        if value:
            height = max(float(value) * scale, 3.0)  # the smallest sliver that can be seen
            y -= height
            found.append(
                Bar(round(x, 1), round(y, 1), round(width, 1), round(height, 1), tone, tone == "calm")  # type: ignore[arg-type]  # a tone
            )
    return found


def round_up(value: Decimal) -> Decimal:
    """Return the next number of the form 3, 6 or 15 × 10ⁿ, which has round thirds."""
    if value <= 0:
        return Decimal(3)
    step = Decimal(1).scaleb(value.adjusted() - 1)
    return next(
        factor * step * power
        for power in (Decimal(1), Decimal(10), Decimal(100))
        for factor in (3, 6, 15)
        if value <= factor * step * power
    )
