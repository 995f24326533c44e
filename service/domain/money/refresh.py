"""Compare a list of prices with the price book, and write the rows of a list. Pure."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Final, Literal

from service.domain.money.amounts import plain
from service.domain.money.rules import Rule

JUMP: Final = Decimal(3)
"""A price that changes by more than this factor is probably a mistake of units."""
Kind = Literal["new", "same", "changed", "held", "vanished"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A price that may be written."""

    model: str
    unit: str
    per: str
    rate: Decimal
    base_only: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The difference in the price of a model."""

    kind: Kind
    model: str
    old: Decimal | None = None
    new: Decimal | None = None
    row: Row | None = None
    """The row to write; of a held one the old price."""


def row_id(upstream: str, model: str) -> str:
    """Return the name of the row of a model in the file of an upstream."""
    return f"{upstream}/{model}"


def compare(upstream: str, known: Iterable[Rule], listed: Sequence[Row], *, accept: bool = False) -> list[Difference]:
    """Return the differences between the rows of an earlier list and a new one.

    A jump by more than :data:`JUMP`, a price of 0 and a model that has vanished are held for a person.

    :param accept: whether a person has seen them
    """
    prefix = row_id(upstream, "")
    before: Mapping[str, Rule] = {rule.id.removeprefix(prefix): rule for rule in known if rule.id.startswith(prefix)}
    found = [
        _difference(before.get(row.model), row, accept=accept) for row in sorted(listed, key=lambda row: row.model)
    ]
    gone = sorted(before.keys() - {row.model for row in listed})
    for model in gone:
        rule = before[model]
        kept = Row(model=model, unit=rule.unit, per=rule.per, rate=rule.rate, base_only=rule.base_only)
        found.append(Difference(kind="vanished", model=model, old=rule.rate, row=None if accept else kept))
    return found


def _difference(rule: Rule | None, row: Row, *, accept: bool) -> Difference:
    if rule is None:
        held = not row.rate and not accept
        return Difference(kind="held" if held else "new", model=row.model, new=row.rate, row=None if held else row)
    if rule.rate == row.rate and (rule.unit, rule.per) == (row.unit, row.per):
        return Difference(kind="same", model=row.model, old=rule.rate, new=row.rate, row=row)
    jumps = not row.rate or not rule.rate or row.rate > rule.rate * JUMP or row.rate * JUMP < rule.rate
    if jumps and not accept:
        kept = dataclasses.replace(row, rate=rule.rate)
        return Difference(kind="held", model=row.model, old=rule.rate, new=row.rate, row=kept)
    return Difference(kind="changed", model=row.model, old=rule.rate, new=row.rate, row=row)


def as_toml(upstream: str, rows: Iterable[Row], *, on: date, source: str) -> str:
    """Return a price file with these rows."""
    lines = [f"# Prices of {upstream}, read on {on} from {source}. Made by `dovecote prices refresh`.", "schema = 1"]
    for row in rows:
        lines += [
            "",
            "[[price]]",
            f"id = {_quoted(row_id(upstream, row.model))}",
            f"upstream = {_quoted(upstream)}",
            f"model = {_quoted(row.model)}",
            f"unit = {_quoted(row.unit)}",
            f"per = {_quoted(row.per)}",
            f'rate = "{plain(row.rate)}"',
            *(["base_only = true"] if row.base_only else []),
            'source = "api"',
            f"checked = {on}",
        ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    escaped = "".join(_ESCAPES.get(each, each) for each in text if each.isprintable())
    return f'"{escaped}"'


_ESCAPES: Final[Mapping[str, str]] = {"\\": "\\\\", '"': '\\"'}
