"""Settlements: what a submission cost by all that is known, once; and the corrections that follow from later facts. Pure."""

import dataclasses
import hashlib
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal
from uuid import UUID

from service.domain.money.amounts import Amount, bounded, plain
from service.domain.money.quotes import Quote
from service.domain.money.rules import Policy
from service.domain.money.shapes import MILLION

Verdict = Literal["charged", "refunded", "probably_charged", "probably_refunded", "free"]
Basis = Literal["operator", "record", "provider", "balance", "rule", "price", "quote", "none"]
"""The ground of a verdict: an operator's word, the provider's record of charges, its final answer, its balance, its documented
rule, a price and the real quantity, the quote, or nothing."""
Ending = Literal["succeeded", "failed", "moderated", "cancelled", "unknown", "no_job"]
ZERO: Final = Decimal(0)
_RANKS: Final[Mapping[str, int]] = {
    "operator": 6,
    "record": 5,
    "provider": 4,
    "balance": 3,
    "rule": 2,
    "price": 1,
    "quote": 1,
    "none": 0,
}
"""Stronger evidence is never replaced by weaker evidence."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that is known of the price of one submission."""

    ending: Ending
    """How its job ended; ``no_job``: none was created."""
    stated: Amount | None = None
    """The price that the provider states."""
    refunded: bool | None = None
    """Whether the provider says that it has given the price back."""
    refunds: bool = False
    """Whether the provider's pages say that failed jobs are refunded."""
    quote: Quote | None = None
    usage: Mapping[str, Decimal] = dataclasses.field(default_factory=dict)
    """Quantities that the provider states, such as ``tokens`` or ``seconds``."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """The price of one submission, by the evidence so far."""

    verdict: Verdict
    basis: Basis
    amount: Decimal | None = None
    """The amount that is paid, or probably paid, after all refunds; None where it is not known."""
    gross: Decimal | None = None
    """The price before a refund."""
    unit: str | None = None
    delivered: bool = False
    """Whether the submission's job has a result."""
    computed: bool = False
    """Whether the amount follows from a price or a quote, and not from the provider's figure."""
    reason: str = ""

    @property
    def rank(self) -> int:
        """The strength of its evidence."""
        return _RANKS[self.basis]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One booking of the ledger: a settlement, or a correction of one. It is never changed."""

    key: str
    """Unique: the same key is booked once."""
    submission_id: UUID
    upstream: str
    dialect: str
    settlement: Settlement
    change: Decimal | None
    """The amount by which it changes what the submission cost; None where the amount is not known."""
    reverses: Amount | None = None
    """The amount that was booked before in another unit, and is taken back."""
    previous: str | None = None
    """The key of the entry that it corrects."""
    quoted: Decimal | None = None
    quoted_max: Decimal | None = None
    usd: Decimal | None = None
    """The worth of one unit in US dollars, as the quote has it."""
    purchased_at: datetime
    booked_at: datetime
    source: str = ""
    """The source of the evidence: ``callback``, ``poll``, ``log``, ``balance``, ``operator`` …"""
    evidence: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def kind(self) -> Literal["settlement", "correction"]:
        """Whether it is the first booking of its submission."""
        return "settlement" if self.previous is None else "correction"

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that a task, an event and a message have."""
        settled = self.settlement
        return {
            "key": self.key,
            "kind": self.kind,
            "submission": str(self.submission_id),
            "upstream": self.upstream,
            "verdict": settled.verdict,
            "amount": _text(settled.amount),
            "gross": _text(settled.gross),
            "unit": settled.unit,
            "change": _signed(self.change),
            "reverses": None if self.reverses is None else self.reverses.as_json(),
            "corrects": self.previous,
            "basis": settled.basis,
            "computed": settled.computed,
            "delivered": settled.delivered,
            "quoted": _text(self.quoted),
            "quoted_max": _text(self.quoted_max),
            "usd_per_unit": _text(self.usd),
            "reason": settled.reason or None,
            "evidence": dict(self.evidence),
            "source": self.source,
            "purchased_at": _time(self.purchased_at),
            "booked_at": _time(self.booked_at),
        }


def _text(number: Decimal | None) -> str | None:
    return None if number is None else plain(number)


def _signed(number: Decimal | None) -> str | None:
    return None if number is None else f"-{plain(-number)}" if number < 0 else plain(number)


def _time(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def settlement_of(kept: Mapping[str, Any]) -> Settlement:
    """Read the settlement of an entry that :meth:`Entry.as_json` gave."""
    return Settlement(
        verdict=kept["verdict"],
        basis=kept["basis"],
        amount=None if kept["amount"] is None else Decimal(kept["amount"]),
        gross=None if kept["gross"] is None else Decimal(kept["gross"]),
        unit=kept["unit"],
        delivered=kept["delivered"],
        computed=kept["computed"],
        reason=kept["reason"] or "",
    )


def settle(facts: Facts) -> Settlement:
    """Return what a submission cost by the facts."""
    if facts.ending == "no_job":
        unit = None if facts.quote is None else facts.quote.unit
        return Settlement(
            verdict="free", basis="provider", amount=ZERO, gross=ZERO, unit=unit, reason="no job was created"
        )
    if facts.ending == "succeeded":
        return dataclasses.replace(_charged(facts, "charged"), delivered=True)
    if facts.ending == "unknown":
        return dataclasses.replace(_charged(facts, "probably_charged"), reason="the end of the job is not known")
    return _without_result(facts)


def _charged(facts: Facts, verdict: Verdict, basis: Basis | None = None) -> Settlement:
    """Return a settlement at the provider's figure, else at its quantities and the price, else at the quote."""
    stated = facts.stated
    if stated is not None and stated.value > 0:
        return Settlement(
            verdict=verdict, basis=basis or "provider", amount=stated.value, gross=stated.value, unit=stated.unit
        )
    amount, found = _computed(facts)
    unit = None if amount is None or facts.quote is None else facts.quote.unit
    return Settlement(
        verdict=verdict, basis=basis or found, amount=amount, gross=amount, unit=unit, computed=amount is not None
    )


def _computed(facts: Facts) -> tuple[Decimal | None, Basis]:
    """Return the price by the quantities that the provider states, else the quoted price."""
    quote = facts.quote
    if quote is None or quote.unit is None:
        return None, "none"
    product = _of_quantities(quote, facts.usage)
    amount = None if product is None else bounded(product)
    if amount is not None:
        return amount, "price"
    if not quote.known:
        return None, "none"
    likely = quote.high if facts.ending == "unknown" or quote.expected is None else quote.expected
    return likely, "price" if quote.bound == "exact" else "quote"


def _of_quantities(quote: Quote, usage: Mapping[str, Decimal]) -> Decimal | None:
    """Return the price of the quantities that the provider states; None where it states none that has a rate."""
    tokens = {name: usage[name] for name in quote.token_rates if name in usage}
    if tokens and len(tokens) == len(quote.token_rates):
        return sum((quote.token_rates[name] * count for name, count in tokens.items()), ZERO) / MILLION
    quantity = usage.get(_QUANTITIES.get(quote.per or "", ""), usage.get("units"))
    if quantity is None or quote.rate is None:
        return None
    return quote.rate * quantity / (MILLION if quote.per == "1M_tokens" else Decimal(1))


_QUANTITIES: Final[Mapping[str, str]] = {
    "job": "ratio",
    "1M_tokens": "tokens",
    "second": "seconds",
    "image": "images",
    "hardware_second": "hardware_seconds",
}


def _without_result(facts: Facts) -> Settlement:
    """Return the settlement of a job that failed, was withheld or was cancelled."""
    price = _charged(facts, "charged")
    nothing = dataclasses.replace(price, amount=ZERO, unit=price.unit or _unit(facts))
    if facts.refunded:
        return dataclasses.replace(nothing, verdict="refunded", basis="provider", reason="the provider says so")
    if facts.refunded is False:
        return dataclasses.replace(price, basis="provider", reason="the provider says that it keeps the price")
    if facts.stated is not None and facts.stated.value == 0:
        return dataclasses.replace(
            nothing, verdict="refunded", basis="provider", reason="the provider states a cost of 0"
        )
    policy = _policy(facts)
    if policy == "charged":
        return dataclasses.replace(price, basis="rule", reason="the provider charges for such jobs")
    if policy == "refunded":
        return dataclasses.replace(
            nothing,
            verdict="probably_refunded",
            basis="rule",
            reason="only the provider's pages say that it is refunded",
        )
    basis: Basis = price.basis if price.basis in {"provider", "price", "quote"} else "none"
    return dataclasses.replace(
        price, verdict="probably_charged", basis=_weaker(basis), reason="nothing says that the price was given back"
    )


def _weaker(basis: Basis) -> Basis:
    """Return the basis of a verdict that rests on a charge alone: a record or a balance may still refute it."""
    return "rule" if basis == "provider" else basis


def _unit(facts: Facts) -> str | None:
    return facts.stated.unit if facts.stated is not None else None if facts.quote is None else facts.quote.unit


def _policy(facts: Facts) -> Policy:
    quote = facts.quote
    stated: Policy = "unknown"
    if quote is not None:
        stated = {"failed": quote.failed, "moderated": quote.moderated, "cancelled": quote.cancelled}.get(
            facts.ending, "unknown"
        )
    return "refunded" if stated == "unknown" and facts.refunds and facts.ending != "moderated" else stated


def follows(known: Settlement, found: Settlement) -> Settlement | None:
    """Return what replaces a known settlement; None where nothing new is known.

    Weaker evidence changes no amount; whether there is a result is a fact of its own.
    """
    if found.rank < known.rank:
        found = dataclasses.replace(known, delivered=found.delivered or known.delivered)
    elif found.amount is None and known.gross is not None:
        found = dataclasses.replace(
            found, amount=known.gross, gross=known.gross, unit=known.unit, computed=known.computed
        )
    if not found.amount and found.amount is not None and known.unit is not None:
        found = dataclasses.replace(found, unit=known.unit, gross=found.gross or known.gross)
    same = ("verdict", "amount", "unit", "delivered")
    supported = found.verdict == "probably_charged" and found.rank > known.rank  # its evidence is for a claim
    return None if not supported and all(getattr(known, name) == getattr(found, name) for name in same) else found


def change_of(known: Settlement | None, found: Settlement) -> tuple[Decimal | None, Amount | None]:
    """Return what a settlement adds to what is booked, and what is to be taken back in another unit."""
    if known is None or not known.amount or known.unit is None:
        return found.amount, None
    if known.unit == found.unit:
        return None if found.amount is None else found.amount - known.amount, None
    return found.amount, Amount(known.amount, known.unit)


def key_of(submission_id: UUID, found: Settlement, previous: str | None, *, source: str) -> str:
    """Return the key of an entry: the same facts have the same key."""
    if previous is None:
        return f"set:{submission_id}"
    # The last word is always empty: it is part of the keys of entries that are written already.
    words = (previous, found.verdict, _text(found.amount), found.unit, found.delivered, "")
    return f"cor:{submission_id}:{source}:{hashlib.sha256(repr(words).encode()).hexdigest()[:16]}"
