"""Quotes: what a task is expected to cost. Amounts are decimal numbers as text."""

import dataclasses
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
    price_id: str | None = None
    price_checked: str | None = None
    """The day on which the price was read."""
    why: tuple[str, ...] = ()
    """The basis of the numbers, or why they are not known."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class QuoteList:
    """The quotes of a request, in the order of its route."""

    route: tuple[str, ...] = ()
    skipped_upstreams: Mapping[str, str] = dataclasses.field(default_factory=dict)
    quotes: tuple[Quote, ...] = ()
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)
