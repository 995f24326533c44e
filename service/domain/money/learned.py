"""Prices that are learned from charges, where no price list states a bound. Pure."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

from service.domain.money.amounts import Amount, rounded
from service.domain.money.quotes import Quote

ENOUGH: Final = 30
"""Charges of a kind from which on a bound is learned."""
MARGIN: Final = Decimal("1.25")
"""The bound is this many times the 99th percentile."""
_PART: Final = 0.99
Kind = tuple[str, str, str, str | None]
"""The upstream, the family, the operation and the model."""


@dataclasses.dataclass(frozen=True, slots=True)
class Charge:
    """The price of a delivered job, as its provider stated it."""

    kind: Kind
    amount: Amount


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """The prices of a kind of jobs."""

    low: Decimal
    expected: Decimal
    high: Decimal
    unit: str
    count: int

    def quote(self, known: Quote, usd: Decimal | None) -> Quote:
        """Return a quote without a bound with the learned one.

        :param usd: the worth of one unit in US dollars
        """
        why = f"learned from {self.count} charges; the fields of this request may make it dearer"
        return dataclasses.replace(
            known,
            bound="observed",
            low=self.low,
            expected=self.expected,
            high=self.high,
            unit=self.unit,
            usd=usd,
            why=(*known.why, why),
        )


def bounds_of(charges: Iterable[Charge]) -> dict[Kind, Learned]:
    """Return the prices of each kind that was charged often enough, in one unit alone."""
    found: dict[Kind, list[Amount]] = defaultdict(list)
    for each in charges:
        found[each.kind].append(each.amount)
    return {
        kind: _of(sorted(each.value for each in amounts), amounts[0].unit)
        for kind, amounts in found.items()
        if len(amounts) >= ENOUGH and len({each.unit for each in amounts}) == 1
    }


def _of(values: list[Decimal], unit: str) -> Learned:
    near_the_top = values[math.ceil(len(values) * _PART) - 1]
    return Learned(
        low=values[0],
        expected=values[len(values) // 2],
        high=rounded(near_the_top * MARGIN, up=True),
        unit=unit,
        count=len(values),
    )


Prices = Mapping[Kind, Learned]
