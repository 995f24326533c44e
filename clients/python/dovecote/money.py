"""Quotes, settlements and budgets. Amounts are decimal numbers as text."""

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """The expected price of a task at an upstream."""

    upstream: str
    bound: str = "none"
    """How sure ``max`` is: ``exact``, ``upper``, ``observed`` or ``none``."""
    low: str | None = None
    expected: str | None = None
    max: str | None = None
    """The upper bound; None: not known."""
    unit: str | None = None
    """The upstream's own unit, such as ``credits``."""
    usd_max: str | None = None
    """The upper bound in US dollars, where the unit's rate is known."""
    usd_per_unit: str | None = None
    """The rate of the unit."""
    price_id: str | None = None
    price_checked: str | None = None
    """The day on which the price was read."""
    rate: str | None = None
    per: str | None = None
    """The quantity that the rate is for: a job, a second, an image …"""
    token_rates: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Rates of a million tokens, by kind."""
    if_failed: str = "unknown"
    """The price of a failed job by the upstream's pages: ``refunded``, ``charged`` or ``unknown``."""
    if_moderated: str = "unknown"
    """The same for a withheld output."""
    if_cancelled: str = "unknown"
    """The same for a cancelled job."""
    policy_url: str | None = None
    """The page that says so."""
    why: tuple[str, ...] = ()
    """The basis of the numbers, or why they are not known."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class QuoteList:
    """The quotes of a request, in the order of its route."""

    family: str = ""
    operation: str = ""
    model: str | None = None
    route: tuple[str, ...] = ()
    skipped_upstreams: Mapping[str, str] = dataclasses.field(default_factory=dict)
    quotes: tuple[Quote, ...] = ()
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """The cost of one submission: the latest entry of the ledger about it."""

    key: str
    """Unique: book an entry once for each key."""
    kind: str
    """``settlement`` or ``correction``."""
    submission: str
    upstream: str
    verdict: str
    """``charged``, ``refunded``, ``probably_charged``, ``probably_refunded`` or ``free``."""
    amount: str | None = None
    """The price after all refunds; None where it is not known."""
    gross: str | None = None
    unit: str | None = None
    change: str | None = None
    """The amount to add to what you have booked for the submission."""
    reverses: Mapping[str, str] | None = None
    """The amount that you have booked for it in another unit, and take back: ``{"amount": "160", "unit": "points"}``."""
    corrects: str | None = None
    """The key of the entry that this one corrects."""
    basis: str = "none"
    """The evidence of the verdict, such as ``provider`` or ``quote``."""
    computed: bool = False
    """Whether the amount follows from a price, and not from the provider's figure."""
    delivered: bool = False
    """Whether the job has a result."""
    quoted: str | None = None
    quoted_max: str | None = None
    """The expected price and the upper bound before the purchase."""
    usd_per_unit: str | None = None
    reason: str | None = None
    evidence: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    source: str | None = None
    """How Dovecote learned of it: ``callback``, ``poll`` …"""
    purchased_at: dt.datetime | None = None
    booked_at: dt.datetime | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BillingDifference:
    """A quantity that was billed otherwise than it was made."""

    kind: str
    """``seconds``, ``outputs`` or ``resolution``."""
    billed: str = ""
    made: str = ""
    basis: str = ""
    """``answer``, ``charge and rate`` or ``request``."""
    said: str = ""
    """The difference as a sentence."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRow:
    """A budget, or a part of one, in the present period."""

    budget: str
    scope: str = ""
    period: str = ""
    unit: str = ""
    limit: str = "0"
    soft: str | None = None
    spent: str = "0"
    held: str = "0"
    """Reserved for tasks in progress."""
    left: str = "0"
    overrun: str = "0"
    renews_at: dt.datetime | None = None
    every: str = "month"
    """``day`` or ``month``."""
    client: str | None = None
    """The client that it is for; ``*``: each client for itself; None: all together."""
    label: str | None = None
    upstream: str | None = None
    over: str = "refuse"
    """``refuse`` or ``wait``: what follows when it has no room."""
    unpriced: str = "refuse"
    editable: bool = False
    """Whether it can be changed by the API."""
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A job without a result whose price was, or perhaps was, not given back."""

    submission: str
    task: str
    client: str = ""
    upstream: str = ""
    operation: str = ""
    model: str | None = None
    external_id: str | None = None
    """The provider's id of the job, for its support."""
    verdict: str = ""
    basis: str = ""
    confidence: str = "low"
    """``high``, ``medium`` or ``low``."""
    lost_by_policy: bool = False
    """Whether the upstream's pages say that such jobs are charged."""
    amount: str | None = None
    unit: str | None = None
    reason: str | None = None
    evidence: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    purchased_at: dt.datetime | None = None
    deadline_at: dt.datetime | None = None
    """Until when the upstream keeps its records, where it says so."""
    state: str = "open"
    """``open``, ``filed``, ``paid`` or ``denied``."""
    note: str | None = None
    marked_at: dt.datetime | None = None
    """When its state was last set."""
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)
