"""Hand tasks over: claim, write down that we are about to send, send once, and write down how it went."""

import dataclasses
import datetime as dt
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.errors import AccountProblem, NotFound, Refused, Unavailable, Uncertain, UpstreamError
from service.domain.routing import TRIES, choose, tries
from service.domain.task import Failure, Source, State, Submission, Task, Update
from service.domain.timing import LEASE, SUBMIT_LEASE_MARGIN, retry_submit
from service.flows.apply import News, settle, settle_surely
from service.flows.cancel import follow_up
from service.flows.exchange import converse
from service.flows.http import CONNECT_TIMEOUT, WRITE_TIMEOUT
from service.flows.runtime import Runtime, Upstream, log
from service.flows.underway import Underway
from service.providers.dialect import Dialect
from service.store import queue, submissions
from service.store.database import StoreUnavailable

MOST_UNDER_WAY = 64
PLACE_WAIT = 2.0
"""Seconds until a task looks again for a place at an upstream that has none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Handover:
    """A task on its way to an upstream: the submission is written, nothing is sent yet."""

    task: Task
    submission: Submission
    upstream: Upstream
    dialect: Dialect
    history: Sequence[Submission]


async def run_due(runtime: Runtime, underway: Underway) -> int:
    """Take the tasks that are due and start to hand them over; answer how many were taken."""
    room = min(underway.room, MOST_UNDER_WAY, _free_places(runtime))
    if not room:
        return 0
    now = runtime.now()
    until = now + dt.timedelta(seconds=LEASE)
    claimed: list[Task] = await runtime.writer.do(_claim, (now, until, room))
    if not claimed:
        return 0
    async with runtime.database.reading() as connection:
        histories = await submissions.of_tasks(connection, [task.id for task in claimed])
    started = 0
    for task in claimed:
        try:
            news, handover = plan(runtime, task, histories[task.id])
        except Exception:  # noqa: BLE001 - one that cannot be planned waits for its lease and stops no other
            log.exception("task %s cannot be planned", task.id)
            continue
        if handover is not None and not handover.upstream.places.take():
            underway.start(_put_back(runtime, handover))
            continue
        underway.start(serve(runtime, news, handover))
        started += 1
    return started


def _free_places(runtime: Runtime) -> int:
    """Count what could be handed over now; at least one, since a task may be due for another reason."""
    return max(sum(upstream.places.free for upstream in runtime.upstreams.values()), 1)


async def _put_back(runtime: Runtime, handover: Handover) -> None:
    """Leave a task queued for a moment: as many purchases as may be are under way to its upstream."""
    task = handover.task
    waits = {"last_error": f"{handover.upstream.name} has no free place"}
    later = runtime.now() + dt.timedelta(seconds=PLACE_WAIT)
    await settle(
        runtime,
        News(
            task_id=task.id,
            source=Source.SUBMIT,
            attempt=task.attempts,
            holder_only=True,
            expects=State.QUEUED,
            set=waits,
            retry_at=later,
        ),
    )


async def _claim(
    connection: AsyncConnection, wishes: Sequence[tuple[dt.datetime, dt.datetime, int]]
) -> list[list[Task]]:
    return [
        await queue.claim_tasks(connection, "submit", now=now, until=until, most=most) for now, until, most in wishes
    ]


async def serve(runtime: Runtime, news: News, handover: Handover | None) -> None:
    """Do what was planned for a claimed task, and give its place at the upstream back."""
    try:
        await _carry_out(runtime, news, handover)
    finally:
        if handover is not None:
            handover.upstream.places.give()


async def _carry_out(runtime: Runtime, news: News, handover: Handover | None) -> None:
    """Write the plan, and send. Once the submission is written, nothing but the end of the process comes between."""
    try:
        begun = await settle(runtime, news)
    except StoreUnavailable:
        if handover is not None:
            # Perhaps it was written and only the answer got lost. We know that nothing was sent, and say so.
            unsent = Unavailable("overloaded", "the database went away before anything was sent")
            await settle_surely(runtime, _went_wrong(runtime, handover, unsent))
        return
    if handover is not None and begun.decision == "applied":
        await hand_over(runtime, handover)


def plan(runtime: Runtime, task: Task, history: Sequence[Submission]) -> tuple[News, Handover | None]:
    """Decide what to do with a claimed task; pure but for the clock and the id."""
    now = runtime.now()
    if task.state is State.SUBMITTING:
        return _found_sending(task, history, now), None
    if task.cancel_requested_at is not None:
        unsent = Failure("cancelled", "before it was handed over; nothing was paid")
        return _end(task, Update(state=State.CANCELLED, failure=unsent), Source.CLIENT), None
    if now >= task.deadline_at:
        failure = Failure("provider_timeout", task.last_error or "not handed over before the deadline")
        return _end(task, Update(state=State.EXPIRED, failure=failure), Source.SWEEP), None
    name = choose([name for name in task.route if name in runtime.upstreams], history)
    upstream = runtime.upstreams.get(name or "")
    dialect = None if upstream is None else _dialect(runtime, task, upstream)
    if upstream is None or dialect is None:
        return _nobody_left(task, history), None
    submission = Submission(
        id=runtime.new_id(),
        task_id=task.id,
        upstream=upstream.name,
        dialect=f"{dialect.family}/{dialect.name}",
        sent_at=now,
    )
    lease = CONNECT_TIMEOUT + WRITE_TIMEOUT + dialect.submit_timeout + SUBMIT_LEASE_MARGIN
    news = News(
        task_id=task.id,
        source=Source.SUBMIT,
        update=Update(state=State.SUBMITTING),
        attempt=task.attempts,
        holder_only=True,
        expects=State.QUEUED,
        set={
            "upstream": upstream.name,
            "dialect": submission.dialect,
            "callback_expected": runtime.callback_url(upstream, dialect, task, submission.id) is not None,
        },
        details={"upstream": upstream.name, "submission": str(submission.id)},
        begins=submission,
        retry_at=now + dt.timedelta(seconds=lease),
    )
    return news, Handover(task, submission, upstream, dialect, history)


def _dialect(runtime: Runtime, task: Task, upstream: Upstream) -> Dialect | None:
    """Choose the dialect: a follow-up speaks that of its parent, whose ids it uses."""
    return runtime.dialect(task) if task.parent_id is not None else upstream.dialect_for(task.family, task.operation)


async def hand_over(runtime: Runtime, handover: Handover) -> None:
    """Send the one request that creates, and write down how it went."""
    task, submission = handover.task, handover.submission
    url = runtime.callback_url(handover.upstream, handover.dialect, task, submission.id)
    try:
        exchange = handover.dialect.submit(task, url)
        hidden = [] if url is None else [url.rpartition("/")[2]]
        update = await converse(runtime, handover.upstream, handover.dialect, exchange, hidden=hidden)
        news = _taken(runtime, handover, update)
    except UpstreamError as error:
        news = _went_wrong(runtime, handover, error)
    except Exception as error:  # noqa: BLE001 - a mistake of ours while reading the answer: the job may run all the same
        log.exception("the answer to submission %s could not be read", submission.id)
        news = _went_wrong(runtime, handover, Uncertain("unreadable", f"the answer could not be read: {error!r}"[:300]))
    applied = await settle_surely(runtime, news)
    if applied.task is not None and applied.task.state is State.QUEUED:
        runtime.bells.ring("submit")
    if applied.task is not None and applied.task.cancel_requested_at is not None:
        await follow_up(runtime, applied.task)


def _settled(handover: Handover, outcome: str, now: dt.datetime, error: UpstreamError | None = None) -> Submission:
    return dataclasses.replace(
        handover.submission,
        outcome=outcome,
        code=None if error is None else error.code,
        message=None if error is None else str(error),
        settled_at=now,
    )


def _taken(runtime: Runtime, handover: Handover, update: Update) -> News:
    if update.external_id is None and (update.state is None or not update.state.ended):
        return _went_wrong(runtime, handover, Uncertain("unreadable", "the answer has no job id"))
    state = update.state or State.SUBMITTED
    settled = _settled(handover, "taken", runtime.now())
    return News(
        task_id=handover.task.id,
        source=Source.SUBMIT,
        update=dataclasses.replace(update, state=state),
        attempt=handover.task.attempts,
        set={"last_error": None},
        details={"upstream": handover.upstream.name},
        settles=dataclasses.replace(settled, external_id=update.external_id),
    )


def _went_wrong(runtime: Runtime, handover: Handover, error: UpstreamError) -> News:
    """Turn a failure into what may be done next."""
    now = runtime.now()
    task, upstream = handover.task, handover.upstream.name
    news = News(
        task_id=task.id,
        source=Source.SUBMIT,
        attempt=task.attempts,
        expects=State.SUBMITTING,
        set={"last_error": f"{upstream}: {error}"},
        details={"upstream": upstream, "code": error.code, "message": error.message},
    )
    failure = Failure(error.code, str(error) if error.message else None)
    match error:
        case Refused() | NotFound():
            news = dataclasses.replace(
                news,
                update=Update(state=State.FAILED, failure=failure),
                settles=_settled(handover, "refused", now, error),
            )
        case AccountProblem():
            # Its own words are in the submission: they may repeat what was sent.
            log.error("upstream %s turns the account away (%s)", upstream, error.code)
            settled = _settled(handover, "account", now, error)
            another = choose(task.route, [*handover.history, settled]) is not None
            update = Update(state=State.QUEUED) if another else Update(state=State.FAILED, failure=failure)
            news = dataclasses.replace(
                news,
                update=update,
                settles=settled,
                remark="account_problem" if another else None,
                holder_only=another,
                retry_at=now,
            )
        case Unavailable():
            settled = _settled(handover, "unavailable", now, error)
            news = dataclasses.replace(
                news,
                update=Update(state=State.QUEUED),
                settles=settled,
                remark="upstream_unavailable",
                holder_only=True,
                retry_at=_retry_at(runtime, handover, settled, error),
            )
        case _:
            news = dataclasses.replace(
                news, update=Update(state=State.UNCONFIRMED), settles=_settled(handover, "uncertain", now, error)
            )
    return news


def _retry_at(runtime: Runtime, handover: Handover, settled: Submission, error: Unavailable) -> dt.datetime:
    """Say when to try again: at once where the next try goes to another upstream."""
    now = runtime.now()
    history = [*handover.history, settled]
    if choose(handover.task.route, history) != settled.upstream and tries(settled.upstream, history) == TRIES:
        return now
    count = max(tries(settled.upstream, history), 1)
    return retry_submit(count, retry_after=error.retry_after, chance=runtime.chance(), now=now)


def _found_sending(task: Task, history: Sequence[Submission], now: dt.datetime) -> News:
    """Deal with a submission whose process died while it was in flight: nobody knows whether it arrived."""
    sending = next((each for each in history if each.outcome == "sending"), None)
    error = "Dovecote stopped while the request was on its way"
    settled = (
        None
        if sending is None
        else dataclasses.replace(sending, outcome="uncertain", code="unknown", message=error, settled_at=now)
    )
    return News(
        task_id=task.id,
        source=Source.SWEEP,
        update=Update(state=State.UNCONFIRMED),
        attempt=task.attempts,
        holder_only=True,
        set={"last_error": error},
        settles=settled,
    )


def _nobody_left(task: Task, history: Sequence[Submission]) -> News:
    last = history[-1] if history else None
    failure = (
        Failure(last.code or "unknown", last.message)
        if last is not None
        else Failure("unauthorized", f"none of {', '.join(task.route)} is configured any more", retryable=True)
    )
    return _end(task, Update(state=State.FAILED, failure=failure), Source.SUBMIT)


def _end(task: Task, update: Update, source: Source) -> News:
    return News(task_id=task.id, source=source, update=update, attempt=task.attempts, holder_only=True)
