"""Find out whether a task was bought whose answer got lost; and where nobody can, do what its policy says.

A callback with the submission's token settles it by itself. What is left is the provider's list, where it has one.
"""

import dataclasses
import datetime as dt
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.errors import UpstreamError
from service.domain.schedules import reconciliation_ends
from service.domain.task import Failure, Source, State, Submission, Task, Update
from service.flows.apply import Applied, News, announce, apply, settle
from service.flows.context import Context, log
from service.flows.conversation import run_exchange
from service.providers.capabilities import CanListJobs
from service.providers.wire import ListedJob
from service.store import submissions
from service.store import tasks as task_store
from service.store import upstreams as upstream_store

AROUND = dt.timedelta(seconds=60)
"""How far a provider's clock may be off ours: a job may seem to be from so long before its submit, or after its end."""


ON_ITS_WAY = dt.timedelta(minutes=15)
"""How long after its submission was begun a job may have been made, at the utmost: a synchronous one takes so long."""
MAX_OTHERS = 200
"""So many other submissions whose job may be the one that is listed are too many to look at."""


class NotUnconfirmed(Exception):
    """It is known what became of the task's submission: there is nothing to retry."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Case:
    task: Task
    listed: Sequence[ListedJob] = ()
    error: str | None = None


async def reconcile(context: Context, task: Task) -> Applied:
    """Look once for the job of a claimed task that is unconfirmed, and write what came of it."""
    case = await _search(context, task)
    applied = await context.writer.do(context.once(_decide), case)
    announce(context, [applied])
    if applied.task is not None and applied.task.state is State.QUEUED:
        context.signals.wake("submit")
    return applied


async def _search(context: Context, task: Task) -> _Case:
    """Ask the provider for its list, where it has one."""
    upstream, dialect = context.upstreams.get(task.upstream or ""), context.dialect(task)
    if upstream is None or not isinstance(dialect, CanListJobs) or not context.lists(task):
        return _Case(task)
    try:
        listed = await run_exchange(context, upstream, dialect, dialect.find_lost_jobs(task))
    except UpstreamError as error:
        return _Case(task, error=f"{task.upstream} does not show its list: {error}")
    except Exception as error:  # noqa: BLE001 - a mistake of ours while reading: it is looked at again
        log.exception("the list of %s could not be read", task.upstream)
        return _Case(task, error=f"the list could not be read: {type(error).__name__}")
    return _Case(task, listed)


async def _decide(context: Context, connection: AsyncConnection, cases: Sequence[_Case]) -> list[Applied]:
    decided: list[Applied] = []
    # While these are locked no other process adopts a job of the same list.
    await upstream_store.lock(connection, {case.task.upstream for case in cases if case.listed and case.task.upstream})
    for case in cases:
        news = await _news(context, connection, case)
        decided += await apply(context, connection, [news])
    return decided


async def _news(context: Context, connection: AsyncConnection, case: _Case) -> News:
    task, now = case.task, context.now()
    history = (await submissions.of_tasks(connection, [task.id]))[task.id]
    current = next((each for each in history if each.id == task.submission_id), None)
    if current is None:
        return News(task_id=task.id, source=Source.POLL, attempt=task.attempts)
    fitting = [listed for listed in case.listed if _in_time(listed, current, task, now)]
    unclaimed = [
        listed for listed in fitting if not await submissions.is_known(connection, current.upstream, listed.external_id)
    ]
    error = case.error
    if len(unclaimed) == 1:
        if not await _may_be_anothers(connection, unclaimed[0], current):
            return _adoption(task, current, unclaimed[0])
        error = f"a job in the list of {current.upstream} may be it, or that of another task whose answer is not there"
    if len(unclaimed) > 1:
        error = f"{len(unclaimed)} jobs in the list of {current.upstream} may be it, and none is certain"
    lookup = context.lists(task)
    if now >= reconciliation_ends(task, median=context.typical_seconds(task), lookup=lookup):
        decided = _by_policy(task, current, now)
        if decided is not None:
            return decided
    seen = {} if error is None else {"last_error": error}
    return News(task_id=task.id, source=Source.POLL, attempt=task.attempts, set=seen)


async def _may_be_anothers(connection: AsyncConnection, found: ListedJob, submission: Submission) -> bool:
    """Whether a job may as well be that of another submission whose answer got lost, or is on its way."""
    at = dt.datetime.fromtimestamp(found.created_at, dt.UTC)
    span = {"since": at - ON_ITS_WAY, "until": at + AROUND}
    others = await submissions.at_large(connection, submission, **span, most=MAX_OTHERS)
    if len(others) == MAX_OTHERS:
        return True
    for task_id in others:
        other = await task_store.find(connection, task_id)
        if other is not None and task_id != submission.task_id and found.may_be(other):
            return True
    return False


def _in_time(listed: ListedJob, submission: Submission, task: Task, now: dt.datetime) -> bool:
    """Whether a job is from the time at which the submission was on its way."""
    at = dt.datetime.fromtimestamp(listed.created_at, dt.UTC)
    return submission.sent_at - AROUND <= at <= (task.unconfirmed_since or now) + AROUND


def _adoption(task: Task, submission: Submission, found: ListedJob) -> News:
    return News(
        task_id=task.id,
        source=Source.POLL,
        attempt=task.attempts,
        expects=frozenset({State.UNCONFIRMED}),
        update=Update(state=State.SUBMITTED, external_id=found.external_id),
        set={"last_error": None},
        remark="found_in_list",
        details={"upstream": submission.upstream},
        proves=submission,
    )


def _by_policy(task: Task, submission: Submission, now: dt.datetime) -> News | None:
    """Do what the client wants where nobody can find out; None where that is to wait."""
    if task.on_uncertain == "fail":
        words = (
            f"nobody can find out whether {submission.upstream} has it: {task.last_error or 'no usable answer came'}"
        )
        failure = Failure(submission.code or "unknown", words)
        return News(
            task_id=task.id,
            source=Source.SWEEP,
            attempt=task.attempts,
            expects=frozenset({State.UNCONFIRMED}),
            update=Update(state=State.FAILED, failure=failure),
            details={"policy": "fail"},
        )
    if task.on_uncertain == "hold" or task.external_id is not None or now >= task.deadline_at:
        return None
    if task.cancel_requested_at is not None:
        return _cancelled(task, submission)
    return _again(task, submission, now, Source.SWEEP, "resubmitted")


def _cancelled(task: Task, submission: Submission) -> News:
    """Carry out a wish to cancel what would be bought again."""
    words = (
        f"it is not bought again; {submission.upstream} may have it: the job may run on there and be charged, and should "
        "a result come all the same, it is kept"
    )
    return News(
        task_id=task.id,
        source=Source.CLIENT,
        attempt=task.attempts,
        expects=frozenset({State.UNCONFIRMED}),
        update=Update(state=State.CANCELLED, failure=Failure("cancelled", words)),
    )


def _again(task: Task, submission: Submission, now: dt.datetime, source: Source, remark: str) -> News:
    """Let the task be bought once more, although it may have been bought."""
    words = f"{submission.upstream} may have it already: bought again, perhaps for the second time"
    return News(
        task_id=task.id,
        source=source,
        expects=frozenset({State.UNCONFIRMED}),
        update=Update(state=State.QUEUED),
        set={"last_error": words, "on_uncertain": "hold"},
        settles=dataclasses.replace(submission, superseded_at=now),
        remark=remark,
        details={"submission": str(submission.id), "upstream": submission.upstream},
        retry_at=now,
    )


async def retry(context: Context, task: Task) -> Applied:
    """Buy an unconfirmed task again, because an operator accepts that it may be paid twice.

    :raises NotUnconfirmed: when it is known what became of it, by now
    """
    async with context.database.reading() as connection:
        history = (await submissions.of_tasks(connection, [task.id]))[task.id]
    current = next((each for each in history if each.id == task.submission_id), None)
    if task.state is not State.UNCONFIRMED or current is None or task.external_id is not None:
        raise NotUnconfirmed(f"the task is {task.state}")
    applied = await settle(context, _again(task, current, context.now(), Source.CLIENT, "retried"))
    if applied.decision != "applied":
        raise NotUnconfirmed("it has become known meanwhile what became of it")
    context.signals.wake("submit")
    return applied
