"""Budgets: their form, the parts that a task counts in, their periods, and what may be reserved."""

import datetime as dt
from decimal import Decimal

import pytest

from service.domain.money.amounts import Amount
from service.domain.money.budgets import Counter, Hold, OverBudget, keys_of, read_budget, renews_at, reserve, spent_of
from service.domain.money.quotes import Quote

NOW = dt.datetime(2026, 11, 27, 12, tzinfo=dt.UTC)
DOLLARS = Quote(upstream="u", bound="upper", high=Decimal("0.5"), unit="USD")


def test_budget_is_read_from_a_line() -> None:
    budget = read_budget("shop client=shop label=project=intro period=day limit=12.50 soft=10 over=wait unit=EUR")
    assert (budget.name, budget.client, budget.label, budget.period) == ("shop", "shop", "project=intro", "day")
    assert (budget.limit, budget.soft, budget.unit, budget.when_over) == (Decimal("12.50"), Decimal(10), "EUR", "wait")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "shop",
        "limit=5",
        "shop limit=-1",
        "shop limit=5 period=week",
        "shop limit=5 limit=6",
        "shop limit=5 size=3",
        "shop limit=x",
    ],
)
def test_line_that_is_no_budget_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"limit|write|period"):
        read_budget(line)


@pytest.mark.parametrize(
    ("line", "scope"),
    [
        ("b limit=5", ""),
        ("b limit=5 client=shop", ""),
        ("b limit=5 client=other", None),
        ("b limit=5 client=*", "shop"),
        ("b limit=5 label=project", "intro"),
        ("b limit=5 label=project=intro", ""),
        ("b limit=5 label=project=outro", None),
        ("b limit=5 label=team", None),
        ("b limit=5 client=* label=project", "shop/intro"),
        ("b limit=5 upstream=u", ""),
        ("b limit=5 upstream=v", None),
    ],
)
def test_part_of_a_budget_that_a_task_counts_in(line: str, scope: str | None) -> None:
    found = keys_of([read_budget(line)], "shop", {"project": "intro"}, "u", NOW)
    assert list(found) == ([] if scope is None else [("b", scope, "2026-11")])


@pytest.mark.parametrize(
    ("kind", "at", "renewed"),
    [
        ("day", "2026-11-27T23:59:59+00:00", "2026-11-28T00:00:00+00:00"),
        ("day", "2026-11-28T00:30:00+02:00", "2026-11-28T00:00:00+00:00"),
        ("month", "2026-11-27T12:00:00+00:00", "2026-12-01T00:00:00+00:00"),
        ("month", "2026-12-31T23:00:00+00:00", "2027-01-01T00:00:00+00:00"),
    ],
)
def test_period_renews(kind: str, at: str, renewed: str) -> None:
    assert renews_at(kind, dt.datetime.fromisoformat(at)).isoformat() == renewed  # type: ignore[arg-type]


def test_all_budgets_or_none_are_reserved() -> None:
    keys = keys_of([read_budget("a limit=5"), read_budget("b limit=0.4")], "shop", {}, "u", NOW)
    found = reserve(keys, {}, DOLLARS, at=NOW)
    assert isinstance(found, OverBudget)
    assert found.budget.name == "b"


def test_hold_is_never_smaller_than_the_bound() -> None:
    keys = keys_of([read_budget("a limit=5")], "shop", {}, "u", NOW)
    [key] = keys
    left = {key: Counter(held=Decimal("4.4"), spent=Decimal("0.2"))}
    assert isinstance(reserve(keys, left, DOLLARS, at=NOW), OverBudget)
    left[key].held = Decimal("4.3")
    assert reserve(keys, left, DOLLARS, at=NOW) == (Hold(key, Decimal("0.5"), "USD"),)


@pytest.mark.parametrize(
    ("amount", "usd", "spent"),
    [
        (None, None, "0.5"),
        (Amount(Decimal("0.3"), "USD"), None, "0.3"),
        (Amount(Decimal(30), "credits"), "0.02", "0.6"),
        (Amount(Decimal(30), "credits"), None, "0.5"),
        (Amount(Decimal(0), "credits"), None, "0"),
        (Amount(Decimal(160), "points"), "0.02", "0.5"),
    ],
    ids=["unknown", "own-unit", "by-rate", "other-unit", "nothing", "unit-without-the-rate"],
)
def test_settled_amount_uses_the_budget(amount: Amount | None, usd: str | None, spent: str) -> None:
    hold = Hold(("a", "", "2026-11"), Decimal("0.5"), "USD")
    quote = Quote(upstream="u", unit="credits", usd=None if usd is None else Decimal(usd))
    assert spent_of(hold, amount, quote) == Decimal(spent)
