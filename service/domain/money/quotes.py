"""Quotes: what a purchase is expected to cost, and at most, by the price book."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final, Literal

from service.domain.money.amounts import CURRENCY, Amount, bounded, plain, rounded
from service.domain.money.rules import Policy, Purchase, Quantity, Rule
from service.domain.money.shapes import MILLION, megapixels, video_tokens

Bound = Literal["exact", "upper", "observed", "none"]
"""How sure the upper bound is: the price itself, a bound of it, learned from settled jobs, or not known."""
_PROMPT_OPTION: Final = re.compile(r"(?:^|\s)--[a-z]{1,20}\b", re.IGNORECASE)
STALE_AFTER: Final = timedelta(days=120)
"""The age from which on a price is called old."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The worth of a unit in US dollars."""

    usd: Decimal
    checked: date


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """The expected price of a task at an upstream. It is frozen when the task is submitted."""

    upstream: str
    bound: Bound = "none"
    low: Decimal | None = None
    expected: Decimal | None = None
    high: Decimal | None = None
    """The upper bound."""
    unit: str | None = None
    usd: Decimal | None = None
    """The worth of one unit in US dollars; None where that is not known."""
    price_id: str | None = None
    checked: str | None = None
    """The day on which the price was read."""
    failed: Policy = "unknown"
    moderated: Policy = "unknown"
    cancelled: Policy = "unknown"
    url: str = ""
    rate: Decimal | None = None
    per: str | None = None
    token_rates: Mapping[str, Decimal] = dataclasses.field(default_factory=dict)
    """Rates of a million tokens by kind: they count when the answer states the tokens."""
    why: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether there is an upper bound."""
        return self.bound != "none" and self.high is not None and self.unit is not None

    def bound_in(self, unit: str) -> Decimal | None:
        """Return the upper bound in a unit, rounded up; None where it is not known."""
        return (
            None if self.high is None or self.unit is None else converted(Amount(self.high, self.unit), unit, self.usd)
        )

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that the API shows and the store keeps."""
        usd_high = self.bound_in(CURRENCY)
        return {
            "upstream": self.upstream,
            "bound": self.bound,
            "low": _text(self.low),
            "expected": _text(self.expected),
            "max": _text(self.high),
            "unit": self.unit,
            "usd_max": _text(usd_high),
            "usd_per_unit": _text(self.usd),
            "price_id": self.price_id,
            "price_checked": self.checked,
            "rate": _text(self.rate),
            "per": self.per,
            "token_rates": {name: plain(rate) for name, rate in self.token_rates.items()},
            "if_failed": self.failed,
            "if_moderated": self.moderated,
            "if_cancelled": self.cancelled,
            "policy_url": self.url or None,
            "why": list(self.why),
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "Quote":
        """Read what :meth:`as_json` gave."""
        return cls(
            upstream=kept["upstream"],
            bound=kept["bound"],
            low=_number(kept["low"]),
            expected=_number(kept["expected"]),
            high=_number(kept["max"]),
            unit=kept["unit"],
            usd=_number(kept["usd_per_unit"]),
            price_id=kept["price_id"],
            checked=kept["price_checked"],
            rate=_number(kept["rate"]),
            per=kept["per"],
            token_rates={name: Decimal(rate) for name, rate in kept.get("token_rates", {}).items()},
            failed=kept["if_failed"],
            moderated=kept["if_moderated"],
            cancelled=kept["if_cancelled"],
            url=kept["policy_url"] or "",
            why=tuple(kept["why"]),
        )


def unknown(upstream: str) -> Quote:
    """Return the quote of an upstream whose price is not known."""
    return Quote(upstream=upstream, why=("no price is known",))


def converted(amount: Amount, unit: str, usd: Decimal | None) -> Decimal | None:
    """Return an amount in another unit, rounded up; None where no rate leads there.

    :param usd: what one of its units is worth in US dollars
    """
    if amount.unit == unit:
        return amount.value
    return bounded(rounded(amount.value * usd, up=True)) if unit == CURRENCY and usd is not None else None


def _text(number: Decimal | None) -> str | None:
    return None if number is None else plain(number)


def _number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


@dataclasses.dataclass(frozen=True, slots=True)
class PriceBook:
    """All known prices, and the rates of their units."""

    rules: tuple[Rule, ...] = ()
    rates: Mapping[tuple[str, str], Rate] = dataclasses.field(default_factory=dict)
    """By the upstream's name or kind, and the unit."""

    def about(self, upstream: str, kind: str) -> "PriceBook":
        """Return the part that is about one upstream."""
        return PriceBook(tuple(rule for rule in self.rules if rule.is_of(upstream, kind)), self.rates)

    def quote(self, purchase: Purchase, *, on: date) -> Quote:
        """Return the quote for a purchase on a day."""
        fitting = [rule for rule in self.rules if rule.is_about(purchase, on)]
        if not fitting:
            return unknown(purchase.upstream)
        overridden = any(rule.prompt_options for rule in fitting) and _has_prompt_options(purchase)
        certain = [] if overridden else [rule for rule in fitting if rule.meets(purchase)]
        if certain:
            best = max(rule.specificity(purchase) for rule in certain)
            chosen = [rule for rule in certain if rule.specificity(purchase) == best]
            why: tuple[str, ...] = ()
        else:
            chosen = fitting if overridden else [rule for rule in fitting if rule.meets(purchase) is None]
            names = sorted({name for rule in chosen for name in rule.when})
            why = (f"not known: {', '.join(names)}",) if names else ()
            why = (*why, "words in the prompt override fields") if overridden else why
        if not chosen:
            return Quote(upstream=purchase.upstream, why=("no price is known for these fields",))
        return self._combined(purchase, chosen, on, why, overridden=overridden)

    def _combined(
        self, purchase: Purchase, rules: Sequence[Rule], on: date, why: tuple[str, ...], *, overridden: bool
    ) -> Quote:
        """Return the quote of the rows that may count. Of several, the range spans all of them."""
        quotes = [self._of_rule(purchase, rule, on, overridden=overridden) for rule in rules]
        if len(quotes) == 1:
            return dataclasses.replace(quotes[0], why=(*quotes[0].why, *why))
        unknown = [each for each in quotes if not each.known]
        if unknown or len({each.unit for each in quotes}) > 1:
            first = unknown[0] if unknown else quotes[0]
            return Quote(upstream=purchase.upstream, price_id=first.price_id, why=(*why, *first.why))
        dearest = max(quotes, key=lambda each: each.high or Decimal(0))
        lows = [each.low for each in quotes if each.low is not None]
        return dataclasses.replace(dearest, bound="upper", low=min(lows), why=(*dearest.why, *why))

    def _of_rule(self, purchase: Purchase, rule: Rule, on: date, *, overridden: bool) -> Quote:
        rate = self.rates.get((purchase.upstream, rule.unit)) or self.rates.get((purchase.kind, rule.unit))
        usd = Decimal(1) if rule.unit == CURRENCY else None if rate is None else rate.usd
        low, high, why = _price(purchase, rule, overridden=overridden)
        if on - rule.checked > STALE_AFTER:
            why = (*why, f"the price was read on {rule.checked}")
        return Quote(
            upstream=purchase.upstream,
            bound="none" if high is None else "exact" if low == high else "upper",
            low=low,
            expected=high if low is None or high is None or rule.rate_low is None else rounded((low + high) / 2),
            high=high,
            unit=rule.unit,
            usd=usd,
            price_id=rule.id,
            checked=rule.checked.isoformat(),
            failed=rule.failed,
            moderated=rule.moderated,
            cancelled=rule.cancelled,
            url=rule.url,
            rate=rule.rate,
            per=rule.per,
            token_rates=rule.token_rates,
            why=(f"{plain(rule.rate)} {rule.unit} per {rule.per}", *why),
        )


def _price(
    purchase: Purchase, rule: Rule, *, overridden: bool
) -> tuple[Decimal | None, Decimal | None, tuple[str, ...]]:
    """Return the lowest and the highest price by a row, and what it rests on."""
    low, high, why = _quantities(purchase, rule, overridden=overridden)
    if high is None:
        return None, None, why
    scale = Decimal(1) / MILLION if rule.per == "1M_tokens" else Decimal(1)
    counts = _counts(purchase, rule)
    if counts is None:
        return None, None, (*why, "the number of outputs is not known")
    added = sum((each.read(purchase) for each in rule.add), Decimal(0))
    cheapest = rule.rate if rule.rate_low is None else rule.rate_low
    least = max(_stepped(cheapest, rule.next, low or high) * scale * counts[0] + added, rule.minimum)
    most = max(_stepped(rule.rate, rule.next, high) * scale * counts[1] + added, rule.minimum)
    if bounded(most) is None:
        return None, None, (*why, "the product is larger than any price")
    return rounded(least), rounded(most, up=True), why


def _stepped(rate: Decimal, further: Decimal | None, quantity: Decimal) -> Decimal:
    return rate * quantity if further is None else rate + further * (quantity - 1)


def _counts(purchase: Purchase, rule: Rule) -> tuple[Decimal, Decimal] | None:
    if rule.count is None:
        return Decimal(1), Decimal(1)
    found = rule.count.read(purchase)
    if found is not None:
        return found, found
    return None if rule.count.high is None else (rule.count.low, rule.count.high)


def _quantities(
    purchase: Purchase, rule: Rule, *, overridden: bool
) -> tuple[Decimal | None, Decimal | None, tuple[str, ...]]:
    """Return the least and the largest quantity that a row multiplies; None where it has no bound."""
    if rule.base_only:
        return None, None, ("the upstream multiplies it by factors of the request",)
    if rule.per == "job":
        return Decimal(1), Decimal(1), ()
    if rule.formula == "megapixels":
        found = megapixels(purchase) or (None, None)
        return *found, ("the size is not known" if found[1] is None else f"{plain(found[1])} megapixels",)
    if rule.quantity is None:
        return None, None, (f"the number of {rule.per}s is not known before the end",)
    return _of_field(purchase, rule, rule.quantity, overridden=overridden)


def _of_field(
    purchase: Purchase, rule: Rule, quantity: Quantity, *, overridden: bool
) -> tuple[Decimal | None, Decimal | None, tuple[str, ...]]:
    """Return the least and the largest quantity that a field states."""
    stated = None if overridden else quantity.read(purchase)
    low, high = (stated, stated) if stated is not None else (quantity.low, quantity.high)
    name = quantity.fields[0]
    if high is None:
        return None, None, (f"{name} is not known, and has no limit",)
    why = (f"{name} {plain(high)}" if stated is not None else f"{name} up to {plain(high)}",)
    if rule.formula != "video_tokens":
        return low, high, why
    least, most = (_tokens(purchase, rule, each) for each in (low, high))
    return (None, None, ("the resolution is not known",)) if most is None else (least, most, (*why, f"{most} tokens"))


def _tokens(purchase: Purchase, rule: Rule, seconds: Decimal) -> Decimal | None:
    """Return the tokens of a video at the largest resolution that a row is about."""
    named = [each for each in rule.when.get("resolution", ()) if each]
    own = str(purchase.value(("resolution",)) or "").lower()
    names = [own] if own in named or not named else named
    found = [video_tokens(name, seconds) for name in names]
    return None if None in found else max(each for each in found if each is not None)


def _has_prompt_options(purchase: Purchase) -> bool:
    prompt = purchase.fields.get("prompt")
    return isinstance(prompt, str) and _PROMPT_OPTION.search(prompt) is not None
