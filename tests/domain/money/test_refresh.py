"""Lists of prices: differences are shown, and jumps are held for a person."""

import dataclasses
import datetime as dt
import tomllib
from decimal import Decimal

import pytest

from service.domain.money.book import read_book
from service.domain.money.refresh import Row, as_toml, compare, others_of
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
    assert (found.kind, found.row) == ("vanished", dataclasses.replace(row("m", "0.1"), checked=ON))
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


def test_price_in_another_unit_is_held_with_the_unit_it_had() -> None:
    known = book_of(row("m", "5")).rules
    for rate in ("0.01", "5", "6"):
        [found] = compare("gate", known, [dataclasses.replace(row("m", rate), unit="credits")])
        assert (found.kind, found.row) == ("held", dataclasses.replace(row("m", "5"), checked=ON))
        [accepted] = compare("gate", known, [dataclasses.replace(row("m", rate), unit="credits")], accept=True)
        assert (accepted.kind, accepted.row and accepted.row.unit) == ("changed", "credits")


def test_held_row_keeps_the_day_on_which_it_was_read() -> None:
    later = ON + dt.timedelta(days=30)
    found = compare("gate", book_of(row("m", "0.1"), row("n", "1")).rules, [row("m", "9"), row("n", "1")])
    written = tomllib.loads(as_toml("gate", [each.row for each in found if each.row], on=later, source="x"))
    assert {each["id"]: each["checked"] for each in written["price"]} == {"gate/m": ON, "gate/n": later}


OWN = """# What we pay.
schema = 1

[unit.gate]
credits = { usd = "0.01", checked = "2026-11-27" }  # by contract

[[price]]
id = "gate/by-hand"
upstream = "gate"
model = "by-hand"
unit = "USD"
rate = "7"
checked = 2026-11-27
when = { resolution = ["720p",
  "1080p"] }
"""


def test_rows_of_others_and_by_hand_stay_as_they_were_written() -> None:
    first = as_toml("gate", [row("m", "0.1")], on=ON, source="x", others=OWN)
    both = as_toml("other", [row("m", "1")], on=ON, source="x", others=others_of("other", first) or "")
    again = as_toml("gate", [row("n", "0.2")], on=ON, source="x", others=others_of("gate", both) or "")
    for text in (first, both, again):
        assert text.startswith(OWN)
    book, mistakes = read_book(tomllib.loads(again))
    assert mistakes == []
    assert [each.id for each in book.rules] == ["gate/by-hand", "other/m", "gate/n"]
    assert again.count("# Prices of gate") == again.count("# Prices of other") == 1
    assert compare("gate", book.rules, [row("by-hand", "0.1"), row("n", "0.2")])[0].model == "n"


def test_text_that_cannot_be_divided_is_not_written_into() -> None:
    assert others_of("gate", "") == others_of("gate", as_toml("gate", [row("m", "1")], on=ON, source="x")) == ""
    odd = 'schema = 1\nprice = [{ id = "gate/m", source = "api" }, { id = "mine" }]\n'
    assert others_of("gate", odd) is None
    text = f"{OWN}note = '''\n[[price]]\nid = \"gate/x\"\nsource = \"api\"\n[x]\n'''\n"
    assert others_of("gate", text) is None
