"""Turn what came of a submission into a change of its task. Pure."""

import dataclasses
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from service.domain.errors import AccountProblem, NotFound, NotSent, Refused, Unavailable, Uncertain, UpstreamError
from service.domain.evidence import decides_end, may_have_job
from service.domain.routing import TRIES, choose, tries
from service.domain.schedules import RETRY_AFTER_CAP, retry_submit
from service.domain.submission_changes import (
    INTERRUPTED,
    SubmissionAccepted,
    SubmissionFailed,
    SubmissionInterrupted,
    SubmissionNotSent,
)
from service.domain.task import Failure, Outcome, State, Submission, Task, Update

MAX_REST = 3600.0
"""Seconds for which an upstream that asks for a long rest goes behind the others."""


def answered(task: Task, submission: Submission, update: Update) -> SubmissionAccepted:
    """Return the change for an answer that was read.

    :raises Uncertain: when the answer names no job and no end
    """
    if update.external_id is None and (update.state is None or not update.state.ended):
        raise Uncertain("unreadable", "the answer has no job id")
    return SubmissionAccepted(task_id=task.id, attempt=task.attempts, submission=submission, update=update)


def failed(
    task: Task,
    submission: Submission,
    history: Sequence[Submission],
    error: UpstreamError,
    *,
    now: datetime,
    chance: float,
    configured: Collection[str],
) -> SubmissionFailed:
    """Return the change for an error, by what may be done next.

    :param history: the earlier submissions of the task
    :param chance: uniform in 0..1
    :param configured: the upstreams that are configured
    """
    change = SubmissionFailed(
        task_id=task.id,
        attempt=task.attempts,
        submission=_settled(submission, Outcome.UNCERTAIN, error, now),
        state=State.UNCONFIRMED,
        error=f"{submission.upstream}: {error}",
        message=error.message,
    )
    match error:
        case Refused() | NotFound():
            settled = _settled(submission, Outcome.REFUSED, error, now)
            return _final(dataclasses.replace(change, submission=settled), history, error)
        case AccountProblem():
            settled = _settled(submission, Outcome.ACCOUNT, error, now)
            change = dataclasses.replace(change, submission=settled)
            if choose(task.route, [*history, settled], now=now) is None:
                return _final(change, history, error)
            return dataclasses.replace(
                change, state=State.QUEUED, event_type="account_problem", only_if_lease_held=True, retry_at=now
            )
        case Unavailable():
            settled = _settled(submission, Outcome.UNAVAILABLE, error, now)
            change = dataclasses.replace(change, submission=settled)
            return _retried(change, task, history, error, chance=chance, configured=configured)
        case _:
            return change


def _settled(submission: Submission, outcome: Outcome, error: UpstreamError, now: datetime) -> Submission:
    return dataclasses.replace(submission, outcome=outcome, code=error.code, message=str(error), settled_at=now)


def _final(change: SubmissionFailed, history: Sequence[Submission], error: UpstreamError) -> SubmissionFailed:
    """Fail the task."""
    failure = Failure(error.code, str(error) if error.message else None)
    return dataclasses.replace(change, state=State.FAILED, failure=failure, source=decides_end(history))


def _retried(
    change: SubmissionFailed,
    task: Task,
    history: Sequence[Submission],
    error: Unavailable,
    *,
    chance: float,
    configured: Collection[str],
) -> SubmissionFailed:
    """Queue the task again: for later, or at once for the next upstream."""
    settled = change.submission
    now = settled.settled_at or settled.sent_at
    met = tries(settled.upstream, [*history, settled])
    retry_at = retry_submit(max(met, 1), retry_after=error.retry_after, chance=chance, now=now)
    asked = now + timedelta(seconds=min(error.retry_after or 0.0, MAX_REST))
    settled = dataclasses.replace(settled, retry_at=max(retry_at, asked))
    if met == TRIES or (error.retry_after or 0.0) > RETRY_AFTER_CAP:
        route = [name for name in task.route if name in configured]
        if choose(route, [*history, settled], now=now) != settled.upstream:
            retry_at = now
    return dataclasses.replace(
        change,
        submission=settled,
        state=State.QUEUED,
        event_type="upstream_unavailable",
        only_if_lease_held=True,
        retry_at=min(retry_at, max(task.deadline_at, now)),
    )


def not_sent(
    task: Task, submission: Submission, history: Sequence[Submission], error: NotSent, *, now: datetime
) -> SubmissionNotSent:
    """Return the change for a submission that was written and never sent."""
    return SubmissionNotSent(
        task_id=task.id,
        attempt=task.attempts,
        submission=_settled(submission, Outcome.UNAVAILABLE, error, now),
        paid_before=may_have_job(history),
        retry_at=now,
    )


def interrupted(task: Task, sending: Submission | None, *, now: datetime) -> SubmissionInterrupted:
    """Return the change for a submission whose process stopped while it was in flight."""
    settled = None
    if sending is not None:
        settled = dataclasses.replace(
            sending,
            outcome=Outcome.UNCERTAIN,
            code="unknown",
            message=INTERRUPTED,
            settled_at=now,
        )
    return SubmissionInterrupted(task_id=task.id, attempt=task.attempts, submission=settled)
