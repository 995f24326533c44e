"""Read a price book from a document, and report every mistake in it."""

import dataclasses
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Final, get_args

from service.domain.money.amounts import is_unit, read_number
from service.domain.money.quotes import PriceBook, Rate
from service.domain.money.rules import MAX_FIELDS, Addition, Formula, Per, Policy, Quantity, Rule
from service.domain.validation import MAX_MISTAKES, Mistake, nearest, quote

VERSION: Final = 1
MAX_ROWS: Final = 5_000
_ROW: Final = frozenset(
    [
        "id",
        "upstream",
        "family",
        "operation",
        "model",
        "when",
        "unit",
        "per",
        "rate",
        "rate_low",
        "next",
        "quantity",
        "token_rates",
        "count",
        "formula",
        "add",
        "minimum",
        "prompt_options",
        "base_only",
        "failed",
        "moderated",
        "cancelled",
        "source",
        "url",
        "checked",
        "valid_from",
        "valid_until",
    ]
)
_QUANTITY: Final = frozenset(["field", "min", "default", "max", "step"])
_UNIT: Final = frozenset(["usd", "checked"])
_POLICIES: Final = ("failed", "moderated", "cancelled")
_TEXTS: Final = {"id": "", "upstream": "", "family": "*", "operation": "*", "source": "hand", "url": ""}
"""Fields with a text, and the texts where they are missing."""
_NEEDED: Final = ("id", "upstream", "unit", "rate", "checked")


@dataclasses.dataclass(slots=True)
class _Reader:
    """Reads values of a document, and keeps every mistake."""

    mistakes: list[Mistake] = dataclasses.field(default_factory=list)

    def fault(self, where: str, words: str) -> None:
        self.mistakes.append(Mistake(where, words))

    def known(self, where: str, row: Mapping[str, Any], names: Collection[str]) -> None:
        for name in row.keys() - names:
            self.fault(f"{where}.{name[:80]}", f"unknown field{nearest(name, names)}")

    def table(self, where: str, value: Any) -> Mapping[str, Any]:
        if isinstance(value, Mapping):
            return value
        self.fault(where, f"must be a table (got {quote(value)})")
        return {}

    def text(self, where: str, value: Any, default: str = "") -> str:
        if value is None:
            return default
        if isinstance(value, str) and 0 < len(value) <= 300:  # noqa: PLR2004 - the longest URL
            return value
        self.fault(where, f"must be a text of 1 to 300 characters (got {quote(value)})")
        return default

    def word(self, where: str, value: Any, allowed: Sequence[str], default: str) -> Any:
        if value is None:
            return default
        if value in allowed:
            return value
        self.fault(where, f"must be one of {', '.join(allowed)} (got {quote(value)})")
        return default

    def number(self, where: str, value: Any) -> Decimal | None:
        if value is None:
            return None
        number = None if isinstance(value, float) else read_number(value)
        if number is None:
            hint = "a number in quotes, so that it is exact" if isinstance(value, float) else "a number of 0 or more"
            self.fault(where, f'must be {hint}, such as "0.05" (got {quote(value)})')
        return number

    def day(self, where: str, value: Any) -> date | None:
        if value is None:
            return None
        if type(value) is date:
            return value
        try:
            return date.fromisoformat(value)
        except (TypeError, ValueError):
            self.fault(where, f"must be a day such as 2026-11-26 (got {quote(value)})")
            return None

    def quantity(self, where: str, value: Any) -> Quantity | None:
        if value is None:
            return None
        row = self.table(where, value)
        self.known(where, row, _QUANTITY)
        names = row.get("field")
        fields = tuple(names) if isinstance(names, list) else (names,)
        if not fields or not all(isinstance(each, str) and each for each in fields):
            self.fault(f"{where}.field", "must be the name of a field, or a list of names")
            return None
        numbers = {name: self.number(f"{where}.{name}", row.get(name)) for name in ("min", "default", "max", "step")}
        if numbers["step"] is not None and not numbers["step"]:
            self.fault(f"{where}.step", "must be more than 0")
            return None
        return Quantity(
            fields=fields,
            low=Decimal(1) if numbers["min"] is None else numbers["min"],
            default=numbers["default"],
            high=numbers["max"],
            step=numbers["step"] or Decimal(1),
        )


def read_book(document: Any, *, layer: int = 0) -> tuple[PriceBook, list[Mistake]]:
    """Read a price book; return it with the mistakes of the document.

    :param layer: 0 for the prices that come with Dovecote, more for those that count more
    """
    reader = _Reader()
    whole = reader.table("prices", document)
    reader.known("prices", whole, ("schema", "unit", "price"))
    if whole and whole.get("schema") != VERSION:
        reader.fault("schema", f"must be {VERSION} (got {quote(whole.get('schema'))})")
    rows = whole.get("price", [])
    if not isinstance(rows, list) or len(rows) > MAX_ROWS:
        reader.fault("price", f"must be a list of at most {MAX_ROWS} tables")
        rows = []
    rules = [_rule(reader, f"price.{number}", row, layer) for number, row in enumerate(rows)]
    found = [rule for rule in rules if rule is not None]
    _check_ids(reader, found)
    _check_overlaps(reader, found)
    return PriceBook(tuple(found), _rates(reader, whole.get("unit", {}))), reader.mistakes[:MAX_MISTAKES]


def merged(below: PriceBook, above: PriceBook) -> PriceBook:
    """Return both price lists as one. A row with the id of another replaces it."""
    replaced = {rule.id for rule in above.rules}
    kept = tuple(rule for rule in below.rules if rule.id not in replaced)
    return PriceBook(kept + above.rules, {**below.rates, **above.rates})


def _rates(reader: _Reader, document: Any) -> dict[tuple[str, str], Rate]:
    rates: dict[tuple[str, str], Rate] = {}
    for upstream, units in reader.table("unit", document).items():
        for unit, value in reader.table(f"unit.{upstream}", units).items():
            where = f"unit.{upstream}.{unit}"
            row = reader.table(where, value)
            reader.known(where, row, _UNIT)
            usd, checked = (
                reader.number(f"{where}.usd", row.get("usd")),
                reader.day(f"{where}.checked", row.get("checked")),
            )
            if not usd or checked is None:
                reader.fault(
                    where, 'needs usd, which is more than 0, and checked: { usd = "0.01", checked = "2026-11-26" }'
                )
            elif not is_unit(unit):
                reader.fault(where, f"{quote(unit)} is no name of a unit")
            else:
                rates[upstream, unit] = Rate(usd=usd, checked=checked)
    return rates


def _rule(reader: _Reader, where: str, value: Any, layer: int) -> Rule | None:
    row = reader.table(where, value)
    before = len(reader.mistakes)
    if isinstance(row.get("id"), str):
        where = f"price {row['id'][:80]!r}"
    reader.known(where, row, _ROW)
    for name in _NEEDED:
        if row.get(name) is None:
            reader.fault(f"{where}.{name}", "is required")
    checked, rate = reader.day(f"{where}.checked", row.get("checked")), reader.number(f"{where}.rate", row.get("rate"))
    per: Per = reader.word(f"{where}.per", row.get("per"), get_args(Per), "job")
    formula: Formula | None = reader.word(f"{where}.formula", row.get("formula"), get_args(Formula), "") or None
    quantity = reader.quantity(f"{where}.quantity", row.get("quantity"))
    unit = reader.text(f"{where}.unit", row.get("unit"))
    if unit and not is_unit(unit):
        reader.fault(f"{where}.unit", f"{quote(unit)} is no name of a unit")
    starts, ends = (reader.day(f"{where}.{name}", row.get(name)) for name in ("valid_from", "valid_until"))
    low, further, minimum = (
        reader.number(f"{where}.{name}", row.get(name)) for name in ("rate_low", "next", "minimum")
    )
    policies: dict[str, Policy] = {
        name: reader.word(f"{where}.{name}", row.get(name), get_args(Policy), "unknown") for name in _POLICIES
    }
    texts = {name: reader.text(f"{where}.{name}", row.get(name), default) for name, default in _TEXTS.items()}
    model = reader.text(f"{where}.model", row.get("model")) or None
    when, add = _conditions(reader, where, row.get("when", {})), _additions(reader, where, row.get("add", []))
    count = reader.quantity(f"{where}.count", row.get("count"))
    token_rates = _token_rates(reader, where, row.get("token_rates", {}))
    if starts is not None and ends is not None and ends < starts:
        reader.fault(f"{where}.valid_until", "is before valid_from")
    if low is not None and rate is not None and low > rate:
        reader.fault(f"{where}.rate_low", "is more than rate")
    if len(reader.mistakes) > before or rate is None or checked is None:
        return None
    return Rule(
        **texts,
        model=model,
        when=when,
        unit=unit,
        per=per,
        rate=rate,
        rate_low=low,
        next=further,
        token_rates=token_rates,
        quantity=quantity,
        count=count,
        formula=formula,
        add=add,
        minimum=minimum or Decimal(0),
        prompt_options=row.get("prompt_options") is True,
        base_only=row.get("base_only") is True,
        failed=policies["failed"],
        moderated=policies["moderated"],
        cancelled=policies["cancelled"],
        checked=checked,
        valid_from=starts,
        valid_until=ends,
        layer=layer,
    )


def _token_rates(reader: _Reader, where: str, value: Any) -> dict[str, Decimal]:
    row = reader.table(f"{where}.token_rates", value)
    found = {name: reader.number(f"{where}.token_rates.{name}", rate) for name, rate in list(row.items())[:MAX_FIELDS]}
    return {name: rate for name, rate in found.items() if rate is not None}


def _conditions(reader: _Reader, where: str, value: Any) -> dict[str, tuple[str, ...]]:
    row = reader.table(f"{where}.when", value)
    if len(row) > MAX_FIELDS:
        reader.fault(f"{where}.when", f"has more than {MAX_FIELDS} fields")
    return {
        name: tuple(str(each).lower() for each in (wanted if isinstance(wanted, list) else [wanted]))
        for name, wanted in row.items()
    }


def _additions(reader: _Reader, where: str, value: Any) -> tuple[Addition, ...]:
    if not isinstance(value, list):
        reader.fault(f"{where}.add", "must be a list of tables with field and rate")
        return ()
    found: list[Addition] = []
    for number, each in enumerate(value[:MAX_FIELDS]):
        row = reader.table(f"{where}.add.{number}", each)
        rate = reader.number(f"{where}.add.{number}.rate", row.get("rate"))
        field = reader.text(f"{where}.add.{number}.field", row.get("field"))
        if rate is None or not field:
            reader.fault(f"{where}.add.{number}", "needs field and rate")
        else:
            found.append(Addition(field=field, rate=rate))
    return tuple(found)


def _check_ids(reader: _Reader, rules: Iterable[Rule]) -> None:
    seen: set[str] = set()
    for rule in rules:
        if rule.id in seen:
            reader.fault(f"price {rule.id[:80]!r}", "there are two rows with this id; give each its own")
        seen.add(rule.id)


def _check_overlaps(reader: _Reader, rules: Sequence[Rule]) -> None:
    """Report rows that are equally narrow and about the same purchase on the same day: none of them counts more."""
    groups: dict[tuple[Any, ...], list[Rule]] = {}
    for rule in rules:
        groups.setdefault((rule.upstream, rule.family, rule.operation, rule.model, frozenset(rule.when)), []).append(
            rule
        )
    for group in groups.values():
        for one, other in itertools.combinations(group, 2):
            same = all(set(one.when[name]) & set(other.when[name]) for name in one.when)
            if same and _on_a_day(one, other):
                words = (
                    f"is about the same purchases as {other.id[:80]!r} on the same days; remove one, or set valid_until"
                )
                reader.fault(f"price {one.id[:80]!r}", words)


def _on_a_day(one: Rule, other: Rule) -> bool:
    begins = max(one.valid_from or date.min, other.valid_from or date.min)
    return begins <= min(one.valid_until or date.max, other.valid_until or date.max)
