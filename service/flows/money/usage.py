"""Usage: sums by client, family, model, upstream, label and day, in each unit. Units are never added."""

import dataclasses
import datetime as dt
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from service.domain.money.amounts import Amount, plain
from service.domain.money.quotes import converted
from service.flows.context import Context
from service.store.money import usage as store
from service.store.money.usage import Sum

ZERO = Decimal(0)


@dataclasses.dataclass(slots=True)
class Used:
    """The sums of one group in one unit."""

    charged: Decimal = ZERO
    probably_charged: Decimal = ZERO
    returned: Decimal = ZERO
    """Prices that were given back."""
    probably_returned: Decimal = ZERO
    undelivered: Decimal = ZERO
    """The part of the charges that brought no result."""
    usd: Decimal | None = ZERO
    """Charges and probable charges in US dollars; None where a rate is not known."""
    submissions: int = 0
    computed: int = 0
    """How many amounts follow from a price and not from the provider's figure."""
    unknown: int = 0
    """How many have no amount."""

    def add(self, each: Sum) -> None:
        """Add entries."""
        self.submissions += each.count
        self.computed += each.count if each.computed else 0
        match each.verdict:
            case "charged":
                self.charged += each.amount
            case "probably_charged":
                self.probably_charged += each.amount
            case "refunded":
                self.returned += each.gross
            case "probably_refunded":
                self.probably_returned += each.gross
        if each.unit is None:
            self.unknown += each.count
        if not each.delivered:
            self.undelivered += each.amount
        rate = Decimal(1) if each.unit == "USD" else each.usd
        if each.amount and (rate is None or self.usd is None):
            self.usd = None
        elif each.amount and rate is not None and self.usd is not None:
            self.usd += each.amount * rate

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that the API shows."""
        return {
            "charged": plain(self.charged),
            "probably_charged": plain(self.probably_charged),
            "returned": plain(self.returned),
            "probably_returned": plain(self.probably_returned),
            "undelivered": plain(self.undelivered),
            "usd": None if self.usd is None else plain(self.usd),
            "submissions": self.submissions,
            "computed": self.computed,
            "unknown": self.unknown,
        }


def rows_of(sums: Iterable[Sum], by: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for each group and unit, in order."""
    found: dict[tuple[tuple[str, ...], str], Used] = {}
    for each in sums:
        found.setdefault((each.group, each.unit or ""), Used()).add(each)
    return [
        {**dict(zip(by, group, strict=True)), "unit": unit or None, **used.as_json()}
        for (group, unit), used in sorted(found.items())
    ]


async def used_in_a_day(context: Context, upstream: str, unit: str) -> Decimal:
    """Return what was charged at an upstream in the last 24 hours, in a unit, as far as rates lead there."""
    since = context.now() - dt.timedelta(days=1)
    async with context.database.reading() as connection:
        found = await store.sums(connection, by=["upstream"], since=since, until=None, client=None)
    amounts = (
        converted(Amount(each.amount, each.unit), unit, each.usd)
        for each in found
        if each.group == (upstream,) and each.unit is not None and each.verdict in {"charged", "probably_charged"}
    )
    return sum((each for each in amounts if each is not None), ZERO)
