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
    residual: Decimal | None = None
    missing: Decimal | None = None
    """The loss of the account beyond all purchases: a second charge, or a higher price."""


def judge(window: Window) -> Verdicts:
    """Return which open jobs were given back by a window, and which were not."""
    if window.disturbed or any(each.price is None for each in window.bought):
        return Verdicts()
    spent = sum((each.price for each in window.bought if each.price is not None), Decimal(0))
    residual = window.end.amount - window.start.amount + spent - window.given_back
    tolerance = window.resolution * (1 + len(window.bought))
    cases = [each for each in window.open if each.price >= window.resolution * RELATIVE]
    if residual < -tolerance:
        return Verdicts(residual=residual, missing=-residual)
    if abs(residual) <= tolerance:
        return Verdicts(judged={each.submission_id: "kept" for each in cases}, residual=residual)
    if len(cases) != len(window.open) or len(cases) > MAX_OPEN:
        return Verdicts(residual=residual)
    return _named(cases, residual, tolerance)


def judge_again(before: Window, after: Window) -> Verdicts:
    """Return what two windows in a row say together: a charge that came late is in the second one.

    It counts for jobs only that neither window has judged: the second may also have a second charge.
    """
    return judge(
        Window(
            start=before.start,
            end=after.end,
            bought=(*before.bought, *after.bought),
            given_back=before.given_back + after.given_back,
            open=tuple({each.submission_id: each for each in (*before.open, *after.open)}.values()),
            resolution=max(before.resolution, after.resolution),
            disturbed=before.disturbed or after.disturbed,
        )
    )


def _named(cases: Sequence[OpenCase], residual: Decimal, tolerance: Decimal) -> Verdicts:
    """Return the one set of jobs whose prices are the residual; only their number where several sets are."""
    fitting: list[frozenset[UUID]] = []
    sizes: set[int] = set()
    for size in range(1, len(cases) + 1):
        for chosen in itertools.combinations(cases, size):
            if abs(sum((each.price for each in chosen), Decimal(0)) - residual) <= tolerance:
                fitting.append(frozenset(each.submission_id for each in chosen))
                sizes.add(size)
    if len(fitting) == 1:
        judged: dict[UUID, Judgement] = {
            each.submission_id: "returned" if each.submission_id in fitting[0] else "kept" for each in cases
        }
        return Verdicts(judged=judged, residual=residual)
    common = frozenset.intersection(*fitting) if fitting else frozenset()
    never = {each.submission_id for each in cases} - frozenset.union(*fitting) if fitting else set()
    partly: dict[UUID, Judgement] = {**dict.fromkeys(common, "returned"), **dict.fromkeys(never, "kept")}
    return Verdicts(judged=partly, count=next(iter(sizes)) if len(sizes) == 1 else None, residual=residual)
