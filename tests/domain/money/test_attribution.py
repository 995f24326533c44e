"""Refund truth by balances: jobs are named only where one set of prices explains the balance."""

import datetime as dt
import random
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.money.attribution import Bought, OpenCase, Snapshot, Window, judge, judge_both

NOW = dt.datetime(2026, 11, 27, 12, tzinfo=dt.UTC)


def job(number: int) -> UUID:
    return UUID(int=number)


def window(start: str, end: str, prices: list[str | None], failed: list[int], **more: object) -> Window:
    bought = [Bought(job(number), None if price is None else Decimal(price)) for number, price in enumerate(prices)]
    cases = [OpenCase(job(number), Decimal(prices[number] or 0)) for number in failed]
    first, last = Snapshot(NOW, Decimal(start)), Snapshot(NOW + dt.timedelta(minutes=5), Decimal(end))
    return Window(start=first, end=last, bought=bought, open=cases, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "judged", "count"),
    [
        (window("10", "7", ["1", "2"], [1]), {1: "kept"}, None),
        (window("10", "9", ["1", "2"], [1]), {1: "returned"}, None),
        (window("10", "4", ["1", "2", "3"], [1, 2]), {1: "kept", 2: "kept"}, None),
        (window("10", "6", ["1", "2", "3"], [1, 2]), {1: "returned", 2: "kept"}, None),
        (window("10", "9", ["1", "2", "3"], [1, 2]), {1: "returned", 2: "returned"}, None),
        (window("10", "8", ["1", "2", "2"], [1, 2]), {}, None),
        (window("10", "7", ["1", "2", "2"], [1, 2]), {}, 1),
        (window("10", "6", ["1", "2"], [1]), {1: "kept"}, None),
        (window("10", "5.5", ["1", "2"], [1]), {}, None),
        (window("10", "3", ["1", "2", "3"], [1, 2]), {2: "kept"}, None),
        (window("10", "9", ["1", None], []), {}, None),
        (window("10", "9", ["1", "2"], [1], disturbed=True), {}, None),
        (window("10", "9.9999995", ["0.000001", "1"], [0]), {}, None),
        (window("10", "8", ["1", "2"], [1], given_back=Decimal(1)), {1: "kept"}, None),
    ],
    ids=[
        "nothing-returned",
        "returned",
        "none-of-two",
        "one-of-two",
        "both",
        "residual-fits-no-set",
        "equal-prices-give-a-number-only",
        "another-job-charged-twice",
        "loss-that-no-second-charge-explains",
        "second-charge-and-a-refund-in-two-ways",
        "unknown-price",
        "payment-in-the-window",
        "price-below-the-resolution",
        "refund-known-by-a-record",
    ],
)
def test_window_names_jobs_only_where_one_explanation_fits(
    found: Window, judged: dict[int, str], count: int | None
) -> None:
    verdicts = judge(found)
    assert verdicts.judged == {job(number): word for number, word in judged.items()}
    assert verdicts.count == count


def test_late_charge_is_judged_with_the_window_in_which_it_came() -> None:
    """A job of 5 is charged in the second window, in which a failed job of 5 was given back: the residual there is 0."""
    before = window("100", "97", ["5", "3"], [])
    after = window("97", "92", ["5", "2"], [0])
    alone, both = judge(after), judge_both(before, after)
    assert (before.end.amount, alone.residual, alone.judged) == (Decimal(97), Decimal(2), {})
    assert both.judged in ({}, {job(0): "returned"})
    before, after = window("100", "97", ["5", "3"], []), window("97", "90", ["5", "2"], [0])
    assert judge(after).judged == {job(0): "kept"}, "what the window says alone is wrong"
    assert judge_both(before, after).judged == {job(0): "returned"}


def test_window_before_is_not_asked_where_it_is_explained() -> None:
    before = window("100", "95", ["5", "3"], [1])  # its refund is known
    after = window("95", "90", ["5"], [0])
    assert judge_both(before, after) == judge(after)


def test_jobs_of_equal_price_are_counted() -> None:
    found = judge(window("100", "90", ["5", "5", "5", "3"], [0, 1, 3]))
    assert (found.judged, found.alike_kept) == ({job(3): "returned"}, 1)
    found = judge(window("100", "87", ["5", "5", "5", "3"], [0, 1, 3]))
    assert (found.judged, found.alike_kept) == ({job(3): "kept"}, 1)
    assert found.alike == {job(0), job(1)}


@given(st.integers(0, 2**32))
def test_judged_jobs_are_judged_right_where_all_prices_are_known(seed: int) -> None:
    """Whatever is given back: a job that a window names was given back, or kept, as the window says."""
    chance = random.Random(seed)
    prices = [str(chance.choice([75, 75, 120, 160, 200])) for _ in range(chance.randint(1, 12))]
    failed = [number for number in range(len(prices)) if chance.random() < 0.4]
    returned = {number for number in failed if chance.random() < 0.5}
    end = 10_000 - sum(int(price) for number, price in enumerate(prices) if number not in returned)
    for submission, word in judge(window("10000", str(end), list(prices), failed)).judged.items():
        assert (word == "returned") == (submission.int in returned)
