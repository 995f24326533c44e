"""Settlements: the verdict of every kind of end, corrections, and the sums that follow from them."""

import dataclasses
import itertools
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.money.amounts import Amount, plain
from service.domain.money.quotes import Quote
from service.domain.money.settlement import Facts, Settlement, change_of, follows, key_of, settle

QUOTE = Quote(upstream="u", bound="exact", low=Decimal(60), expected=Decimal(60), high=Decimal(60), unit="credits")
CHARGES = Quote(
    upstream="u",
    bound="exact",
    low=Decimal(60),
    expected=Decimal(60),
    high=Decimal(60),
    unit="credits",
    failed="charged",
)
REFUNDS = Quote(
    upstream="u",
    bound="upper",
    low=Decimal(1),
    expected=Decimal(50),
    high=Decimal(60),
    unit="credits",
    failed="refunded",
)
TOKENS = Quote(upstream="u", bound="upper", high=Decimal(9), unit="CNY", rate=Decimal(46), per="1M_tokens")
SUBMISSION = UUID(int=1)


def credits_of(value: int | str) -> Amount:
    return Amount(Decimal(value), "credits")


CASES: list[tuple[str, dict[str, Any], tuple[str, str, str | None]]] = [
    ("stated", {"ending": "succeeded", "stated": credits_of(55), "quote": QUOTE}, ("charged", "provider", "55")),
    ("quoted", {"ending": "succeeded", "quote": QUOTE}, ("charged", "price", "60")),
    ("bounded", {"ending": "succeeded", "quote": REFUNDS}, ("charged", "quote", "50")),
    (
        "stated-zero-is-not-free",
        {"ending": "succeeded", "stated": credits_of(0), "quote": QUOTE},
        ("charged", "price", "60"),
    ),
    ("nothing-known", {"ending": "succeeded"}, ("charged", "none", None)),
    (
        "tokens",
        {"ending": "succeeded", "quote": TOKENS, "usage": {"tokens": Decimal(108900)}},
        ("charged", "price", "5.0094"),
    ),
    (
        "more-tokens-than-any-price-has",
        {
            "ending": "succeeded",
            "quote": dataclasses.replace(TOKENS, rate=Decimal(10**8)),
            "usage": {"tokens": Decimal(10**8)},
        },
        ("charged", "quote", "9"),
    ),
    ("refund-stated", {"ending": "failed", "refunded": True, "stated": credits_of(60)}, ("refunded", "provider", "0")),
    (
        "refund-denied",
        {"ending": "moderated", "refunded": False, "stated": credits_of(60)},
        ("charged", "provider", "60"),
    ),
    ("cost-of-zero", {"ending": "failed", "stated": credits_of(0)}, ("refunded", "provider", "0")),
    ("rule-charges", {"ending": "failed", "quote": CHARGES}, ("charged", "rule", "60")),
    ("rule-refunds", {"ending": "failed", "quote": REFUNDS}, ("probably_refunded", "rule", "0")),
    ("pages-refund", {"ending": "failed", "refunds": True, "quote": QUOTE}, ("probably_refunded", "rule", "0")),
    (
        "pages-say-nothing-of-moderation",
        {"ending": "moderated", "refunds": True, "quote": QUOTE},
        ("probably_charged", "price", "60"),
    ),
    ("charge-without-refund", {"ending": "failed", "stated": credits_of(60)}, ("probably_charged", "rule", "60")),
    ("end-unknown", {"ending": "unknown", "quote": REFUNDS}, ("probably_charged", "quote", "60")),
    ("no-job", {"ending": "no_job", "quote": QUOTE}, ("free", "provider", "0")),
]


@pytest.mark.parametrize(("facts", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_verdict_of_an_end(facts: dict[str, Any], expected: tuple[str, str, str | None]) -> None:
    found = settle(Facts(**facts))
    assert (found.verdict, found.basis, None if found.amount is None else plain(found.amount)) == expected


def settlement(verdict: str, basis: str, amount: int | None, *, delivered: bool = False) -> Settlement:
    value = None if amount is None else Decimal(amount)
    return Settlement(verdict=verdict, basis=basis, amount=value, unit="credits", delivered=delivered)  # type: ignore[arg-type]


def test_same_facts_change_nothing() -> None:
    known = settlement("charged", "provider", 60)
    assert follows(known, known) is None


def test_stronger_evidence_replaces_weaker_evidence_only() -> None:
    known = settlement("probably_charged", "rule", 60)
    record = settlement("refunded", "record", 0)
    assert follows(known, record) == record
    assert follows(record, known) is None


def test_late_result_after_a_proven_refund_changes_the_delivery_only() -> None:
    refunded = settlement("refunded", "record", 0)
    after = follows(refunded, settlement("charged", "provider", 60, delivered=True))
    assert after is not None
    assert (after.verdict, after.amount, after.delivered) == ("refunded", 0, True)


def test_amount_of_another_unit_is_taken_back() -> None:
    known = Settlement(verdict="charged", basis="price", amount=Decimal(5), unit="USD")
    assert change_of(known, settlement("charged", "provider", 60)) == (60, Amount(Decimal(5), "USD"))
    assert change_of(None, settlement("charged", "provider", 60)) == (60, None)


def test_key_is_the_same_for_the_same_facts_only() -> None:
    first, other = settlement("refunded", "record", 0), settlement("charged", "record", 5)
    keys = [key_of(SUBMISSION, each, "set:x", source="log") for each in (first, first, other)]
    assert keys[0] == keys[1] != keys[2]
    assert key_of(SUBMISSION, first, None, source="poll") == f"set:{SUBMISSION}"


facts_of_a_job = st.builds(
    Facts,
    ending=st.sampled_from(["succeeded", "failed", "moderated", "cancelled", "unknown"]),
    stated=st.none() | st.integers(0, 100).map(credits_of),
    refunded=st.none() | st.booleans(),
    refunds=st.booleans(),
    quote=st.sampled_from([None, QUOTE, CHARGES, REFUNDS]),
)


@given(st.lists(facts_of_a_job, min_size=1, max_size=6))
def test_sum_of_all_changes_is_what_the_last_entry_says(history: list[Facts]) -> None:
    """Whatever arrives, in any order and repeated: the sum of the booked changes is the amount that counts."""
    known: Settlement | None = None
    booked, keys = Decimal(0), set()
    previous: str | None = None
    for facts in itertools.chain(history, history):
        found = settle(facts)
        following = found if known is None else follows(known, found)
        if following is None:
            continue
        change, reverses = change_of(known, following)
        assert reverses is None
        key = key_of(SUBMISSION, following, previous, source="poll")
        assert key not in keys
        keys.add(key)
        booked += change or 0
        known, previous = following, key
        if known.amount is not None:
            assert booked == known.amount
            assert known.amount >= 0
