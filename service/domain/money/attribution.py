"""Refund truth by balances: which failed jobs were given back, judged by the change of an account's balance. Pure.

A window is the time between two balances. Its residual is what the account has more than the purchases explain. A residual of 0
means that nothing was given back. A residual that is the sum of exactly one set of open prices names those jobs. Any other residual
says nothing about single jobs.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final, Literal
from uuid import UUID

Judgement = Literal["returned", "kept"]
MAX_OPEN: Final = 14
"""Open jobs of a window whose sums are compared. More say nothing."""
RELATIVE: Final = Decimal(10)
"""A price is this many times as large as the resolution of the balance, or it is not judged."""


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """A balance at a time."""

    at: datetime
    amount: Decimal


@dataclasses.dataclass(frozen=True, slots=True)
class Bought:
    """A job that was bought in a window, with its price."""

    submission_id: UUID
    price: Decimal | None
    """None: not known exactly; then the window says nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class OpenCase:
    """A job without a result, of which it is not known whether its price was given back."""

    submission_id: UUID
    price: Decimal


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The time between two balances in which no other key moved the account."""

    start: Snapshot
    end: Snapshot
    bought: Sequence[Bought]
    """Everything that was bought in the window."""
    given_back: Decimal = Decimal(0)
    """The refunds in the window that are known by other evidence."""
    open: Sequence[OpenCase] = ()
    """Jobs that ended without a result until the end of the window."""
    resolution: Decimal = Decimal("0.000001")
    disturbed: bool = False
    """Whether something else moved the balance, such as a payment."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """The statements of a window about jobs."""

    judged: dict[UUID, Judgement] = dataclasses.field(default_factory=dict)
    count: int | None = None
    """How many of the open jobs were given back, where their prices are equal and none can be named."""
    alike: frozenset[UUID] = frozenset()
    """Jobs of equal price that cannot be named one by one."""
    alike_kept: int | None = None
    """How many of these were not given back."""
    residual: Decimal | None = None
    missing: Decimal | None = None
    """The loss of the account beyond all purchases: a second charge, or a higher price."""
    explained: bool = True
    """Whether the refunds of open jobs, and at most one second charge, make the residual."""


def judge(window: Window) -> Verdicts:
    """Return which open jobs were given back by a window, and which were not."""
    if window.disturbed or any(each.price is None for each in window.bought):
        return Verdicts()
    spent = sum((each.price for each in window.bought if each.price is not None), Decimal(0))
    residual = window.end.amount - window.start.amount + spent - window.given_back
    tolerance = window.resolution * (1 + len(window.bought))
    cases = [each for each in window.open if each.price >= window.resolution * RELATIVE]
    missing = -residual if residual < -tolerance else None
    if abs(residual) <= tolerance:
        return Verdicts(judged={each.submission_id: "kept" for each in cases}, residual=residual)
    if len(cases) != len(window.open) or len(cases) > MAX_OPEN:
        return Verdicts(residual=residual, missing=missing, explained=False)
    if missing is None:
        fitting = _fitting(cases, residual, tolerance)
    else:  # one job was charged twice: each price is tried, and only what all explanations say counts
        prices = {each.price for each in window.bought if each.price is not None}
        fitting = [found for price in prices for found in _fitting(cases, residual + price, tolerance)]
    return _named(cases, fitting, residual, missing)


def judge_both(before: Window | None, after: Window) -> Verdicts:
    """Return what a window says, together with the one before where a charge came late.

    A window whose account has more than its refunds explain had a charge that comes in the next one. One whose account has less
    than a second charge explains got it. Both then say together which jobs were given back.
    """
    alone = judge(after)
    if before is None or before.disturbed or after.disturbed:
        return alone
    earlier = judge(before)
    late = earlier.residual is not None and earlier.residual > 0 and not earlier.explained
    if not late and alone.explained:
        return alone
    together = judge(
        Window(
            start=before.start,
            end=after.end,
            bought=(*before.bought, *after.bought),
            given_back=before.given_back + after.given_back,
            open=tuple({each.submission_id: each for each in (*before.open, *after.open)}.values()),
            resolution=max(before.resolution, after.resolution),
        )
    )
    return together if together.explained and together.missing is None else alone


def _fitting(cases: Sequence[OpenCase], amount: Decimal, tolerance: Decimal) -> list[frozenset[UUID]]:
    """Return every set of jobs whose prices make an amount."""
    return [
        frozenset(each.submission_id for each in chosen)
        for size in range(len(cases) + 1)
        for chosen in itertools.combinations(cases, size)
        if abs(sum((each.price for each in chosen), Decimal(0)) - amount) <= tolerance
    ]


def _named(
    cases: Sequence[OpenCase], fitting: Sequence[frozenset[UUID]], residual: Decimal, missing: Decimal | None
) -> Verdicts:
    """Return the jobs about which all explanations agree, and the number of the others where their prices are equal."""
    if not fitting:
        return Verdicts(residual=residual, missing=missing, explained=False)
    common, ever = frozenset.intersection(*fitting), frozenset.union(*fitting)
    judged: dict[UUID, Judgement] = {
        each.submission_id: "returned" if each.submission_id in common else "kept"
        for each in cases
        if each.submission_id in common or each.submission_id not in ever
    }
    others = [each for each in cases if each.submission_id not in judged]
    ids = frozenset(each.submission_id for each in others)
    returned = {len(chosen & ids) for chosen in fitting}
    alike = len({each.price for each in others}) == 1 and len(returned) == 1
    sizes = {len(chosen) for chosen in fitting}
    return Verdicts(
        judged=judged,
        count=next(iter(sizes)) if len(fitting) > 1 and len(sizes) == 1 else None,
        alike=ids if alike else frozenset(),
        alike_kept=len(others) - next(iter(returned)) if alike else None,
        residual=residual,
        missing=missing,
    )
