"""Compare a list of prices with the price book, and write the rows of a list. Pure."""

import dataclasses
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Final, Literal

from service.domain.money.amounts import plain
from service.domain.money.rules import Rule

JUMP: Final = Decimal(3)
"""A price that changes by more than this factor is probably a mistake of units."""
SOURCE: Final = "api"
"""The source of the rows that a list makes; every other row of a price file is somebody's own."""
Kind = Literal["new", "same", "changed", "held", "vanished"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A price that may be written."""

    model: str
    unit: str
    per: str
    rate: Decimal
    base_only: bool = False
    checked: date | None = None
    """The day on which it was read; None: it has just been read."""


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

    A jump by more than :data:`JUMP`, another unit, a price of 0 and a model that has vanished are held for a person. A row that
    somebody has written by hand under the same name stays, so its model is left out.

    :param accept: whether a person has seen them
    """
    prefix = row_id(upstream, "")
    named = {rule.id.removeprefix(prefix): rule for rule in known if rule.id.startswith(prefix)}
    before: Mapping[str, Rule] = {model: rule for model, rule in named.items() if rule.source == SOURCE}
    own = named.keys() - before.keys()
    found = [
        _difference(before.get(row.model), row, accept=accept)
        for row in sorted(listed, key=lambda row: row.model)
        if row.model not in own
    ]
    gone = sorted(before.keys() - {row.model for row in listed})
    for model in gone:
        rule = before[model]
        found.append(
            Difference(kind="vanished", model=model, old=rule.rate, row=None if accept else _kept(model, rule))
        )
    return found


def _kept(model: str, rule: Rule) -> Row:
    """Return an earlier row as it was, with the day on which it was read."""
    return Row(
        model=model,
        unit=rule.unit,
        per=rule.per,
        rate=rule.rate,
        base_only=rule.base_only,
        checked=rule.checked,
    )


def _difference(rule: Rule | None, row: Row, *, accept: bool) -> Difference:
    if rule is None:
        held = not row.rate and not accept
        return Difference(kind="held" if held else "new", model=row.model, new=row.rate, row=None if held else row)
    measured_alike = (rule.unit, rule.per) == (row.unit, row.per)
    if rule.rate == row.rate and measured_alike:
        return Difference(kind="same", model=row.model, old=rule.rate, new=row.rate, row=row)
    jumps = not row.rate or not rule.rate or row.rate > rule.rate * JUMP or row.rate * JUMP < rule.rate
    if (jumps or not measured_alike) and not accept:
        return Difference(kind="held", model=row.model, old=rule.rate, new=row.rate, row=_kept(row.model, rule))
    return Difference(kind="changed", model=row.model, old=rule.rate, new=row.rate, row=row)


def as_toml(upstream: str, rows: Iterable[Row], *, on: date, source: str, others: str = "") -> str:
    """Return a price file with these rows.

    :param others: the text of the rows that stay, from :func:`others_of`
    """
    title = f"# Prices of {upstream}, read on {on} from {source}. Made by `dovecote prices refresh`."
    lines = [others, title] if others else [title, "schema = 1"]
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
            f"source = {_quoted(SOURCE)}",
            f"checked = {row.checked or on}",
        ]
    return "\n".join(lines) + "\n"


def others_of(upstream: str, text: str) -> str | None:
    """Return the text of a price file without the rows of an upstream's list, as it was written, with its comments.

    None where the text cannot be divided: then the file is none that can be written into.

    :raises tomllib.TOMLDecodeError: when it is no TOML
    """
    document = tomllib.loads(text)
    rows = document.get("price", [])
    wanted = [row for row in rows if not _is_listed(upstream, row)]
    if not document or (not wanted and document.keys() <= {"schema", "price"}):
        return ""
    parts = _HEADER.split(text)
    kept = [part for part in parts if not _is_listed_part(upstream, part)]
    title = re.compile(rf"^# Prices of {re.escape(upstream)}, read on .*\n?", re.MULTILINE)
    others = title.sub("", "".join(kept)).strip() + "\n"
    expected = {name: value for name, value in document.items() if name != "price"}
    try:
        found = tomllib.loads(others)
    except tomllib.TOMLDecodeError:
        return None
    return others if found == {**expected, **({"price": wanted} if wanted else {})} else None


_HEADER: Final = re.compile(r"^(?=(?:[ \t]*(?:#.*)?\n)*[ \t]*(?:\[|\Z))", re.MULTILINE)
"""Before each line that begins a table, and before each line of the comments above it."""


def _is_listed(upstream: str, row: Any) -> bool:
    return (
        isinstance(row, dict)
        and row.get("source") == SOURCE
        and isinstance(row.get("id"), str)
        and row["id"].startswith(row_id(upstream, ""))
    )


def _is_listed_part(upstream: str, part: str) -> bool:
    try:
        rows = tomllib.loads(part).get("price")
    except tomllib.TOMLDecodeError:
        return False
    return isinstance(rows, list) and len(rows) == 1 and _is_listed(upstream, rows[0])


def _quoted(text: str) -> str:
    escaped = "".join(_ESCAPES.get(each, each) for each in text if each.isprintable())
    return f'"{escaped}"'


_ESCAPES: Final[Mapping[str, str]] = {"\\": "\\\\", '"': '\\"'}
