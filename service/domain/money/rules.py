"""A row of the price book: which purchases it is about, and what they cost."""

import dataclasses
import fnmatch
import re
from collections.abc import Mapping
from datetime import date
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final, Literal

from service.domain.money.amounts import read_number

Per = Literal["job", "second", "image", "megapixel", "1M_tokens", "char", "hardware_second"]
Policy = Literal["refunded", "charged", "unknown"]
"""The statement of the upstream's pages about the price of a job without a result."""
Formula = Literal["video_tokens", "megapixels"]
"""How a quantity follows from several fields."""
MAX_FIELDS: Final = 20
_NUMBER: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(?:s|sec|seconds)?")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """A task at an upstream that is about to be bought."""

    upstream: str
    """The name of the upstream in the settings."""
    kind: str
    """The name by which the upstream's host is known; blank where it is not."""
    dialect: str
    family: str
    operation: str
    model: str | None = None
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The input, and the options over it."""

    def value(self, names: tuple[str, ...]) -> Any:
        """Return the value of the first field that is set; None where none is."""
        return next((self.fields[name] for name in names if self.fields.get(name) is not None), None)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """The field that says how many units are bought."""

    fields: tuple[str, ...]
    low: Decimal = Decimal(1)
    """The least that the upstream makes."""
    default: Decimal | None = None
    """The quantity where the field is missing; None: not known, so the largest counts."""
    high: Decimal | None = None
    """The most that the upstream makes; None: not known."""
    step: Decimal = Decimal(1)
    """The step that the upstream rounds up to."""

    def read(self, purchase: Purchase) -> Decimal | None:
        """Return the quantity of a purchase; None where it is not known."""
        value = purchase.value(self.fields)
        number = self.default if value is None else quantity_of(value)
        if number is None:
            return None
        steps = (number / self.step).to_integral_value(ROUND_CEILING)
        return max(steps * self.step, self.low)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """A further price, for a field that is set, or for each entry of a list."""

    field: str
    rate: Decimal

    def read(self, purchase: Purchase) -> Decimal:
        """Return what it adds to a purchase."""
        value = purchase.fields.get(self.field)
        count = len(value) if isinstance(value, list | tuple) else 0 if value in (None, False, "") else 1
        return self.rate * count


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of the price book."""

    id: str
    upstream: str
    """The upstream's name or kind, or a pattern of it."""
    family: str = "*"
    operation: str = "*"
    model: str | None = None
    """A pattern; None: any model, and none."""
    when: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Fields and the values that they must have; an empty text stands for a field that is not set."""
    unit: str
    per: Per = "job"
    rate: Decimal
    rate_low: Decimal | None = None
    """Where the pages name a range: its lower end."""
    next: Decimal | None = None
    """Of further megapixels: their rate."""
    token_rates: Mapping[str, Decimal] = dataclasses.field(default_factory=dict)
    """Rates of a million tokens by kind, where the answer states the tokens: ``text_tokens``, ``image_tokens``, ``output_tokens``."""
    quantity: Quantity | None = None
    count: Quantity | None = None
    """How many outputs are made, where each costs the same."""
    formula: Formula | None = None
    add: tuple[Addition, ...] = ()
    minimum: Decimal = Decimal(0)
    base_only: bool = False
    """Whether the upstream multiplies the rate by factors of the request that no list has: then there is no bound."""
    prompt_options: bool = False
    """Whether words in the prompt, such as ``--rs 1080p``, override the fields."""
    failed: Policy = "unknown"
    moderated: Policy = "unknown"
    cancelled: Policy = "unknown"
    source: str = "hand"
    url: str = ""
    checked: date
    valid_from: date | None = None
    valid_until: date | None = None
    layer: int = 0
    """Rows of the operator count more than those that come with Dovecote."""

    def is_about(self, purchase: Purchase, on: date) -> bool:
        """Return whether it may be the price of a purchase, besides its conditions."""
        if (self.valid_from is not None and on < self.valid_from) or (
            self.valid_until is not None and on > self.valid_until
        ):
            return False
        return (
            self.is_of(purchase.upstream, purchase.kind)
            and _fits(self.family, purchase.family)
            and _fits(self.operation, purchase.operation)
            and (self.model is None or (purchase.model is not None and _fits(self.model, purchase.model)))
        )

    def is_of(self, upstream: str, kind: str) -> bool:
        """Return whether it is about an upstream.

        :param kind: the name by which its host is known; blank where it is not
        """
        return any(_fits(self.upstream, name) for name in (upstream, kind) if name)

    def meets(self, purchase: Purchase) -> bool | None:
        """Return whether a purchase meets the conditions; None where a field is not set and the row names no default."""
        verdict: bool | None = True
        for name, wanted in self.when.items():
            value = purchase.fields.get(name)
            stated = "" if value is None else str(value).lower()
            if stated in wanted:
                continue
            if value is not None:
                return False
            verdict = None
        return verdict

    def specificity(self, purchase: Purchase) -> tuple[int, ...]:
        """Return how narrowly the row describes a purchase: the narrowest row counts."""
        return (
            self.layer,
            2 if self.upstream == purchase.upstream else 1 if self.upstream == purchase.kind else 0,
            _width(self.model),
            _width(self.operation),
            _width(self.family),
            len(self.when),
        )


def _fits(pattern: str, name: str) -> bool:
    return pattern == name or fnmatch.fnmatchcase(name, pattern)


def _width(pattern: str | None) -> int:
    """Return how much of a name a pattern states."""
    if pattern is None or pattern == "*":
        return 0
    stated = len(re.sub(r"[*?]|\[.*?\]", "", pattern))
    return stated + (1000 if stated == len(pattern) else 1)


def quantity_of(value: Any) -> Decimal | None:
    """Return the number that a field states, such as 5, ``"5"`` or ``"5s"``."""
    if isinstance(value, str):
        found = _NUMBER.fullmatch(value.strip().lower())
        value = found[1] if found else None
    return read_number(value)
