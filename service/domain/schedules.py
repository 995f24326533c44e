"""The schedules: when a row next needs attention. Pure: now and chance are arguments. All spans are seconds."""

import dataclasses
from datetime import datetime, timedelta
from typing import Any, TypeVar

from service.domain.task import ENDED, State, Task

Row = TypeVar("Row", bound=Any)
LEASE = 60.0
"""How long a claimed row belongs to its claimer."""
SUBMIT_LEASE_MARGIN = 30.0
"""Seconds of a submission's lease beyond the time-outs of its call."""
UNKNOWN_ID_GRACE = 300.0
"""How long after the submit an unknown id is only 'not visible yet' (CometAPI, DeerAPI: seconds; seen: minutes)."""
UNKNOWN_ID_CONFIRMED = 60.0
"""How long an id must have been unknown without a break before that counts."""
LATE_WATCH = 86_400.0
"""How long after an end of our own making we go on looking for the provider's verdict."""
LATE_GROWTH = 0.5
STEP = 5.0
"""Polls of dialects with a batch query are due at multiples of this."""
SUBMIT_BACKOFF = (1.0, 2.0, 4.0)
"""Upper bounds of the waits between the tries of a submit that is known to have created nothing (full jitter)."""
SUBMIT_BACKOFF_LATER = 60.0
"""The upper bound once those tries are used up on every upstream."""
RETRY_AFTER_CAP = 120.0
UNCONFIRMED_FIRST_LOOK = 10.0
"""How long after a lost answer the provider's list is looked at first: a job may show in it a little late."""
UNCONFIRMED_GROWTH = 0.25
UNCONFIRMED_LONGEST = 120.0
"""The longest wait between two looks at the list."""
UNCONFIRMED_SHORTEST = 120.0
"""How long at least a way to find out is given before a policy decides."""
MESSAGE_SCHEDULE = (0.0, 5.0, 60.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 72000.0, 129600.0)
"""Waits before each attempt to deliver a client message, give or take a fifth."""
MESSAGE_SPREAD = 0.2
RECEIVER_MAY_ASK = 3600.0
"""How long a receiver may have us wait by Retry-After, where twice the planned wait is shorter."""
FAILING_LONG = 120 * 3600.0
"""How long an endpoint may do nothing but fail before it is disabled."""
UNWATCHED = 48 * 3600.0
"""A pause between two failures that breaks their sequence: longer than any wait of the schedule."""
INBOX_BACKOFF = (1.0, 5.0, 30.0, 120.0, 600.0)
"""Waits after a callback could not be processed for a reason of our own; then it is parked."""


def claimed_as_written(row: Row, *, at: datetime) -> Row:
    """Return a new row of a queue with the lease of its first claim, which begins as the row is written."""
    return dataclasses.replace(row, due_at=at + timedelta(seconds=LEASE), attempts=1)


def is_claimed_as_written(task: Task) -> bool:
    """Return whether a task is still in the lease with which it was written."""
    return task.attempts == 1 and task.due_at == task.created_at + timedelta(seconds=LEASE)


@dataclasses.dataclass(frozen=True, slots=True)
class PollPlan:
    """A plan of polls: the first check as a share of the median duration, then a share of the task's age."""

    first: float
    growth: float
    shortest: float
    longest: float


EXPECTING = PollPlan(first=1.0, growth=0.15, shortest=5.0, longest=300.0)
"""A callback is expected: polling is the net below it."""
POLLING = PollPlan(first=0.5, growth=0.08, shortest=2.0, longest=60.0)
"""No callback can come, or callbacks have stopped coming."""


def next_poll(
    task: Task,
    plan: PollPlan,
    *,
    median: float,
    now: datetime,
    first_look: float | None = None,
    lookup: bool = False,
) -> datetime | None:
    """Return the time of the next poll; None when there is nothing left to poll.

    :param median: seconds that a task of this kind usually takes
    :param first_look: seconds after the submit at which to poll once, besides the plan
    :param lookup: whether the provider has a list in which a job without an id can be found
    """
    if task.decided_by == "provider" or (task.state in ENDED and task.external_id is None):
        return None
    start = task.submitted_at or task.created_at
    age = max((now - start).total_seconds(), 0.0)  # the clock may have been set back since the submit
    if task.state in ENDED:
        wait = min(max(LATE_GROWTH * age, plan.longest), 3600.0)
        later = now + timedelta(seconds=wait)
        return later if later <= task.deadline_at + timedelta(seconds=LATE_WATCH) else None
    first = plan.first * median if first_look is None or age >= first_look else first_look
    if task.state is State.UNCONFIRMED and task.external_id is None:
        return next_reconciliation(task, median=median, lookup=lookup, now=now)
    if task.external_id is None:
        return max(task.deadline_at, now)  # no job can be queried: only a callback or the deadline settles the task
    wait = first - age if age < first else min(max(plan.growth * age, plan.shortest), plan.longest)
    if now < start:
        wait = min(max(first, plan.shortest), plan.longest)
    if task.state is State.AWAITING_INPUT:
        wait = plan.longest  # nothing happens until the client sends input, which wakes the task at once
    return min(now + timedelta(seconds=wait), max(task.deadline_at, now))


def reconciliation_ends(task: Task, *, median: float, lookup: bool) -> datetime:
    """Return until when a callback or a list can still settle an unconfirmed task; then its policy decides.

    :param median: seconds that a task of this kind usually takes: a callback may only come at its end
    :param lookup: whether the provider has a list of jobs
    """
    since = task.unconfirmed_since or task.updated_at
    if task.callback_expected:
        return since + timedelta(seconds=max(2 * median, UNCONFIRMED_SHORTEST))
    return since + timedelta(seconds=UNCONFIRMED_SHORTEST if lookup else 0.0)


def next_reconciliation(task: Task, *, median: float, lookup: bool, now: datetime) -> datetime:
    """Return the time of the next search for the job of an unconfirmed task."""
    since = task.unconfirmed_since or task.updated_at
    end = max(task.deadline_at, now)
    if task.on_uncertain != "hold":
        end = min(end, max(reconciliation_ends(task, median=median, lookup=lookup), now))
    if not lookup:
        return end
    wait = min(max(UNCONFIRMED_GROWTH * (now - since).total_seconds(), UNCONFIRMED_FIRST_LOOK), UNCONFIRMED_LONGEST)
    return min(now + timedelta(seconds=wait), end)


def in_step(due: datetime, *, deadline: datetime) -> datetime:
    """Move a poll to the next full step of :data:`STEP` seconds, so that tasks of a batch query fall due together.

    A check at or before the task's deadline is never moved beyond it: the task would expire late.
    """
    stepped = due + timedelta(seconds=-due.timestamp() % STEP)
    return deadline if due <= deadline < stepped else stepped


def retry_submit(tries: int, *, retry_after: float | None, chance: float, now: datetime) -> datetime:
    """Return when to submit again after an upstream was unavailable.

    :param tries: how many submissions have met an unavailable upstream so far, at least 1
    :param retry_after: seconds that the upstream asked for, honoured up to :data:`RETRY_AFTER_CAP`
    :param chance: uniform in 0..1
    """
    bound = SUBMIT_BACKOFF[tries - 1] if tries <= len(SUBMIT_BACKOFF) else SUBMIT_BACKOFF_LATER
    wait = max(bound * chance, min(retry_after or 0.0, RETRY_AFTER_CAP))
    return now + timedelta(seconds=wait)


def next_delivery(attempts: int, *, chance: float, now: datetime, retry_after: float | None = None) -> datetime | None:
    """Return the time of the next delivery attempt; None when the schedule is used up.

    :param chance: uniform in 0..1
    :param retry_after: seconds that the receiver asked for; they lengthen the planned wait, to no more than twice the
        plan or :data:`RECEIVER_MAY_ASK`, whichever is longer
    """
    if attempts >= len(MESSAGE_SCHEDULE):
        return None
    wait = MESSAGE_SCHEDULE[attempts] * (1 - MESSAGE_SPREAD + 2 * MESSAGE_SPREAD * chance)
    if retry_after is not None:
        wait = max(wait, min(retry_after, max(2 * wait, RECEIVER_MAY_ASK)))
    return now + timedelta(seconds=wait)


def retry_inbox(attempts: int, *, now: datetime) -> datetime | None:
    """Return when to process a failed callback again; None: park it."""
    if attempts > len(INBOX_BACKOFF):
        return None
    return now + timedelta(seconds=INBOX_BACKOFF[attempts - 1])


def counts_as_missing(task: Task, *, now: datetime) -> bool:
    """Return whether the provider's 'no such task' is final by now."""
    if task.missing_since is None:
        return False
    missing = (now - task.missing_since).total_seconds()
    if now < (task.submitted_at or task.created_at):  # the clock was set back: the job's age is not known
        return missing >= UNKNOWN_ID_GRACE
    return not may_be_invisible(task, now=now) and missing >= UNKNOWN_ID_CONFIRMED


def may_be_invisible(task: Task, *, now: datetime) -> bool:
    """Return whether a job is so young that its provider may not show it yet."""
    return (now - (task.submitted_at or task.created_at)).total_seconds() < UNKNOWN_ID_GRACE
