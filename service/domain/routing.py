"""Which upstream a task is handed to next, by how its submissions went so far."""

from collections.abc import Sequence

from service.domain.task import Submission
from service.domain.timing import SUBMIT_BACKOFF

TRIES = len(SUBMIT_BACKOFF)
"""Submissions that may meet an unavailable upstream before the next one is tried."""


def choose(route: Sequence[str], submissions: Sequence[Submission]) -> str | None:
    """Choose the upstream for the next submission; None when every one has turned the account away.

    Each upstream is tried :data:`TRIES` times before the next; once all are used up, the least tried comes next.
    """
    turned_away = {submission.upstream for submission in submissions if submission.outcome == "account"}
    open_to_us = [name for name in route if name not in turned_away]
    fresh = [name for name in open_to_us if tries(name, submissions) < TRIES]
    if fresh:
        return fresh[0]
    return min(open_to_us, key=lambda name: tries(name, submissions), default=None)


def tries(upstream: str, submissions: Sequence[Submission]) -> int:
    """Count the submissions that found an upstream unavailable."""
    return sum(each.upstream == upstream and each.outcome == "unavailable" for each in submissions)
