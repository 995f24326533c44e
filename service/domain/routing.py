"""Which upstream a task is submitted to next, by the outcomes of its submissions so far."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from service.domain.schedules import RETRY_AFTER_CAP, SUBMIT_BACKOFF
from service.domain.task import Outcome, Submission

TRIES = len(SUBMIT_BACKOFF)
"""Submissions to an unavailable upstream before the next upstream is tried."""


def ranked(route: Sequence[str], submissions: Sequence[Submission], *, now: datetime) -> list[str]:
    """Return the upstreams for the next submission, best first; none when every one has refused the account.

    Each upstream is tried :data:`TRIES` times before the next; once all are used up, the least tried comes first. One
    that asked not to be asked again for long waits behind the others, and so does one that perhaps has the task already.
    """
    refused = {each.upstream for each in submissions if each.outcome is Outcome.ACCOUNT}
    perhaps = {each.upstream for each in submissions if each.outcome is Outcome.UNCERTAIN}
    resting = {each.upstream for each in submissions if each.retry_at is not None and each.retry_at > now}
    left = [name for name in route if name not in refused]

    def rank(name: str) -> tuple[bool, bool, int]:
        met = tries(name, submissions)
        return name in resting, name in perhaps, met if met >= TRIES else 0

    return sorted(left, key=rank)


def choose(route: Sequence[str], submissions: Sequence[Submission], *, now: datetime) -> str | None:
    """Return the upstream for the next submission; None when every one has refused the account."""
    return next(iter(ranked(route, submissions, now=now)), None)


def rests_until(upstream: str, submissions: Sequence[Submission]) -> datetime | None:
    """Return the time until which an upstream is not tried again, even if there is no other; None: it requested no pause.

    A pause is honoured up to :data:`RETRY_AFTER_CAP`. After that the upstream is only tried after the others.
    """
    longest = timedelta(seconds=RETRY_AFTER_CAP)
    asked = [each for each in submissions if each.upstream == upstream and each.retry_at is not None]
    ends = (min(each.retry_at, (each.settled_at or each.sent_at) + longest) for each in asked if each.retry_at)
    return max(ends, default=None)


def tries(upstream: str, submissions: Sequence[Submission]) -> int:
    """Count the submissions that found an upstream unavailable."""
    return sum(each.upstream == upstream and each.outcome is Outcome.UNAVAILABLE for each in submissions)
