"""The price book: amounts are exact, the narrowest row counts, and an unknown quantity is never guessed."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from service.domain.money.amounts import Amount, plain, read_number, total
from service.domain.money.book import merged, read_book
from service.domain.money.quotes import Quote
from service.domain.money.rules import Purchase
from service.domain.money.terms import by_price, too_dear
from service.settings.prices import load_prices

TODAY = dt.date(2026, 11, 27)
ROW: dict[str, Any] = {"id": "a", "upstream": "elkapi", "unit": "points", "rate": "12", "checked": "2026-11-27"}


def purchase(*, upstream: str = "elkapi", kind: str = "", model: str | None = "m1", **fields: Any) -> Purchase:
    return Purchase(
        upstream=upstream,
        kind=kind,
        dialect="d",
        family="runway",
        operation="text_to_video",
        model=model,
        fields=fields,
    )


def quoted(*rows: dict[str, Any], units: Any = None, on: dt.date = TODAY, **bought: Any) -> Quote:
    book, mistakes = read_book({"schema": 1, "price": [{**ROW, **row} for row in rows], "unit": units or {}})
    assert mistakes == []
    return book.quote(purchase(**bought), on=on)


def range_of(quote: Quote) -> tuple[str, str | None, str | None]:
    return quote.bound, *(None if each is None else plain(each) for each in (quote.low, quote.high))


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (1, "1"),
        ("0.4", "0.4"),
        (0.1, "0.1"),
        (0.8333335, "0.8333335"),
        (" 12 ", "12"),
        ("1e3", "1000"),
        ("1e400", None),
        (1e20, None),
        ("nan", None),
        (float("inf"), None),
        (-1, None),
        ("-0", None),
        (True, None),
        ("", None),
        ("0,325", None),
        ("9" * 50, None),
        (None, None),
        ([1], None),
    ],
    ids=repr,
)
def test_number_of_a_provider_is_read_exactly_or_not_at_all(value: object, read: str | None) -> None:
    found = read_number(value)
    assert (None if found is None else plain(found)) == read


def test_amounts_of_different_units_are_not_added() -> None:
    amounts = [Amount(Decimal("0.1"), "USD")] * 3 + [Amount(Decimal(5), "credits")]
    assert total(amounts) == {"USD": Decimal("0.3"), "credits": Decimal(5)}


SECONDS = {"field": "duration", "min": 2, "max": 10, "step": 1}


@pytest.mark.parametrize(
    ("row", "fields", "expected"),
    [
        ({"rate": "50"}, {}, ("exact", "50", "50")),
        ({"per": "second", "quantity": SECONDS}, {"duration": 5}, ("exact", "60", "60")),
        ({"per": "second", "quantity": SECONDS}, {"duration": "5s"}, ("exact", "60", "60")),
        ({"per": "second", "quantity": SECONDS}, {"duration": 4.2}, ("exact", "60", "60")),
        ({"per": "second", "quantity": SECONDS}, {"duration": 1}, ("exact", "24", "24")),
        ({"per": "second", "quantity": SECONDS}, {}, ("upper", "24", "120")),
        ({"per": "second", "quantity": SECONDS}, {"duration": "long"}, ("upper", "24", "120")),
        ({"per": "second", "quantity": {**SECONDS, "default": 5}}, {}, ("exact", "60", "60")),
        ({"per": "second", "quantity": {"field": "duration"}}, {}, ("none", None, None)),
        ({"per": "second"}, {"duration": 5}, ("none", None, None)),
        ({"rate_low": "8"}, {}, ("upper", "8", "12")),
        ({"minimum": "20"}, {}, ("exact", "20", "20")),
        ({"add": [{"field": "images", "rate": "3"}]}, {"images": ["a", "b"]}, ("exact", "18", "18")),
        ({"per": "image", "quantity": {"field": ["count", "n"], "default": 1}}, {"n": 3}, ("exact", "36", "36")),
        (
            {"per": "second", "quantity": SECONDS, "count": {"field": "count", "default": 1, "max": 4}},
            {"duration": 5, "count": 2},
            ("exact", "120", "120"),
        ),
        (
            {"per": "megapixel", "formula": "megapixels", "rate": "3", "next": "1.5"},
            {"width": 1024, "height": 1024},
            ("upper", "3", "4.5"),
        ),
        ({"per": "megapixel", "formula": "megapixels"}, {"prompt": "a"}, ("none", None, None)),
        (
            {"per": "1M_tokens", "rate": "46", "formula": "video_tokens", "quantity": SECONDS},
            {"duration": 5, "resolution": "720p"},
            ("exact", "5.0094", "5.0094"),
        ),
        (
            {"per": "1M_tokens", "rate": "46", "formula": "video_tokens", "quantity": SECONDS},
            {"duration": 5},
            ("none", None, None),
        ),
    ],
    ids=[
        "per-job",
        "per-second",
        "text-with-a-unit",
        "rounded-up-to-a-step",
        "raised-to-the-least",
        "missing-takes-the-range",
        "unreadable-takes-the-range",
        "missing-takes-the-default",
        "missing-without-limit-is-unknown",
        "known-only-at-the-end",
        "range",
        "minimum",
        "addition-for-each-entry",
        "first-field-that-is-set",
        "several-outputs",
        "megapixels",
        "unknown-size",
        "tokens-of-a-video",
        "tokens-of-an-unknown-resolution",
    ],
)
def test_quote_of_a_row(row: dict[str, Any], fields: dict[str, Any], expected: tuple[str, str, str]) -> None:
    assert range_of(quoted(row, **fields)) == expected


def test_narrowest_row_counts() -> None:
    rows = [
        {"id": "any", "upstream": "*", "rate": "1"},
        {"id": "kind", "upstream": "runwayml", "rate": "2"},
        {"id": "pattern", "upstream": "runwayml", "model": "m*", "rate": "3"},
        {"id": "model", "upstream": "runwayml", "model": "m1", "rate": "4"},
        {"id": "account", "upstream": "mine", "model": "m1", "rate": "5"},
    ]
    assert quoted(*rows, upstream="other").price_id == "any"
    assert quoted(*rows, upstream="a", kind="runwayml", model="x").price_id == "kind"
    assert quoted(*rows, upstream="a", kind="runwayml", model="m2").price_id == "pattern"
    assert quoted(*rows, upstream="a", kind="runwayml").price_id == "model"
    assert quoted(*rows, upstream="mine", kind="runwayml").price_id == "account"


def test_unset_field_of_a_condition_takes_the_range_of_all_rows() -> None:
    rows = [
        {"id": "low", "when": {"resolution": "720p"}, "rate": "5"},
        {"id": "high", "when": {"resolution": "1080p"}, "rate": "8"},
    ]
    assert range_of(quoted(*rows)) == ("upper", "5", "8")
    assert range_of(quoted(*rows, resolution="1080p")) == ("exact", "8", "8")
    assert range_of(quoted(*rows, resolution="4k")) == ("none", None, None)


def test_words_in_the_prompt_that_override_fields_take_the_dearest_row() -> None:
    rows = [
        {"id": "low", "when": {"resolution": ["720p", ""]}, "rate": "5", "prompt_options": True},
        {"id": "high", "when": {"resolution": "1080p"}, "rate": "8", "prompt_options": True},
    ]
    assert range_of(quoted(*rows, prompt="a dove")) == ("exact", "5", "5")
    assert range_of(quoted(*rows, prompt="a dove --rs 1080p", resolution="720p")) == ("upper", "5", "8")


def test_row_counts_on_its_days_only() -> None:
    rows = [
        {"id": "old", "rate": "5", "valid_until": "2026-09-23"},
        {"id": "new", "rate": "6", "valid_from": "2026-09-24"},
    ]
    assert quoted(*rows, on=dt.date(2026, 9, 23)).price_id == "old"
    assert quoted(*rows, on=dt.date(2026, 9, 24)).price_id == "new"


def test_bound_in_dollars_is_rounded_up() -> None:
    quote = quoted({"rate": "0.5"}, units={"elkapi": {"points": {"usd": "0.000000001", "checked": "2026-11-27"}}})
    assert plain(quote.bound_in("USD") or Decimal(0)) == "0.000000001"
    assert quoted({"rate": "1"}).bound_in("USD") is None


def test_product_that_is_larger_than_any_price_is_no_bound() -> None:
    row = {"per": "second", "rate": "2", "quantity": {"field": "duration"}}
    assert range_of(quoted(row, duration=499_999_999)) == ("exact", "999999998", "999999998")
    found = quoted(row, duration=500_000_000)
    assert (found.bound, found.high, found.why[-1]) == ("none", None, "the product is larger than any price")


def test_old_price_says_so() -> None:
    assert "the price was read on 2026-01-01" in quoted({"checked": "2026-01-01"}).why


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ([], "prices"),
        ({"schema": 2}, "schema"),
        ({"schema": 1, "prise": []}, "prices.prise"),
        ({"schema": 1, "price": [{**ROW, "rate": 0.1}]}, "price 'a'.rate"),
        ({"schema": 1, "price": [{**ROW, "rate": "-1"}]}, "price 'a'.rate"),
        ({"schema": 1, "price": [{**ROW, "per": "hour"}]}, "price 'a'.per"),
        ({"schema": 1, "price": [{**ROW, "modell": "m"}]}, "price 'a'.modell"),
        ({"schema": 1, "price": [{**ROW, "quantity": {"max": 3}}]}, "price 'a'.quantity.field"),
        ({"schema": 1, "price": [{**ROW, "quantity": {"field": "n", "step": 0}}]}, "price 'a'.quantity.step"),
        ({"schema": 1, "price": [{**ROW, "checked": "yesterday"}]}, "price 'a'.checked"),
        ({"schema": 1, "price": [{**ROW, "rate_low": "13"}]}, "price 'a'.rate_low"),
        ({"schema": 1, "price": [{"id": "a"}]}, "price 'a'.upstream"),
        ({"schema": 1, "price": [ROW, ROW]}, "price 'a'"),
        ({"schema": 1, "price": [ROW, {**ROW, "id": "b"}]}, "price 'a'"),
        (
            {
                "schema": 1,
                "price": [{**ROW, "when": {"x": ["1", "2"]}}, {**ROW, "id": "b", "when": {"x": ["2", "3"]}}],
            },
            "price 'a'",
        ),
        ({"schema": 1, "unit": {"elkapi": {"points": {"usd": "0"}}}}, "unit.elkapi.points"),
    ],
    ids=[
        "no-table",
        "other-version",
        "unknown-part",
        "binary-number",
        "negative",
        "unknown-per",
        "unknown-field",
        "quantity-without-field",
        "step-of-zero",
        "no-day",
        "range-upside-down",
        "missing-fields",
        "same-id",
        "same-purchases",
        "overlapping-conditions",
        "unit-worth-nothing",
    ],
)
def test_mistake_in_a_price_file_is_reported_with_its_place(document: Any, path: str) -> None:
    _, mistakes = read_book(document)
    assert path in {each.path for each in mistakes}


def test_own_row_replaces_the_row_of_its_name_and_counts_more_than_others() -> None:
    shipped, _ = read_book({"schema": 1, "price": [ROW, {**ROW, "id": "b", "model": "m1"}]})
    own, _ = read_book({"schema": 1, "price": [{**ROW, "rate": "99"}]}, layer=1)
    both = merged(shipped, own)
    assert len(both.rules) == 2
    assert both.quote(purchase(), on=TODAY).price_id == "a"


def test_shipped_prices_have_no_mistake() -> None:
    assert len(load_prices().rules) > 10


@pytest.mark.parametrize(
    ("quote", "limit", "unpriced", "fits"),
    [
        (
            Quote(upstream="u", bound="exact", high=Decimal(60), unit="credits", usd=Decimal("0.01")),
            ("0.6", "USD"),
            "refuse",
            True,
        ),
        (
            Quote(upstream="u", bound="exact", high=Decimal(60), unit="credits", usd=Decimal("0.01")),
            ("0.59", "USD"),
            "refuse",
            False,
        ),
        (Quote(upstream="u", bound="exact", high=Decimal(60), unit="credits"), ("60", "credits"), "refuse", True),
        (Quote(upstream="u", bound="exact", high=Decimal(60), unit="credits"), ("9", "USD"), "refuse", False),
        (Quote(upstream="u"), ("9", "USD"), "refuse", False),
        (Quote(upstream="u"), ("9", "USD"), "allow", True),
    ],
    ids=["fits", "too-dear", "own-unit", "other-unit", "unknown-refused", "unknown-allowed"],
)
def test_limit_of_a_task(quote: Quote, limit: tuple[str, str], unpriced: Any, fits: bool) -> None:  # noqa: FBT001 - a case
    assert (too_dear(quote, Amount(Decimal(limit[0]), limit[1]), unpriced) is None) == fits


def test_cheapest_comes_first_and_unknown_prices_last() -> None:
    quotes = {
        name: Quote(
            upstream=name, bound="exact", low=Decimal(cost), expected=Decimal(cost), high=Decimal(cost), unit="USD"
        )
        for name, cost in (("a", 3), ("b", 1))
    }
    assert by_price(("x", "a", "b"), quotes) == ("b", "a", "x")
