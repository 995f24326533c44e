"""The prices of the demo, and the money of each of its tasks: quoted, paid, refunded and owed."""

import dataclasses
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from service.domain.money.amounts import Amount, total

PRICES: Final = """\
schema = 1

[[price]]
id = "demo-runway"
upstream = "elkapi"
family = "runway"
unit = "points"
rate = "160"
failed = "refunded"
checked = 2026-11-27
"""
"""The price list of the demo: as the sandbox charges."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """The amounts of one task, as people read them."""

    quote: str
    paid: str
    refunded: str
    owed: str
    """Charged, or perhaps charged, and not delivered."""


def bill(task: Mapping[str, Any]) -> Bill:
    """Return the bill of a task."""
    entries = task.get("settlements", ())
    upstream = task.get("upstream")
    quote = next((each for each in task.get("quote", ()) if each["upstream"] == upstream and each["max"]), None)
    return Bill(
        quote="unknown" if quote is None else f"{quote['expected']} {quote['unit']}",
        paid=_sum(entries, "amount", {"charged"}),
        refunded=_sum(entries, "gross", {"refunded"}),
        owed=_sum([each for each in entries if not each["delivered"]], "amount", {"charged", "probably_charged"}),
    )


def _sum(entries: Any, field: str, verdicts: set[str]) -> str:
    chosen = [each for each in entries if each["verdict"] in verdicts and each[field] is not None and each["unit"]]
    sums = total(Amount(Decimal(each[field]), each["unit"]) for each in chosen)
    return ", ".join(str(Amount(value, unit)) for unit, value in sorted(sums.items()) if value) or "–"
