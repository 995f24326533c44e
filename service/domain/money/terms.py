"""The terms of a task's purchase: what it may cost, and which upstream comes first."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, cast

from service.domain.money.amounts import Amount
from service.domain.money.quotes import Quote

Prefer = Literal["route", "cheapest", "fastest"]
Unpriced = Literal["refuse", "allow"]
WhenOver = Literal["refuse", "wait"]
OnModerated = Literal["fail", "retry", "next_upstream"]
MAX_RETRIES: Final = 10


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The limits that a client sets for one task. None: as the settings have it."""

    max_cost: Amount | None = None
    prefer: Prefer | None = None
    when_over_budget: WhenOver | None = None
    on_moderated: OnModerated | None = None
    moderated_retries: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that the store keeps: the fields that are set."""
        kept = {name: value for name in _FIELDS if (value := getattr(self, name)) is not None}
        return kept if self.max_cost is None else {**kept, "max_cost": self.max_cost.as_json()}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "Terms":
        """Read what :meth:`as_json` gave."""
        if not kept:
            return NO_TERMS
        cost = kept.get("max_cost")
        fields = {name: kept.get(name) for name in _FIELDS if name != "max_cost"}
        return cls(max_cost=None if cost is None else Amount.from_json(cost), **cast("Any", fields))


_FIELDS: Final = tuple(field.name for field in dataclasses.fields(Terms))
NO_TERMS: Final = Terms()


def too_dear(quote: Quote, most: Amount, unpriced: Unpriced) -> str | None:
    """Return why a quote does not fit under a limit; None where it fits.

    :param unpriced: whether an upstream may be used whose price is not known
    """
    bound = quote.bound_in(most.unit)
    if bound is None:
        if unpriced == "allow":
            return None
        known = f"its price is known in {quote.unit} only" if quote.known else "its price is not known"
        return f"{known}, so max_cost cannot be kept"
    return None if bound <= most.value else f"it may cost {Amount(bound, most.unit)}, and max_cost is {most}"


def by_price(route: Sequence[str], quotes: Mapping[str, Quote]) -> tuple[str, ...]:
    """Return a route with the cheapest upstream first. Prices that cannot be compared come last, in their order."""
    units = {quote.unit for name in route if (quote := quotes.get(name)) is not None and quote.known}
    unit = next(iter(units)) if len(units) == 1 else "USD"

    def rank(name: str) -> tuple[bool, Any, Any]:
        quote = quotes.get(name)
        bound = None if quote is None or unit is None else quote.bound_in(unit)
        if quote is None or bound is None or quote.expected is None or not quote.high:
            return True, 0, 0
        return False, bound * quote.expected / quote.high, bound

    return tuple(sorted(route, key=rank))


def by_duration(route: Sequence[str], seconds: Mapping[str, float]) -> tuple[str, ...]:
    """Return a route with the fastest upstream first."""
    return tuple(sorted(route, key=lambda name: seconds.get(name, float("inf"))))
