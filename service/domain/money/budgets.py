"""Budgets: how much a client may spend in a day or a month, and the hold of each submission on them. Pure."""

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal, cast

from service.domain.money.amounts import CURRENCY, Amount, is_unit, plain, read_number
from service.domain.money.quotes import Quote, converted
from service.domain.money.terms import Unpriced, WhenOver

Period = Literal["day", "month"]
EACH: Final = "*"
"""As a client: every client has the budget for itself."""
_DECEMBER: Final = 12


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A limit of what may be spent in a period."""

    name: str
    client: str | None = None
    """The client that it is for; ``*``: each client for itself; None: all clients together."""
    label: str | None = None
    """A label that tasks must have: ``project=intro``; ``project``: each value for itself."""
    upstream: str | None = None
    period: Period
    limit: Decimal
    soft: Decimal | None = None
    """Above this amount operators get a message."""
    unit: str
    when_over: WhenOver = "refuse"
    unpriced: Unpriced = "refuse"

    def scope(self, client: str, labels: Mapping[str, str], upstream: str) -> str | None:
        """Return the part of the budget that a task counts in; None where the budget is not about it."""
        if self.client not in {None, EACH, client} or self.upstream not in {None, upstream}:
            return None
        parts = [_part(client)] if self.client == EACH else []
        if self.label is not None:
            name, equals, value = self.label.partition("=")
            if name not in labels or (equals and labels[name] != value):
                return None
            parts += [] if equals else [_part(labels[name])]
        return "/".join(parts)

    def is_of(self, client: str, scope: str) -> bool:
        """Return whether a part of it is a client's own."""
        return self.client == client or (self.client == EACH and scope.partition("/")[0] == _part(client))

    def as_json(self) -> dict[str, str | None]:
        """Return the fields that :func:`budget_of` reads."""
        return {
            "client": self.client,
            "label": self.label,
            "upstream": self.upstream,
            "period": self.period,
            "limit": plain(self.limit),
            "soft": None if self.soft is None else plain(self.soft),
            "unit": self.unit,
            "over": self.when_over,
            "unpriced": self.unpriced,
        }


def _part(name: str) -> str:
    """Return a name as a part of a scope: two names never make the scope of two others."""
    return name.replace("%", "%25").replace("/", "%2F")


_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "period": ("day", "month"),
    "over": ("refuse", "wait"),
    "unpriced": ("refuse", "allow"),
}
_FIELDS: Final = ("client", "label", "upstream", "limit", "soft", "unit", *_WORDS)
NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$"
"""The pattern of a budget's name that is set by the API."""


def read_budget(text: str) -> Budget:
    """Read a budget, such as ``shop-month client=shop period=month limit=100 soft=80``.

    :raises ValueError: with the fault
    """
    name, *parts = text.split() or [""]
    given = dict(part.partition("=")[::2] for part in parts)
    unknown = [part for part in parts if part.partition("=")[0] not in _FIELDS or not part.partition("=")[2]]
    if not name or "=" in name or unknown or len(given) < len(parts):
        raise ValueError(
            f"write NAME and fields, each once: {', '.join(f'{field}=…' for field in _FIELDS)} "
            "(such as: shop-month client=shop period=month limit=100)"
        )
    mistakes = faults_in(given)
    if mistakes:
        raise ValueError("; ".join(f"{field} {words}" for field, words in mistakes.items()))
    return budget_of(name, given)


def faults_in(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the faults of a budget's fields, by field. A field that is missing has its default."""
    faults = {
        field: f"must be one of {', '.join(words)}"
        for field, words in _WORDS.items()
        if given.get(field) not in {None, *words}
    }
    for field in ("limit", "soft"):
        if (field == "limit" or given.get(field) is not None) and read_number(given.get(field)) is None:
            faults[field] = "must be a number of 0 or more, such as 12.50"
    if given.get("unit") is not None and not is_unit(given["unit"]):
        faults["unit"] = "must be a unit such as USD or credits"
    label = given.get("label")
    if label is not None and not str(label).partition("=")[0]:
        faults["label"] = "must be a label such as project=intro, or its name"
    return faults


def budget_of(name: str, given: Mapping[str, Any]) -> Budget:
    """Return a budget by its fields, which :func:`faults_in` has found to be right."""
    soft = given.get("soft")
    return Budget(
        name=name,
        client=given.get("client"),
        label=given.get("label"),
        upstream=given.get("upstream"),
        period=cast("Period", given.get("period") or "month"),
        limit=read_number(given["limit"]) or Decimal(0),
        soft=None if soft is None else read_number(soft),
        unit=given.get("unit") or CURRENCY,
        when_over=cast("WhenOver", given.get("over") or "refuse"),
        unpriced=cast("Unpriced", given.get("unpriced") or "refuse"),
    )


Key = tuple[str, str, str]
"""A budget's name, the part of it, and the period."""


@dataclasses.dataclass(slots=True)
class Counter:
    """The held and the spent amount of one part of a budget in one period."""

    held: Decimal = Decimal(0)
    spent: Decimal = Decimal(0)
    soft_noted: bool = False

    @property
    def used(self) -> Decimal:
        """Everything that may not be spent again."""
        return self.held + self.spent


@dataclasses.dataclass(frozen=True, slots=True)
class Hold:
    """The amount that a submission reserves of a budget, in the budget's unit."""

    key: Key
    amount: Decimal
    unit: str

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that the store keeps."""
        return {"key": list(self.key), **Amount(self.amount, self.unit).as_json()}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "Hold":
        """Read what :meth:`as_json` gave."""
        budget, scope, period = kept["key"]
        return cls((budget, scope, period), Decimal(kept["amount"]), kept["unit"])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OverBudget:
    """The reason why a budget has no room for a submission."""

    budget: Budget
    key: Key = ("", "", "")
    needed: Decimal | None
    """None: the price is not known."""
    left: Decimal
    held: Decimal
    renews_at: datetime

    def __str__(self) -> str:
        """Return the reason as a sentence."""
        unit, name = self.budget.unit, self.budget.name
        if self.needed is None:
            return f"the price is not known in {unit}, and the budget {name!r} does not allow that"
        return (
            f"it may cost {Amount(self.needed, unit)}, and the budget {name!r} has {Amount(max(self.left, Decimal(0)), unit)} left"
            f" ({Amount(self.held, unit)} of {Amount(self.budget.limit, unit)} is reserved for tasks in progress); it renews at "
            f"{self.renews_at.isoformat(timespec='seconds').replace('+00:00', 'Z')}"
        )


def period_of(kind: Period, at: datetime) -> str:
    """Return the name of the period of a time: ``2026-11-27`` or ``2026-11``."""
    return at.astimezone(UTC).strftime("%Y-%m-%d" if kind == "day" else "%Y-%m")


def renews_at(kind: Period, at: datetime) -> datetime:
    """Return the time at which the next period begins."""
    start = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if kind == "day":
        return start + timedelta(days=1)
    year, month = (start.year + 1, 1) if start.month == _DECEMBER else (start.year, start.month + 1)
    return start.replace(year=year, month=month, day=1)


def keys_of(
    budgets: Iterable[Budget], client: str, labels: Mapping[str, str], upstream: str, at: datetime
) -> dict[Key, Budget]:
    """Return the parts of budgets that a submission counts in."""
    found: dict[Key, Budget] = {}
    for budget in budgets:
        scope = budget.scope(client, labels, upstream)
        if scope is not None:
            found[budget.name, scope, period_of(budget.period, at)] = budget
    return found


def reserve(
    keys: Mapping[Key, Budget], counters: Mapping[Key, Counter], quote: Quote, *, at: datetime
) -> tuple[Hold, ...] | OverBudget:
    """Return the holds of a submission, or the budget that has no room for it. A hold is never smaller than the bound."""
    holds: list[Hold] = []
    for key, budget in keys.items():
        counter, needed = counters.get(key) or Counter(), quote.bound_in(budget.unit)
        left = budget.limit - counter.used
        if needed is None and budget.unpriced == "allow":
            holds.append(Hold(key, Decimal(0), budget.unit))  # what it costs counts when that is known
            continue
        if needed is None or needed > left:
            return OverBudget(
                budget=budget,
                key=key,
                needed=needed,
                left=left,
                held=counter.held,
                renews_at=renews_at(budget.period, at),
            )
        holds.append(Hold(key, needed, budget.unit))
    return tuple(holds)


def spent_of(hold: Hold, amount: Amount | None, quote: Quote) -> Decimal:
    """Return what a settled amount uses of a budget: as much as was held where it is not known in the budget's unit.

    :param quote: the frozen quote, with the rate of its unit
    """
    if amount is None:
        return hold.amount
    if not amount.value:
        return Decimal(0)
    known = converted(amount, hold.unit, quote.usd if amount.unit == quote.unit else None)
    return hold.amount if known is None else known
