"""The only place where a task's state changes: take in news, and write the rows, their events and the messages owed.

Callback, poll, sweep and client all end here, in one transaction for a whole batch.
"""

import asyncio
import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.task import ENDED, Failure, Outcome, Result, Source, State, Submission, Task, Update
from service.domain.transitions import advance
from service.domain.webhook_events import BEGINNINGS, LATE, PROGRESS
from service.flows.context import Context, log
from service.flows.render import rfc3339
from service.flows.webhooks.enqueue import Change, enqueue
from service.store import events as event_store
from service.store import queue, submissions
from service.store import tasks as task_store
from service.store.database import StoreUnavailable
from service.store.events import Event

LONGEST_WAIT = 5.0
"""Seconds between tries to write news while the database is away."""
REFUSALS = 3
"""How often the database may refuse news before they are cut down to what must not be lost."""

_AT_WORK = frozenset({State.SUBMITTING, State.SUBMITTED, State.RUNNING})
"""States in which a task has a place at its upstream."""

Decision = Literal["applied", "duplicate", "ignored", "stale", "late", "unmatched"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What has become known of one task, by whom, and what is to be written with it."""

    task_id: UUID
    source: Source
    update: Update = dataclasses.field(default_factory=Update)
    attempt: int | None = None
    """The claim that this completes. The schedule changes only if the claim still stands; what a provider said is
    taken in all the same: it is true whoever brings it."""
    holder_only: bool = False
    """Whether the news is worth nothing once the claim is lost."""
    expects: frozenset[State] = frozenset(State)
    """The only states in which this counts: elsewhere something stronger has become known meanwhile."""
    set: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields besides the state: the upstream it goes to, the last error."""
    remark: str | None = None
    """Type of an event that is written even when nothing else changes."""
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What the event says besides the change."""
    begins: Submission | None = None
    settles: Submission | None = None
    alone: bool = False
    """Whether what it settles is from now on the one that serves the task: the others are superseded."""
    proves: Submission | None = None
    """The submission of which this proves that it has made a job."""
    retry_at: dt.datetime | None = None
    """When a queued task is to be handed over again, or until when it is now held."""
    look_at: dt.datetime | None = None
    """When to look instead of now, where a claimed task found no place."""
    not_before: dt.datetime | None = None
    """The earliest next poll, where the upstream asked us to wait."""


def weigh(task: Task, news: News, submission: Submission, *, now: dt.datetime) -> News:
    """Decide what the proof of a job means: it serves the task, is adopted by it, or is one too many.

    A job is adopted, whatever had been said of its submission, while nothing else serves the task: so none is bought
    beside it, and what has been paid is delivered. It never overwrites what another submission does for the task, and
    one that failed ends no task that another may still serve.

    :param submission: as it is now, while the task is locked
    """
    update, known = news.update, submission.job_state is not None
    if update.state is None and update.external_id is not None and task.state in _UNPROVEN:
        # Whatever else it says in words that we do not know: the upstream has it, and this is its id.
        update = dataclasses.replace(update, state=State.SUBMITTED)
        news = dataclasses.replace(news, update=update)
    proven = dataclasses.replace(
        submission,
        outcome=Outcome.TAKEN,
        external_id=update.external_id,
        settled_at=now,
        code=None,
        message=None,
        job_state=None,
        due_at=None,
    )
    given_up = submission.denied or submission.superseded_at is not None
    if task.submission_id in {None, submission.id} and not given_up:
        tells = submission.outcome is not Outcome.TAKEN and update.state is not None
        return dataclasses.replace(news, settles=proven if tells or news.source is Source.SUBMIT else None)
    details = {"upstream": submission.upstream, "submission": str(submission.id), "external_id": update.external_id}
    if unserved(task) and not {update.state, submission.job_state} & _FAILURES:
        place = {
            "upstream": submission.upstream,
            "dialect": submission.dialect,
            "submission_id": submission.id,
            "callback_expected": True,
        }
        return dataclasses.replace(
            news,
            update=dataclasses.replace(update, state=update.state or State.SUBMITTED),
            set={**news.set, **place},
            settles=proven,
            alone=True,
            details=details,
        )
    extra = _extra(proven, submission, update, now)
    shown = {"job_state": extra.job_state, "job_results": [result.as_json() for result in update.results]}
    return dataclasses.replace(
        news,
        update=Update(),
        set={},
        settles=extra,
        attempt=None,
        expects=frozenset(State),
        remark=None if known else "extra_job",
        details=details if known else {**details, **shown},
    )


def _extra(proven: Submission, before: Submission, update: Update, now: dt.datetime) -> Submission:
    """Write down a job too many. It is looked after until its end has been seen, and what came late says nothing more."""
    ended = before.job_state in ENDED
    identified = update.external_id is not None or before.external_id is not None
    return dataclasses.replace(
        proven,
        superseded_at=before.superseded_at or now,
        job_state=before.job_state if ended else str(update.state or before.job_state or State.SUBMITTED),
        cost=update.cost,
        refunded=update.refunded,
        due_at=before.due_at if ended else now if identified else None,
    )


_FAILURES = frozenset({State.FAILED, State.CANCELLED})
_UNSERVED = frozenset({State.QUEUED, State.UNCONFIRMED})
"""States in which no upstream is known to work on a task."""
_UNPROVEN = _UNSERVED | {State.SUBMITTING}


def unserved(task: Task) -> bool:
    """Whether no job serves a task, so that one which was thought to be one too many may."""
    return task.state in _UNSERVED or (task.decided_by == "dovecote" and task.external_id is None)


@dataclasses.dataclass(frozen=True, slots=True)
class Applied:
    """What became of a piece of news."""

    decision: Decision
    task: Task | None
    owes: bool = False
    """Whether a client is owed a message about it."""


@dataclasses.dataclass(slots=True)
class _Written:
    """What a batch has to write."""

    changed: dict[UUID, Task] = dataclasses.field(default_factory=dict)
    events: list[Event] = dataclasses.field(default_factory=list)
    told: list[Change] = dataclasses.field(default_factory=list)
    """What clients may be told of."""
    begun: list[Submission] = dataclasses.field(default_factory=list)
    settled: list[Submission] = dataclasses.field(default_factory=list)
    answered: set[UUID] = dataclasses.field(default_factory=set)
    """Those of them whose answer came."""
    alone: list[Submission] = dataclasses.field(default_factory=list)
    """Those of them that supersede the others of their task."""
    known: dict[UUID, Submission] = dataclasses.field(default_factory=dict)
    """The submissions that news speak of, as they are after the news before."""
    unserved: set[UUID] = dataclasses.field(default_factory=set)
    """Tasks that were bought again in vain: a job that was one too many may serve them after all."""

    def note_submissions(self, task: Task, news: News) -> None:
        """Note what the news say of submissions."""
        if news.settles is not None:
            self.settled.append(news.settles)
            self._remember(news.settles, news)
            if news.source is Source.SUBMIT:
                self.answered.add(news.settles.id)
            if news.alone:
                self.alone.append(news.settles)
            if task.unconfirmed_since is not None and news.settles.outcome is not Outcome.TAKEN:
                self.unserved.add(task.id)
        if news.begins is not None:
            self.begun.append(news.begins)

    def _remember(self, settled: Submission, news: News) -> None:
        before = self.known.get(settled.id)
        self.known[settled.id] = dataclasses.replace(
            settled,
            external_id=settled.external_id or (None if before is None else before.external_id),
            superseded_at=None if news.alone else settled.superseded_at,
        )


async def apply(context: Context, connection: AsyncConnection, news: Sequence[News]) -> list[Applied]:
    """Take in news, in order, in the caller's transaction."""
    tasks = await task_store.lock(connection, [piece.task_id for piece in news])
    # Whoever brings a proof may have read its submission before somebody else superseded or adopted it.
    proven = [piece.proves.id for piece in news if piece.proves is not None]
    written = _Written(known=await submissions.by_id(connection, proven) if proven else {})
    applied = [_take_in(context, tasks, piece, written) for piece in news]
    # Others are superseded, then submissions are settled, then others begin: the index that forbids a second job sees
    # each statement.
    await submissions.supersede_others(connection, written.alone, at=context.now())
    revived = {submission.id for submission in written.alone}
    await submissions.settle(connection, written.settled, answered=written.answered, revived=revived)
    await queue.watch_jobs(connection, [each for each in written.settled if each.job_state or each.id in revived])
    await queue.watch_jobs_again(connection, written.unserved, now=context.now())
    await submissions.begin(connection, written.begun)
    await queue.settle_tasks(connection, list(written.changed.values()))
    await event_store.record(connection, written.events)
    owed = await enqueue(context, connection, written.told, context.now())
    return [dataclasses.replace(each, owes=each.task is not None and each.task.id in owed) for each in applied]


async def settle(context: Context, news: News) -> Applied:
    """Write one piece of news through the batching writer, and tell whoever waits for it."""
    applied = await context.writer.do(context.once(apply), news)
    announce(context, [applied])
    return applied


async def settle_surely(context: Context, news: News) -> Applied:
    """Write news that must not be lost, such as the id of a job that was paid for.

    While the database is away they wait for it. Where it refuses them, they are tried again, and in the end without all
    but the state, the id and the submission.
    """
    wait, refusals = 0.2, 0
    while True:
        try:
            return await settle(context, news)
        except StoreUnavailable as error:
            log.warning("news of task %s wait for the database: %s", news.task_id, error)
        except Exception:
            refusals += 1
            log.exception("news of task %s cannot be written", news.task_id)
            if refusals > REFUSALS:
                raise
            if refusals == REFUSALS:
                news = _bare(news)
        await asyncio.sleep(wait)
        wait = min(wait * 2, LONGEST_WAIT)


def _bare(news: News) -> News:
    """Keep what must not be lost."""
    update = dataclasses.replace(news.update, results=_storable(news.update.results), actions=(), unknown_word=None)
    if update.state in {State.FAILED, State.CANCELLED}:
        update = dataclasses.replace(update, failure=Failure("unknown"))
    settles = None if news.settles is None else dataclasses.replace(news.settles, message=None)
    return dataclasses.replace(news, update=update, set={}, details={}, settles=settles)


def _storable(results: tuple[Result, ...]) -> tuple[Result, ...]:
    """Leave out what no database keeps."""
    return tuple(each for each in results if _clean(each.url) and _clean(each.text) and _clean(each.item))


def _clean(text: str | None) -> bool:
    return text is None or ("\x00" not in text and text.encode("utf-8", "ignore").decode() == text)


def announce(context: Context, applied: Sequence[Applied]) -> None:
    """After the commit: wake whoever waits for what has changed."""
    for each in applied:
        if each.decision == "applied" and each.task is not None:
            context.signals.changed(each.task.id, each.task.client)
            if each.owes:
                context.signals.wake("webhooks")
            if each.task.state not in _AT_WORK and each.task.upstream in context.limited:
                context.signals.wake("submit")  # its place may be another's now


def _take_in(context: Context, tasks: dict[UUID, Task], news: News, written: _Written) -> Applied:
    before = tasks.get(news.task_id)
    if before is None:
        return Applied("unmatched", None)
    holds = news.attempt is not None and news.attempt == before.attempts
    if news.holder_only and not holds:
        return Applied("stale", before)
    if news.update.unknown_word is not None:
        context.met_unknown_word(before.dialect or "", news.update.unknown_word)
    now = context.now()
    if news.proves is not None:
        news = weigh(before, news, written.known.get(news.proves.id, news.proves), now=now)
    if before.state not in news.expects:
        nothing = dataclasses.replace(news, update=Update(), set={}, remark=None, retry_at=None, alone=False)
        news = dataclasses.replace(nothing, begins=None, settles=None)
    written.note_submissions(before, news)
    after = advance(dataclasses.replace(before, **news.set), news.update, now=now, source=news.source)
    after = after or dataclasses.replace(before, **news.set)
    moved = _worth_an_event(before, after)
    message = _message_type(before, after) if moved else None
    if moved or news.remark is not None:
        after = dataclasses.replace(after, sequence=before.sequence + 1, updated_at=now)
        written.events.append(_event(before, after, news, now, message))
    after = _schedule(context, before, after, news, holds=holds)
    if after != before:
        tasks[after.id] = written.changed[after.id] = after
    if message is not None:
        written.told.append(Change(message, after))
    return Applied("applied" if moved else _why_not(before, news.update), after)


_NEWSWORTHY = (
    "state",
    "external_id",
    "progress",
    "results",
    "failure",
    "next_actions",
    "decided_by",
    "cancel_requested_at",
    "answered_at",
)


def _worth_an_event(before: Task, after: Task) -> bool:
    return any(getattr(before, name) != getattr(after, name) for name in _NEWSWORTHY)


def _event(before: Task, after: Task, news: News, now: dt.datetime, message: str | None) -> Event:
    shown = {
        name: value
        for name, value in task_store.row_of(after).items()
        if name in _NEWSWORTHY and getattr(before, name) != getattr(after, name)
    }
    for name in ("cancel_requested_at", "answered_at"):
        if name in shown:
            shown[name] = rfc3339(shown[name])
    return Event(
        task_id=after.id,
        client=after.client,
        sequence=after.sequence,
        type=_event_type(before, after, news),
        message=message,
        source=news.source,
        at=now,
        data={**shown, **news.details},
    )


def _event_type(before: Task, after: Task, news: News) -> str:
    if news.remark is not None:
        return news.remark
    if before.state is not after.state:
        late = before.state.ended and after.state.ended
        return "late_result" if late else str(after.state)
    if before.decided_by != after.decided_by:
        return "confirmed"
    return "progress" if before.progress != after.progress else "details"


def _schedule(context: Context, before: Task, after: Task, news: News, *, holds: bool) -> Task:
    """Say when the task is due next."""
    if after.decided_by == "provider":
        due = None
    elif news.retry_at is not None and (holds or before.state is State.QUEUED or after.state is State.QUEUED):
        due = news.retry_at
    elif after.state in {State.QUEUED, State.SUBMITTING}:
        due = before.due_at
    elif holds and news.look_at is not None:
        due = news.look_at
    elif holds or before.state is not after.state or before.external_id != after.external_id:
        due = context.next_poll(after)
        if due is not None and news.not_before is not None:
            due = max(due, news.not_before)
    else:
        due = before.due_at
    return dataclasses.replace(after, due_at=due)


def _message_type(before: Task, after: Task) -> str | None:
    """Name the message that tells clients of a change; None where it is none of their business."""
    if before.state is not after.state:
        if before.state.ended and after.state.ended:
            return LATE
        return f"task.{after.state}" if after.state in BEGINNINGS | ENDED else None
    if after.state.ended:
        return LATE if _outputs(before) != _outputs(after) else None
    return PROGRESS if (before.progress, before.results) != (after.progress, after.results) else None


def _outputs(task: Task) -> list[Result]:
    return [result for result in task.results if result.role == "result"]


def _why_not(task: Task, update: Update) -> Decision:
    """Name news that changed nothing."""
    if update.state is None:
        return "ignored"
    if update.state is task.state:
        return "duplicate"
    return "late" if task.state.ended and update.state.ended else "stale"
