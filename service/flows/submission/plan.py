"""Decide what to do with a claimed task: send it to an upstream, let it wait, or finish it. Pure."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from service.domain.changes import Ended
from service.domain.evidence import decides_end
from service.domain.routing import ranked, rests_until
from service.domain.submission_changes import (
    KnownJobAdopted,
    SubmissionInterrupted,
    SubmissionPostponed,
    WaitingForUpstream,
)
from service.domain.task import Failure, Outcome, Source, State, Submission, Task, WaitingFor
from service.flows.context import Upstream
from service.flows.money.allowance import Unaffordable
from service.flows.submission.outcome import interrupted
from service.flows.upstreams.admission import Rejection
from service.providers.capabilities import CanCancel
from service.providers.dialect import Dialect
from service.providers.registry import DIALECTS


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """An upstream of a task's route, and whether it may be given the task now."""

    upstream: Upstream
    dialect: Dialect
    rejection: Rejection | None = None
    """Why it may not be given the task now; None: it is admitted."""
    unaffordable: Unaffordable | None = None
    """Why the task must not be bought there."""


@dataclasses.dataclass(frozen=True, slots=True)
class Send:
    """Submit the task to an upstream."""

    upstream: Upstream
    dialect: Dialect


@dataclasses.dataclass(frozen=True, slots=True)
class Wait:
    """Leave the task queued."""

    change: WaitingForUpstream | SubmissionPostponed


@dataclasses.dataclass(frozen=True, slots=True)
class Finish:
    """Send nothing: the task is over, or its job is known or may exist."""

    change: Ended | KnownJobAdopted | SubmissionInterrupted


def plan(
    task: Task,
    history: Sequence[Submission],
    candidates: Sequence[Candidate],
    *,
    now: datetime,
    waited_for: WaitingFor | None = None,
) -> Send | Wait | Finish:
    """Decide what to do with a claimed task.

    :param history: its submissions so far, oldest first
    :param candidates: the configured upstreams of its route that offer its operation
    :param waited_for: the reason why it waited before it was claimed
    """
    return _finish(task, history, now) or _choose(task, history, candidates, now, waited_for)


def _finish(task: Task, history: Sequence[Submission], now: datetime) -> Finish | None:
    """Return the end of a task that is not to be sent now, or never again."""
    if task.state is State.SUBMITTING:
        sending = next((each for each in history if each.outcome is Outcome.SENDING), None)
        return Finish(interrupted(task, sending, now=now))
    if task.cancel_requested_at is not None:
        return _end(task, State.CANCELLED, cancelled_before_sending(task), Source.CLIENT)
    if now >= task.deadline_at:
        failure = Failure("provider_timeout", task.last_error or "not submitted before the deadline")
        return _end(task, State.EXPIRED, failure, Source.SWEEP)
    made = next((each for each in history if each.may_serve and _keeps_running(each)), None)
    if made is None:
        return None
    return Finish(KnownJobAdopted(task_id=task.id, attempt=task.attempts, submission=made))


def _choose(
    task: Task,
    history: Sequence[Submission],
    candidates: Sequence[Candidate],
    now: datetime,
    waited_for: WaitingFor | None,
) -> Send | Wait | Finish:
    """Return the best upstream that admits the task, or the reason why the task waits."""
    rejection: Rejection | None = None
    rests: list[datetime] = []
    too_dear: list[Unaffordable] = []
    by_name = {each.upstream.name: each for each in candidates}
    for candidate in (by_name[name] for name in ranked(list(by_name), history, now=now)):
        until = rests_until(candidate.upstream.name, history)
        if until is not None and until > now:
            rests.append(until)
            continue
        if candidate.unaffordable is not None:
            too_dear.append(candidate.unaffordable)
            continue
        met = candidate.rejection
        if met is None:
            return Send(candidate.upstream, candidate.dialect)
        if rejection is None or (rejection.recovery and not met.recovery):
            rejection = met
        if not met.elsewhere:
            break
    resume_at = min([*rests, task.deadline_at])
    if rejection is not None:
        return Wait(_waiting(task, rejection, resume_at, waited_for))
    if rests:
        return Wait(SubmissionPostponed(task_id=task.id, attempt=task.attempts, until=resume_at))
    return _over_budget(task, history, too_dear, now) if too_dear else _refused_by_all(task, history)


def _over_budget(
    task: Task, history: Sequence[Submission], reasons: Sequence[Unaffordable], now: datetime
) -> Wait | Finish:
    """Return the wait for room in a budget, or the end of a task that nothing has room for."""
    times = [each.retry_at for each in reasons if each.retry_at is not None]
    reason = reasons[0].reason
    if times:
        until = max(min([*times, task.deadline_at]), now)
        known = task.last_error == reason
        change = SubmissionPostponed(
            task_id=task.id, attempt=task.attempts, until=until, reason=reason, waited_already=known
        )
        return Wait(change)
    return _end(task, State.FAILED, Failure("budget_exceeded", reason), decides_end(history))


def _waiting(task: Task, rejection: Rejection, retry_at: datetime, waited_for: WaitingFor | None) -> WaitingForUpstream:
    return WaitingForUpstream(
        task_id=task.id,
        attempt=task.attempts,
        waits_for=rejection.waits_for,
        reason=rejection.reason,
        retry_at=retry_at,
        waited_already=rejection.waits_for == waited_for,
    )


def _refused_by_all(task: Task, history: Sequence[Submission]) -> Finish:
    last = history[-1] if history else None
    failure = (
        Failure(last.code or "unknown", last.message)
        if last is not None
        else Failure("unauthorized", f"none of {', '.join(task.route)} is configured any more", retryable=True)
    )
    return _end(task, State.FAILED, failure, decides_end(history))


def _end(
    task: Task, state: Literal[State.FAILED, State.CANCELLED, State.EXPIRED], failure: Failure, source: Source
) -> Finish:
    return Finish(
        Ended(
            task_id=task.id,
            attempt=task.attempts,
            only_if_lease_held=True,
            state=state,
            failure=failure,
            source=source,
        )
    )


def _keeps_running(made: Submission) -> bool:
    """Return whether a duplicate goes on. One that can be cancelled is cancelled as soon as it is known."""
    dialect = DIALECTS.get(made.dialect)
    return made.job_state in {None, State.SUCCEEDED} or (dialect is not None and not isinstance(dialect, CanCancel))


def cancelled_before_sending(task: Task) -> Failure:
    """Return the cost of cancelling a task that is queued."""
    if task.unconfirmed_since is None:
        return Failure("cancelled", "before it was submitted; nothing was paid")
    words = "before it was submitted again; the job of an earlier submission may run and be charged"
    return Failure("cancelled", words)
