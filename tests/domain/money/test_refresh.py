"""Lists of prices: differences are shown, and jumps are held for a person."""

import datetime as dt
import tomllib
from decimal import Decimal

import pytest

from service.domain.money.book import read_book
from service.domain.money.refresh import Row, as_toml, compare
from service.domain.money.rules import Purchase

ON = dt.date(2026, 11, 27)


def row(model: str, rate: str, *, base_only: bool = False) -> Row:
    return Row(model=model, unit="USD", per="job", rate=Decimal(rate), base_only=base_only)


def book_of(*rows: Row):
    book, mistakes = read_book(tomllib.loads(as_toml("gate", rows, on=ON, source="/api/pricing")))
    assert mistakes == []
    return book


@pytest.mark.parametrize(
    ("rate", "kind", "kept"),
    [
        ("0.1", "same", "0.1"),
        ("0.2", "changed", "0.2"),
        ("0.3", "changed", "0.3"),
        ("0.31", "held", "0.1"),
        ("0.03", "held", "0.1"),
        ("0", "held", "0.1"),
    ],
)
def test_jump_is_held_and_the_old_price_stays(rate: str, kind: str, kept: str) -> None:
    [found] = compare("gate", book_of(row("m", "0.1")).rules, [row("m", rate)])
    assert found.row is not None
    assert (found.kind, found.row.rate) == (kind, Decimal(kept))
    [accepted] = compare("gate", book_of(row("m", "0.1")).rules, [row("m", rate)], accept=True)
    assert accepted.row is not None
    assert accepted.row.rate == Decimal(rate)


def test_vanished_model_is_held() -> None:
    [found] = compare("gate", book_of(row("m", "0.1")).rules, [])
    assert (found.kind, found.row) == ("vanished", row("m", "0.1"))
    assert compare("gate", book_of(row("m", "0.1")).rules, [], accept=True)[0].row is None


def test_rows_of_other_upstreams_are_left_alone() -> None:
    assert compare("other", book_of(row("m", "0.1")).rules, []) == []


def test_written_file_reads_as_it_was_meant() -> None:
    model = 'a "quoted" \\ model'
    book = book_of(row(model, "0.1"), row("video", "0.2", base_only=True))
    bought = Purchase(upstream="gate", kind="", dialect="", family="any", operation="run", model=model)
    assert book.quote(bought, on=ON).high == Decimal("0.1")
    video = book.quote(
        Purchase(upstream="gate", kind="", dialect="", family="any", operation="run", model="video"), on=ON
    )
    assert (video.bound, video.rate) == ("none", Decimal("0.2"))
