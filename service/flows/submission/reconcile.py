"""Find out whether an unconfirmed task has a job; where that is impossible, follow its policy.

A callback with the submission's token settles the task by itself. The other way is the provider's list of jobs, where
it has one.
"""

import dataclasses
import datetime as dt
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.changes import Change, CheckFailed, Ended
from service.domain.errors import UpstreamError
from service.domain.schedules import reconciliation_ends
from service.domain.submission_changes import LostJobFound, ResubmissionAllowed
from service.domain.task import Failure, Source, State, Submission, Task
from service.flows.apply import Applied, announce, apply, settle
from service.flows.context import Context
from service.flows.conversation import run_exchange
from service.flows.statistics import can_list_jobs, typical_seconds
from service.providers.capabilities import CanListJobs
from service.providers.wire import ListedJob
from service.store import submissions
from service.store import tasks as task_store
from service.store import upstreams as upstream_store

CLOCK_TOLERANCE = dt.timedelta(seconds=60)
"""How far a provider's clock may differ from ours: a job may seem to be that much older or newer than its submission."""
MAX_FLIGHT = dt.timedelta(minutes=15)
"""How long after its submission began a job may be created at most: a synchronous submission takes that long."""
MAX_OTHERS = 200
"""With so many other submissions that may own a listed job, none is examined."""

_UNCONFIRMED = frozenset({State.UNCONFIRMED})


class NotUnconfirmed(Exception):
    """The outcome of the task's submission is known: there is nothing to retry."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Case:
    task: Task
    listed: Sequence[ListedJob] = ()
    error: str | None = None


async def reconcile(context: Context, task: Task) -> Applied:
    """Search once for the job of a claimed unconfirmed task, and write the result."""
    case = await _search(context, task)
    applied = await context.writers.journeys.run(_decide, context, case)
    announce(context, [applied])
    if applied.task is not None and applied.task.state is State.QUEUED:
        context.signals.wake("submit")
    return applied


def may_be_settled(context: Context, task: Task) -> bool:
    """Return whether anything but its client or an operator can still settle an unconfirmed task before its deadline.

    A callback or the provider's list of jobs can show its job, and a policy other than ``hold`` decides by itself.
    """
    return task.callback_expected or task.on_uncertain != "hold" or can_list_jobs(context, task)


async def _search(context: Context, task: Task) -> _Case:
    """Return the provider's list of jobs, where it has one."""
    upstream, dialect = context.upstreams.get(task.upstream or ""), context.dialect(task)
    if upstream is None or not isinstance(dialect, CanListJobs) or not can_list_jobs(context, task):
        return _Case(task)
    try:
        listed = await run_exchange(context, upstream, dialect, dialect.find_lost_jobs(upstream.in_its_names(task)))
    except UpstreamError as error:
        return _Case(task, error=f"{task.upstream} does not show its list: {error}")
    return _Case(task, listed)


async def _decide(connection: AsyncConnection, context: Context, case: _Case) -> Applied:
    if case.listed and case.task.upstream:
        # While this row is locked no other process adopts a job of the same list.
        await upstream_store.lock(connection, [case.task.upstream])
    [applied] = await apply(context, connection, [await _change(context, connection, case)])
    return applied


async def _change(context: Context, connection: AsyncConnection, case: _Case) -> Change:
    task, now = await _with_current_times(connection, case.task), context.now()
    history = (await submissions.of_tasks(connection, [task.id]))[task.id]
    current = next((each for each in history if each.id == task.submission_id), None)
    if current is None:  # the submission is younger than the backup that the database was restored from
        return _by_policy(task, None, now) or CheckFailed(task_id=task.id, attempt=task.attempts)
    fitting = [listed for listed in case.listed if _in_time(listed, current, task, now)]
    unclaimed = [
        listed for listed in fitting if not await submissions.is_known(connection, current.upstream, listed.external_id)
    ]
    error = case.error
    if len(unclaimed) == 1:
        if not await _may_be_anothers(connection, unclaimed[0], current):
            return LostJobFound(
                task_id=task.id, attempt=task.attempts, submission=current, external_id=unclaimed[0].external_id
            )
        error = f"a job in the list of {current.upstream} may be it, or that of another task whose answer is not there"
    if len(unclaimed) > 1:
        error = f"{len(unclaimed)} jobs in the list of {current.upstream} may be it, and none is certain"
    lookup = can_list_jobs(context, task)
    if now >= reconciliation_ends(task, median=typical_seconds(context, task), lookup=lookup):
        decided = _by_policy(task, current, now)
        if decided is not None:
            return decided
    return CheckFailed(task_id=task.id, attempt=task.attempts, error=error)


async def _with_current_times(connection: AsyncConnection, task: Task) -> Task:
    """Return a claimed task with the times as they are now: stored times move when the clock jumps."""
    current = await task_store.find(connection, task.id)
    if current is None:
        return task
    return dataclasses.replace(task, deadline_at=current.deadline_at, unconfirmed_since=current.unconfirmed_since)


async def _may_be_anothers(connection: AsyncConnection, found: ListedJob, submission: Submission) -> bool:
    """Return whether a job may belong to another submission whose answer was lost or is on its way."""
    at = dt.datetime.fromtimestamp(found.created_at, dt.UTC)
    span = {"since": at - MAX_FLIGHT, "until": at + CLOCK_TOLERANCE}
    others = await submissions.without_known_job(connection, submission, **span, most=MAX_OTHERS)
    if len(others) == MAX_OTHERS:
        return True
    for task_id in others:
        other = await task_store.find(connection, task_id)
        if other is not None and task_id != submission.task_id and found.may_be(other):
            return True
    return False


def _in_time(listed: ListedJob, submission: Submission, task: Task, now: dt.datetime) -> bool:
    """Return whether a job was created while the submission was in flight."""
    first = submission.sent_at - CLOCK_TOLERANCE
    last = (task.unconfirmed_since or now) + CLOCK_TOLERANCE
    return first.timestamp() <= listed.created_at <= last.timestamp()  # a provider may state what is no time


def _by_policy(task: Task, submission: Submission | None, now: dt.datetime) -> Change | None:
    """Return the change that the client's policy demands; None where it demands to wait."""
    who = "an upstream" if submission is None else submission.upstream
    if task.on_uncertain == "fail":
        words = f"it is unknown whether {who} has the job: {task.last_error or 'no usable answer came'}"
        return Ended(
            task_id=task.id,
            attempt=task.attempts,
            expects=_UNCONFIRMED,
            state=State.FAILED,
            failure=Failure((submission and submission.code) or "unknown", words),
            details={"policy": "fail"},
        )
    if task.on_uncertain == "hold" or task.external_id is not None or now >= task.deadline_at:
        return None
    if task.cancel_requested_at is not None:
        return _cancelled(task, who)
    return _resubmission(task, submission, now, Source.SWEEP, "resubmitted")


def _cancelled(task: Task, who: str) -> Ended:
    """Return the end of a task that would be submitted again and whose client asked to cancel."""
    words = (
        f"it is not submitted again; {who} may have the job, which may go on and be charged; "
        "if a result still arrives, it is kept"
    )
    return Ended(
        task_id=task.id,
        attempt=task.attempts,
        expects=_UNCONFIRMED,
        state=State.CANCELLED,
        failure=Failure("cancelled", words),
        source=Source.CLIENT,
    )


def _resubmission(
    task: Task, submission: Submission | None, now: dt.datetime, source: Source, event_type: str
) -> ResubmissionAllowed:
    return ResubmissionAllowed(
        task_id=task.id,
        submission=None if submission is None else dataclasses.replace(submission, superseded_at=now),
        at=now,
        source=source,
        event_type=event_type,
    )


async def retry(context: Context, task: Task) -> Applied:
    """Submit an unconfirmed task again, because an operator accepts a possible second charge.

    :raises NotUnconfirmed: when the outcome is known by now
    """
    async with context.database.reading() as connection:
        history = (await submissions.of_tasks(connection, [task.id]))[task.id]
    current = next((each for each in history if each.id == task.submission_id), None)
    unknown = task.submission_id is None  # after a restore
    if task.state is not State.UNCONFIRMED or not (current or unknown) or task.external_id is not None:
        raise NotUnconfirmed(f"the task is {task.state}")
    applied = await settle(context, _resubmission(task, current, context.now(), Source.CLIENT, "retried"))
    if applied.decision != "applied":
        raise NotUnconfirmed("the outcome of the submission has become known meanwhile")
    context.signals.wake("submit")
    return applied
