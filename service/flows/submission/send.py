"""Send the one request that creates, and turn whatever comes of it into what may be done next."""

import dataclasses
import datetime as dt
from collections.abc import Sequence

from service.domain.errors import AccountProblem, NotFound, Refused, Unavailable, Uncertain, UpstreamError
from service.domain.routing import TRIES, choose, tries
from service.domain.schedules import RETRY_AFTER_CAP, retry_submit
from service.domain.task import MAY_HAVE_JOB, Failure, Outcome, Source, State, Submission, Task, Update
from service.flows.apply import News, settle_surely
from service.flows.context import Context, Upstream, log
from service.flows.conversation import run_exchange
from service.flows.submission.cancel import follow_up
from service.providers.dialect import Dialect
from service.store import upstreams as upstream_store
from service.store.database import StoreUnavailable

LONGEST_REST = 3600.0
"""Seconds for which an upstream that asks for a long rest goes behind the others."""


@dataclasses.dataclass(frozen=True, slots=True)
class Handover:
    """A task on its way to an upstream: the submission is written, nothing is sent yet."""

    task: Task
    submission: Submission
    upstream: Upstream
    dialect: Dialect
    history: Sequence[Submission]
    probe: bool = False
    """Whether it tries an upstream that has been left alone."""

    @property
    def key(self) -> upstream_store.Key:
        """Name its circuit."""
        return self.upstream.name, self.dialect.facts.key


async def hand_over(context: Context, handover: Handover) -> None:
    """Send the one request that creates, and write down how it went."""
    task, submission = handover.task, handover.submission
    url = context.callback_url(handover.upstream, handover.dialect, task, submission.id)
    error: UpstreamError | None = None
    try:
        exchange = handover.dialect.submit(task, url)
        hidden = [] if url is None else [url.rpartition("/")[2]]
        update = await run_exchange(context, handover.upstream, handover.dialect, exchange, hidden=hidden)
        news = _taken(context, handover, update)
    except UpstreamError as raised:
        error = raised
    except Exception as raised:  # noqa: BLE001 - a mistake of ours while reading: the job may run all the same
        log.exception("the answer to submission %s could not be read", submission.id)
        error = Uncertain("unreadable", f"the answer could not be read: {raised!r}"[:300])
    if error is not None:
        news = went_wrong(context, handover, error)
    applied = await settle_surely(context, news)
    await _report(context, handover, error)
    if applied.task is not None and applied.task.state is State.QUEUED:
        context.signals.wake("submit")
    if error is not None and perhaps_bought(handover.history):
        context.signals.wake("duplicates")
    if applied.task is not None and applied.task.cancel_requested_at is not None:
        await follow_up(context, applied.task)


async def _report(context: Context, handover: Handover, error: UpstreamError | None) -> None:
    """Let the circuit know how it went. It is a hint: where it cannot be written, nothing waits for it."""
    failed = error is not None and (error.broken or isinstance(error, Uncertain))
    try:
        if failed:
            opened = await context.writer.do(upstream_store.record_failures, (*handover.key, context.now()))
            if opened:
                log.error("upstream %s (%s) keeps failing and is left alone for a while", *handover.key)
        elif handover.probe:
            await context.writer.do(upstream_store.close_circuits, handover.key)
            log.warning("upstream %s (%s) is back", *handover.key)
            context.signals.wake("submit")
    except StoreUnavailable as away:
        log.warning("the circuit of %s (%s) cannot be written: %s", *handover.key, away)


def _settled(handover: Handover, outcome: Outcome, now: dt.datetime, error: UpstreamError) -> Submission:
    return dataclasses.replace(
        handover.submission, outcome=outcome, code=error.code, message=str(error), settled_at=now
    )


def _taken(context: Context, handover: Handover, update: Update) -> News:
    if update.external_id is None and (update.state is None or not update.state.ended):
        return went_wrong(context, handover, Uncertain("unreadable", "the answer has no job id"))
    return News(
        task_id=handover.task.id,
        source=Source.SUBMIT,
        update=dataclasses.replace(update, state=update.state or State.SUBMITTED),
        attempt=handover.task.attempts,
        set={"last_error": None},
        details={"upstream": handover.upstream.name},
        proves=handover.submission,
    )


def perhaps_bought(history: Sequence[Submission]) -> bool:
    """Whether one of these submissions may have made a job, although it was given up."""
    return any(each.outcome in MAY_HAVE_JOB for each in history)


def who_ends(history: Sequence[Submission]) -> Source:
    """Say who ends a task that nobody takes: not the provider, while a job of an earlier submission may still come."""
    return Source.SWEEP if perhaps_bought(history) else Source.SUBMIT


def went_wrong(context: Context, handover: Handover, error: UpstreamError) -> News:
    """Turn a failure into what may be done next."""
    now = context.now()
    task, upstream = handover.task, handover.upstream.name
    news = News(
        task_id=task.id,
        source=Source.SUBMIT,
        attempt=task.attempts,
        expects=frozenset({State.SUBMITTING}),
        set={"last_error": f"{upstream}: {error}"},
        details={"upstream": upstream, "code": error.code, "message": error.message},
    )
    failure = Failure(error.code, str(error) if error.message else None)
    match error:
        case Refused() | NotFound():
            refused = Update(state=State.FAILED, failure=failure)
            news = dataclasses.replace(news, source=who_ends(handover.history), update=refused)
            return dataclasses.replace(news, settles=_settled(handover, Outcome.REFUSED, now, error))
        case AccountProblem():
            return _turned_away(news, handover, error, failure, now)
        case Unavailable():
            return _unavailable(context, news, handover, error)
        case _:
            unknown = Update(state=State.UNCONFIRMED)
            return dataclasses.replace(news, update=unknown, settles=_settled(handover, Outcome.UNCERTAIN, now, error))


def _turned_away(news: News, handover: Handover, error: AccountProblem, failure: Failure, now: dt.datetime) -> News:
    """Alert, and go to the next upstream; where there is none the task has failed."""
    # Its own words are in the submission: they may repeat what was sent.
    log.error("upstream %s turns the account away (%s)", handover.upstream.name, error.code)
    settled = _settled(handover, Outcome.ACCOUNT, now, error)
    another = choose(handover.task.route, [*handover.history, settled], now=now) is not None
    return dataclasses.replace(
        news,
        source=news.source if another else who_ends(handover.history),
        update=Update(state=State.QUEUED) if another else Update(state=State.FAILED, failure=failure),
        settles=settled,
        remark="account_problem" if another else None,
        holder_only=another,
        retry_at=now,
    )


def _unavailable(context: Context, news: News, handover: Handover, error: Unavailable) -> News:
    """Try again later, or at the next upstream."""
    now = context.now()
    settled = _settled(handover, Outcome.UNAVAILABLE, now, error)
    met = tries(settled.upstream, [*handover.history, settled])
    again_at = retry_submit(max(met, 1), retry_after=error.retry_after, chance=context.chance(), now=now)
    asked = now + dt.timedelta(seconds=min(error.retry_after or 0.0, LONGEST_REST))
    settled = dataclasses.replace(settled, retry_at=max(again_at, asked))
    if met == TRIES or (error.retry_after or 0.0) > RETRY_AFTER_CAP:
        route = [name for name in handover.task.route if name in context.upstreams]
        if choose(route, [*handover.history, settled], now=now) != settled.upstream:
            again_at = now  # by another one
    return dataclasses.replace(
        news,
        update=Update(state=State.QUEUED),
        settles=settled,
        remark="upstream_unavailable",
        holder_only=True,
        retry_at=min(again_at, max(handover.task.deadline_at, now)),
    )


def found_sending(task: Task, history: Sequence[Submission], now: dt.datetime) -> News:
    """Deal with a submission whose process died while it was in flight: nobody knows whether it arrived."""
    sending = next((each for each in history if each.outcome is Outcome.SENDING), None)
    error = "Dovecote stopped while the request was on its way"
    settled = (
        None
        if sending is None
        else dataclasses.replace(sending, outcome=Outcome.UNCERTAIN, code="unknown", message=error, settled_at=now)
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
