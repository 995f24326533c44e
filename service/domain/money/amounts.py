"""Amounts: a decimal number and its unit. Amounts of different units are never added."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context, Decimal, DecimalException
from typing import Any, Final

PLACES: Final = 9
"""Decimal places that an amount keeps."""
STEP: Final = Decimal(1).scaleb(-PLACES)
LIMIT: Final = Decimal(10) ** 9
"""Amounts are smaller than this: larger ones are mistakes of whoever states them."""
MAX_TEXT: Final = 40
"""Characters of a number that is read."""
CURRENCY: Final = "USD"
"""The unit in which amounts of different units are compared, where their rates are known."""
_UNIT: Final = re.compile(r"[A-Za-z][A-Za-z0-9 _/.-]{0,39}")
_EXACT: Final = Context(prec=60)


@dataclasses.dataclass(frozen=True, slots=True)
class Amount:
    """A number of units."""

    value: Decimal
    unit: str

    def as_json(self) -> dict[str, str]:
        """Return the JSON object that the API shows and the store keeps."""
        return {"amount": plain(self.value), "unit": self.unit}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "Amount":
        """Read what :meth:`as_json` gave."""
        return cls(Decimal(kept["amount"]), kept["unit"])

    def __str__(self) -> str:
        """Return the amount as people read it."""
        return f"{plain(self.value)} {self.unit}"


def read_number(value: Any) -> Decimal | None:
    """Return a provider's number as a decimal; None where it is none, is negative, or is larger than any price.

    A float becomes the shortest decimal that reads as the same float: the one that the provider wrote.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    text = str(value).strip()
    if len(text) > MAX_TEXT:
        return None
    try:
        number = Decimal(text)
    except DecimalException:
        return None
    if not number.is_finite() or number.is_signed() or number.adjusted() >= LIMIT.adjusted():
        return None
    return rounded(number)


def is_unit(text: Any) -> bool:
    """Return whether a text may be the name of a unit."""
    return isinstance(text, str) and _UNIT.fullmatch(text) is not None


def rounded(number: Decimal, *, up: bool = False) -> Decimal:
    """Return a number with the places that an amount keeps."""
    return _EXACT.quantize(number, STEP) if not up else number.quantize(STEP, ROUND_CEILING, context=_EXACT)


def bounded(number: Decimal) -> Decimal | None:
    """Return a computed amount; None where it is larger than any price: no column could hold it."""
    return number if number < LIMIT else None


def plain(number: Decimal) -> str:
    """Return a number as text without an exponent and without zeros at the end: ``0.05``."""
    text = f"{number.quantize(STEP, ROUND_HALF_EVEN, context=_EXACT):f}"
    text = text.rstrip("0").rstrip(".")
    return "0" if text in {"", "-0"} else text


def total(amounts: Iterable[Amount]) -> dict[str, Decimal]:
    """Return the sum of amounts of each unit."""
    sums: dict[str, Decimal] = {}
    for each in amounts:
        sums[each.unit] = sums.get(each.unit, Decimal(0)) + each.value
    return sums
