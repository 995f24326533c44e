"""Send the one request that creates a job, and write what came of it."""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.changes import Change
from service.domain.errors import AccountProblem, NotSent, Unavailable, Uncertain, Unreadable, UpstreamError
from service.domain.evidence import may_have_job
from service.domain.operator_events import ACCOUNT_REFUSED, CIRCUIT_OPEN, Occurrence
from service.domain.redaction import redact
from service.domain.schedules import SUBMIT_LEASE_MARGIN
from service.domain.task import Outcome, State, Submission, Task
from service.domain.text import shortened, storable
from service.flows.apply import settle_surely
from service.flows.context import Context, Upstream, log
from service.flows.conversation import run_exchange
from service.flows.signals.live import LiveAnswer
from service.flows.submission.cancel import cancel_if_pending
from service.flows.submission.media import seconds_for, with_media
from service.flows.submission.outcome import answered, failed, not_sent
from service.flows.webhooks.operator import announce, report
from service.providers.dialect import Dialect
from service.providers.wire import Call, Reply
from service.store import circuits as circuit_store
from service.store import tasks as task_store
from service.store.database import StoreUnavailable
from service.store.history import Answer, keep_answers

Found = TypeVar("Found")
MAX_KEPT = 4000
"""Characters of an answer that are kept for the task's history."""
SEND_WITHIN = SUBMIT_LEASE_MARGIN
"""Seconds after its claim within which a submission is sent: then its answer comes before the lease ends."""


@dataclasses.dataclass(frozen=True, slots=True)
class Handover:
    """A task on its way to an upstream: the submission is written, and nothing is sent yet."""

    task: Task
    submission: Submission
    upstream: Upstream
    dialect: Dialect
    history: Sequence[Submission]
    probe: bool = False
    """Whether it tests an upstream whose circuit is open."""
    claimed_at: float = 0.0
    """When its task was claimed, on the monotonic clock."""
    answers: list[Answer] = dataclasses.field(default_factory=list)
    """The answer of the upstream, for the task's history."""
    sent: list[bool] = dataclasses.field(default_factory=list)
    """Of each call that was sent, or is about to be: whether it creates the job."""

    @property
    def key(self) -> circuit_store.Key:
        """The key of its circuit."""
        return self.upstream.name, self.dialect.facts.key

    def creates(self, call: Call) -> bool:
        """Return whether a call creates the job. That of a free operation buys nothing."""
        return call.creates or self.task.operation in self.dialect.facts.free


async def hand_over(context: Context, handover: Handover) -> None:
    """Send the one request that creates a job, and write what came of it."""
    with context.live.answering(handover.task.id) as live:
        await _hand_over(context, handover, live)


async def _hand_over(context: Context, handover: Handover, live: LiveAnswer | None) -> None:
    error: UpstreamError | None = None
    stopped, began = False, context.now()
    try:
        change: Change = await _send(context, handover, live)
    except asyncio.CancelledError:
        stopped, error = True, Uncertain("unknown", "Dovecote stopped before the answer arrived")
    except UpstreamError as raised:
        error = raised.with_traceback(None)  # its frames would keep a large request in memory
    except Exception as raised:  # noqa: BLE001 - a fault of ours; the job may run all the same
        log.exception("submission failed submission=%s", handover.submission.id)
        error = Uncertain("unreadable", f"the submission failed: {type(raised).__name__}")
    if error is not None:
        error = error if any(handover.sent) else _never_bought(error, stopped=stopped)
        change = change_for(context, handover, error)
    outcome = Outcome.TAKEN if error is None else error.outcome
    context.metrics.submissions.labels(handover.upstream.name, outcome).inc()
    _trace(context, handover, began, error)
    applied = await settle_surely(context, change)
    await _keep_answer(context, handover)
    if not stopped:  # a stop is no failure of the upstream
        await _report(context, handover, error)
    if isinstance(error, AccountProblem):
        data = {"upstream": handover.upstream.name, "code": error.code}
        await report(context, Occurrence(ACCOUNT_REFUSED, handover.upstream.name, data))
    if applied.task is not None and applied.task.state is State.QUEUED:
        context.signals.wake("submit")
    if error is not None and may_have_job(handover.history):
        context.signals.wake("duplicates")
    if applied.task is not None:
        await cancel_if_pending(context, applied.task)


def _never_bought(error: UpstreamError, *, stopped: bool) -> UpstreamError:
    """Return what an error means where no call was sent that creates a job: media were prepared, or uploaded."""
    if stopped:
        return NotSent("Dovecote stopped before the request was sent")
    if isinstance(error, Uncertain | Unreadable):
        return Unavailable(error.code, error.message, broken=error.broken)
    return error


def _trace(context: Context, handover: Handover, began: dt.datetime, error: UpstreamError | None) -> None:
    task = handover.task
    if context.traces is not None and task.traceparent is not None:
        context.traces.record(
            "submit",
            task.traceparent,
            began,
            context.now(),
            failed=error is not None,
            task=str(task.id),
            upstream=handover.upstream.name,
            dialect=handover.dialect.facts.key,
            outcome=str(Outcome.TAKEN if error is None else error.outcome),
        )


def callback_url(context: Context, upstream: Upstream, dialect: Dialect, task: Task, submission_id: UUID) -> str | None:
    """Return the URL that the provider may call for a submission; None when no callback can come."""
    calls = dialect.facts.callbacks and task.operation not in dialect.facts.synchronous
    if context.settings.public_url is None or not calls or upstream.settings.callbacks == "off":
        return None
    return f"{context.settings.public_url}/callbacks/{context.tokens.make(submission_id)}"


async def _send(context: Context, handover: Handover, live: LiveAnswer | None) -> Change:
    if not handover.task.large_input:
        return await _send_whole(context, handover, handover.task, live)
    size = await _read_input(context, task_store.input_size, handover.task)
    read = functools.partial(_read_input, context, task_store.with_whole_input, handover.task)
    async with context.large.input(size, read) as task:
        return await _send_whole(context, handover, task, live)


async def _send_whole(context: Context, handover: Handover, task: Task, live: LiveAnswer | None) -> Change:
    submission = handover.submission
    task = handover.upstream.in_its_names(await with_media(context, handover.upstream, handover.dialect, task))
    url = callback_url(context, handover.upstream, handover.dialect, task, submission.id)
    exchange = handover.dialect.submit(task.changed(submission_id=submission.id), url)
    hidden = [] if url is None else [url.rpartition("/")[2]]

    def keep(call: Call, reply: Reply) -> None:
        if handover.creates(call):
            with contextlib.suppress(Exception):  # the job may exist: nothing that is for readers may fail the submit
                handover.answers.append(_answer(context, submission, reply))

    update = await run_exchange(
        context,
        handover.upstream,
        handover.dialect,
        exchange,
        hidden=hidden,
        send_before=handover.claimed_at + SEND_WITHIN + seconds_for(handover.upstream, handover.dialect, handover.task),
        sending=lambda call: handover.sent.append(handover.creates(call)),
        heard=keep,
        live=live,
    )
    return answered(task, submission, update)


async def _read_input(context: Context, read: Callable[[AsyncConnection, Task], Awaitable[Found]], task: Task) -> Found:
    """Return what a function reads of a task's large input.

    :raises Unavailable: when it cannot be read; nothing was sent then
    """
    try:
        async with context.database.reading() as connection:
            return await read(connection, task)
    except StoreUnavailable as away:
        raise Unavailable("overloaded", f"the input could not be read from the database: {away}"[:300]) from away


def change_for(context: Context, handover: Handover, error: UpstreamError) -> Change:
    """Return the change for an error, and log an account that was refused."""
    if isinstance(error, AccountProblem):
        # Its message is in the submission only, because it may repeat the request.
        log.error("account refused upstream=%s code=%s", handover.upstream.name, error.code)
    if isinstance(error, NotSent):
        log.warning(
            "submission not sent submission=%s upstream=%s error=%s",
            handover.submission.id,
            handover.upstream.name,
            error,
        )
        return not_sent(handover.task, handover.submission, handover.history, error, now=context.now())
    return failed(
        handover.task,
        handover.submission,
        handover.history,
        error,
        now=context.now(),
        chance=context.chance(),
        configured=context.upstreams.keys(),
    )


def _answer(context: Context, submission: Submission, reply: Reply) -> Answer:
    """Return the beginning of an answer, without secrets."""
    beginning = reply.body[: 2 * MAX_KEPT].decode("utf-8", "replace")
    text = shortened(storable(redact(beginning, reply.secrets)), MAX_KEPT)
    size = len(reply.body)
    return Answer(
        submission_id=submission.id,
        endpoint=reply.endpoint,
        status=reply.status,
        body=text,
        size=size,
        at=context.now(),
    )


async def _keep_answer(context: Context, handover: Handover) -> None:
    """Write the answer into the history. It is for readers: nothing depends on it, and it may be missing."""
    if handover.answers:
        try:
            await context.writers.journeys.batch(keep_answers, handover.answers[-1])
        except StoreUnavailable as error:
            log.debug("answer not kept submission=%s error=%s", handover.submission.id, error)


async def _report(context: Context, handover: Handover, error: UpstreamError | None) -> None:
    """Record the result in the circuit. It is a hint: nothing waits for it when it cannot be written."""
    is_failure = error is not None and (error.broken or isinstance(error, Uncertain))
    try:
        if is_failure:
            opened = await context.writers.journeys.batch(
                functools.partial(_record_failures, context), (*handover.key, context.now())
            )
            if opened:
                context.metrics.circuit_openings.labels(*handover.key).inc()
                log.error("circuit opened upstream=%s dialect=%s", *handover.key)
        elif handover.probe and not isinstance(error, NotSent):
            await context.writers.journeys.batch(circuit_store.close, handover.key)
            log.warning("circuit closed upstream=%s dialect=%s", *handover.key)
            context.signals.wake("submit")
    except StoreUnavailable as away:
        log.warning("circuit cannot be written upstream=%s dialect=%s error=%s", *handover.key, away)


async def _record_failures(
    context: Context, connection: AsyncConnection, failed: Sequence[tuple[str, str, dt.datetime]]
) -> list[bool]:
    """Count failures, and tell operators of the circuits that they open; return for each whether it opened one."""
    opened = await circuit_store.record_failures(connection, failed)
    keys = [(upstream, dialect) for (upstream, dialect, _), new in zip(failed, opened, strict=True) if new]
    data = ({"upstream": upstream, "dialect": dialect} for upstream, dialect in keys)
    await announce(context, connection, [Occurrence(CIRCUIT_OPEN, " ".join(each.values()), each) for each in data])
    return opened
