"""The only writer of a task's state: lock, decide, write, and enqueue client messages, in one transaction for a batch."""

import asyncio
import dataclasses
import datetime as dt
import functools
import logging
from collections.abc import Collection, Iterator, Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.changes import Change, StatusReported
from service.domain.decision import Decided, Decision, Facts, decide
from service.domain.kept import pending
from service.domain.operator_events import UNKNOWN_WORD, Occurrence
from service.domain.task import ENDED, OCCUPYING, Source, State, Submission, Task
from service.flows.context import Context, log
from service.flows.money import booking
from service.flows.statistics import MAX_WORD, count_unknown_word, next_poll, times_counted
from service.flows.webhooks import enqueue
from service.flows.webhooks.claimed import Claimed
from service.flows.webhooks.operator import announce as announce_to_operators
from service.providers.registry import DIALECTS
from service.store import assets as asset_store
from service.store import events as event_store
from service.store import queue, submissions
from service.store import tasks as task_store
from service.store.assets import Asset
from service.store.database import StoreUnavailable

MAX_WAIT = 5.0
"""Seconds between attempts to write a change while the database is out of reach."""
FIRST_TIMES = 3
"""How often a process reports the same unknown word: a transaction with the first report may not commit."""
MAX_REFUSALS = 3
"""How often the database may refuse a change before the change is reduced to its essentials."""


@dataclasses.dataclass(frozen=True, slots=True)
class Applied:
    """The result of a change."""

    decision: Decision
    task: Task | None
    owes: bool = False
    """Whether a client message is due now."""
    claimed: Sequence[Claimed] = ()
    """The client messages of the transaction that this process has claimed; with its first change only."""
    event: str | None = None
    """The type of the event that was written, if any."""
    source: Source | None = None
    began: dt.datetime | None = None
    """When the transaction began to apply it."""
    booked: booking.Booking | None = None
    """The booking of the transaction; with its first change only."""


async def apply(
    context: Context, connection: AsyncConnection, changes: Sequence[Change], *, hands_over: bool = False
) -> list[Applied]:
    """Apply changes, in order, in the caller's transaction.

    :param hands_over: whether the caller calls :func:`announce` after the commit, which hands over claimed messages
    """
    began = context.now()
    tasks = await task_store.lock(connection, [change.task_id for change in changes])
    # The submission of a proof may have been superseded or adopted since the caller read it.
    proven = [change.evidence_id for change in changes if change.evidence_id is not None]
    known = await submissions.by_id(connection, proven) if proven else {}
    next_check = functools.partial(next_poll, context)
    facts = Facts(
        submissions=known,
        next_check=next_check,
        result_lifetime=_result_lifetime,
        keeps_results=lambda task: task.results_removed_at is None and context.settings.keeps_results_of(task.family),
        new_id=context.new_id,
    )
    before = dict(tasks)
    decided = [_decide(context, tasks, known, change, facts) for change in changes if change.task_id in tasks]
    decided, booked = await booking.book(context, connection, before, decided)
    await _write(context, connection, before, decided, booked)
    happened = [*_unknown_words(context, decided, changes), *booked.occurrences]
    await announce_to_operators(context, connection, happened)
    enqueued = await _enqueue(context, connection, decided, booked, hands_over=hands_over)
    outcomes = iter(decided)
    applied = [
        Applied("unmatched", None) if change.task_id not in tasks else _applied(next(outcomes), enqueued.due, began)
        for change in changes
    ]
    return [dataclasses.replace(each, booked=booked, claimed=enqueued.claimed) for each in applied[:1]] + applied[1:]


def _unknown_words(context: Context, decided: Sequence[Decided], changes: Sequence[Change]) -> Iterator[Occurrence]:
    """Yield the status words that are unknown and were seen by this process for the first times."""
    shown = {change.task_id: change.update.unknown_in for change in changes if isinstance(change, StatusReported)}
    for each in decided:
        word, dialect = each.unknown_word, each.task.dialect or ""
        if word is not None and times_counted(context, dialect, word) <= FIRST_TIMES:
            data = {
                "dialect": dialect,
                "word": word[:MAX_WORD],
                "task_id": str(each.task.id),
                "message": shown.get(each.task.id),
            }
            yield Occurrence(UNKNOWN_WORD, f"{dialect} {word[:MAX_WORD]}", data)


def _result_lifetime(task: Task) -> float | None:
    """Return the seconds for which the task's provider keeps an output."""
    dialect = DIALECTS.get(task.dialect or "")
    return None if dialect is None else dialect.facts.lifetime(task.operation)


def _decide(
    context: Context, tasks: dict[UUID, Task], known: dict[UUID, Submission], change: Change, facts: Facts
) -> Decided:
    """Decide one change, and make its task and submission the basis of the next change."""
    task = tasks[change.task_id]
    decided = decide(task, change, facts, now=context.now())
    if decided.unknown_word is not None:
        count_unknown_word(context, task.dialect or "", decided.unknown_word)
    tasks[task.id] = decided.task
    settled = decided.settles
    if settled is not None:
        earlier = known.get(settled.id)
        known[settled.id] = dataclasses.replace(
            settled,
            external_id=settled.external_id or (None if earlier is None else earlier.external_id),
            superseded_at=None if decided.supersedes_others else settled.superseded_at,
        )
    return decided


async def _write(
    context: Context,
    connection: AsyncConnection,
    before: dict[UUID, Task],
    decided: Sequence[Decided],
    booked: booking.Booking,
) -> None:
    """Write submissions, tasks, events, and what was settled.

    Others are superseded first, then submissions settle, then others begin: the unique index that forbids a second job
    is checked after each statement.
    """
    now = context.now()
    settled = [each.settles for each in decided if each.settles is not None]
    answered = {each.settles.id for each in decided if each.settles is not None and each.answered}
    serving = [each.settles for each in decided if each.settles is not None and each.supersedes_others]
    revived = {each.id for each in serving}
    certain = {each.settles.id for each in decided if each.settles is not None and each.certain}
    await submissions.supersede_others(connection, serving, at=now)
    await submissions.settle(connection, settled, answered=answered, revived=revived, certain=certain)
    await queue.watch_jobs(connection, [each for each in settled if each.job_state or each.id in revived])
    await queue.watch_jobs_again(connection, {each.task.id for each in decided if each.recheck_duplicates}, now=now)
    await submissions.begin(connection, [each.begins for each in decided if each.begins is not None])
    latest = {each.task.id: each.task for each in decided}
    await queue.settle_tasks(connection, [(before[task.id], task) for task in latest.values()])
    await asset_store.add(
        connection, [each for task in latest.values() for each in _new_copies(before[task.id], task, now)]
    )
    moved = [each.event for each in decided if each.event is not None]
    await event_store.record(connection, [*moved, *(event for event, _ in booked.events)])
    await booking.write(context, connection, booked)


def _new_copies(before: Task, after: Task, now: dt.datetime) -> Iterator[Asset]:
    """Yield the copies that a change began. They are due at once."""
    if before.results == after.results:
        return
    known = {each.kept.asset for each in before.results if each.kept is not None}
    for each in after.results:
        if each.kept is not None and each.kept.state == "pending" and each.kept.asset not in known:
            yield Asset(id=each.kept.asset, task_id=after.id, expires_at=each.expires_at, created_at=now, due_at=now)


async def _enqueue(
    context: Context,
    connection: AsyncConnection,
    decided: Sequence[Decided],
    booked: booking.Booking,
    *,
    hands_over: bool,
) -> enqueue.Enqueued:
    """Enqueue the client messages."""
    changes = [
        enqueue.Change(each.event.message, each.task, each.event.sequence)
        for each in decided
        if each.event is not None and each.event.message is not None
    ]
    changes += [
        enqueue.Change(event.message, task, event.sequence)
        for event, task in booked.events
        if event.message is not None
    ]
    return await enqueue.enqueue(context, connection, changes, context.now(), hands_over=hands_over)


def _applied(decided: Decided, owed: Collection[UUID], began: dt.datetime) -> Applied:
    event = decided.event
    return Applied(
        decided.decision,
        decided.task,
        owes=decided.task.id in owed,
        event=None if event is None else event.type,
        source=None if event is None else event.source,
        began=began,
    )


async def settle(context: Context, change: Change) -> Applied:
    """Apply one change through the batching writer, and wake everything that waits for it."""
    applied = await context.writers.journeys.batch(functools.partial(apply, context, hands_over=True), change)
    announce(context, [applied])
    return applied


async def settle_surely(context: Context, change: Change) -> Applied:
    """Apply a change that must not be lost, such as the id of a paid job.

    It waits while the database is out of reach. If the database refuses it, it is tried again, and in the end reduced to
    state, id and submission.
    """
    wait, refusals = 0.2, 0
    while True:
        try:
            return await settle(context, change)
        except StoreUnavailable as error:
            log.warning("change waits for the database task=%s error=%s", change.task_id, error)
        except Exception:
            refusals += 1
            log.exception("change cannot be written task=%s", change.task_id)
            if refusals > MAX_REFUSALS:
                raise
            if refusals == MAX_REFUSALS:
                change = change.essential()
        await asyncio.sleep(wait)
        wait = min(wait * 2, MAX_WAIT)


def announce(context: Context, applied: Sequence[Applied]) -> None:
    """Log these changes, hand over claimed messages, and wake everything that waits. Called once, after the commit."""
    for each in applied:
        for claimed in each.claimed:
            context.handed_messages.put(claimed)
        if each.booked is not None:
            each.booked.count(context)
        if each.task is not None and each.event is not None:
            _log_change(each.task, each.event)
            _count(context, each.task, each.event)
            _trace(context, each, each.task)
        if each.decision == "applied" and each.task is not None:
            context.signals.changed(each.task.id, each.task.client)
            if each.owes:
                context.signals.wake("webhooks")
            if pending(each.task):
                context.signals.wake("results")
            if each.task.state not in OCCUPYING and each.task.upstream in context.limited:
                context.signals.wake("submit")  # its slot is free for another task


def _trace(context: Context, applied: Applied, task: Task) -> None:
    if context.traces is not None and task.traceparent is not None and applied.event != "progress":
        now = context.now()
        context.traces.record(
            "apply",
            task.traceparent,
            applied.began or now,
            now,
            failed=applied.event in {State.FAILED, State.EXPIRED},
            task=str(task.id),
            event=applied.event,
            state=str(task.state),
            source=None if applied.source is None else str(applied.source),
        )


def _count(context: Context, task: Task, event: str) -> None:
    """Count a task that has ended by an event."""
    if event != task.state or task.state not in ENDED:
        return
    upstream, source = task.upstream or "none", task.outcome_source or "dovecote"
    context.metrics.finished.labels(upstream, task.family, task.state, source).inc()
    if task.state is State.SUCCEEDED and task.submitted_at is not None and task.finished_at is not None:
        seconds = max((task.finished_at - task.submitted_at).total_seconds(), 0.0)
        context.metrics.task_seconds.labels(upstream, task.family, task.operation).observe(seconds)


def _log_change(task: Task, event: str) -> None:
    log.log(
        logging.DEBUG if event == "progress" else logging.INFO,
        "task changed task=%s event=%s state=%s client=%s family=%s upstream=%s external_id=%s",
        task.id,
        event,
        task.state,
        task.client,
        task.family,
        task.upstream,
        task.external_id,
    )
