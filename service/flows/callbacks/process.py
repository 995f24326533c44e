"""Process stored callbacks: match each to its submission, verify and read it, and apply what it says."""

import asyncio
import dataclasses
import datetime as dt
import functools
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.changes import StatusReported
from service.domain.errors import UpstreamError
from service.domain.redaction import Redactor
from service.domain.schedules import LEASE, retry_inbox
from service.domain.task import Source, State, Submission, Update
from service.flows.apply import Applied, announce, apply
from service.flows.callbacks.public_keys import PAUSE, needs_keys, refresh
from service.flows.callbacks.receive import unpacked_size
from service.flows.context import Context, Upstream, log
from service.flows.conversation import complete, secrets_of
from service.flows.metrics.process import UNKNOWN
from service.flows.submission.cancel import is_cancel_pending
from service.providers.charges import with_charges
from service.providers.registry import DIALECTS
from service.providers.wire import Callback
from service.store import erasures as erasure_store
from service.store import inbox, queue, submissions
from service.store.callbacks import Received
from service.store.database import StoreLocked, StoreUnavailable

MAX_CLAIMED = 50
"""Callbacks of a round while requests come in, which wait for it on SQLite."""
MAX_CLAIMED_AT_REST = 250
"""Callbacks of a round while no request waits: a backlog needs fewer commits then."""
MAX_COMPLETED = 500

Stored = Row[Any] | Received
"""A stored callback: its row, or the value that this process has written as the row."""


async def run_due(context: Context) -> int:
    """Apply the callbacks that were handed over and those that are due; return how many were claimed, or still wait in memory."""
    most = MAX_CLAIMED if context.writers.requests_wait else MAX_CLAIMED_AT_REST
    handed = context.handed_callbacks.take(most)
    found: Sequence[Stored] = ()
    try:
        if len(handed) < most and context.handed_callbacks.needs_claim(len(handed)):
            found = await _claim(context, most - len(handed))
        await _process_all(context, [*(row for _, row in handed), *found])
    except StoreUnavailable:
        context.handed_callbacks.put_back(handed)
        raise
    return len(found) or len(context.handed_callbacks.waiting())


async def _claim(context: Context, most: int) -> Sequence[Stored]:
    """Claim stored callbacks that are due."""
    now = context.now()
    until = now + dt.timedelta(seconds=LEASE)
    rows = await context.writers.journeys.run(queue.claim_rows, "callbacks", now=now, until=until, most=most)
    context.handed_callbacks.claimed(all_due=len(rows) < most)
    return rows


async def _process_all(context: Context, claimed: Sequence[Stored]) -> None:
    """Process claimed callbacks in one transaction; if it cannot be written, each by itself."""
    if claimed:
        await _refresh_keys(context, claimed)
        try:
            _report(context, await context.writers.journeys.run(_process, context, claimed))
        except StoreLocked:
            await asyncio.gather(*(_process_alone(context, row) for row in claimed))
        except StoreUnavailable:
            raise
        except Exception:  # noqa: BLE001 - one that cannot be written must not stop the others
            log.exception("callbacks cannot be written in one transaction; each is written by itself")
            for row in claimed:
                await _process_alone(context, row)


async def complete_due(context: Context) -> int:
    """Write the upstream of stored callbacks that an older version has decided; return how many there were."""
    return await context.writers.journeys.run(inbox.complete, most=MAX_COMPLETED)


async def _refresh_keys(context: Context, rows: Sequence[Stored]) -> None:
    """Fetch the public keys that verify these callbacks, before the transaction: it contains no network call."""
    stale = {name for name, upstream in context.upstreams.items() if needs_keys(context, upstream)}
    if stale:
        async with context.database.reading() as connection:
            known = await submissions.by_id(connection, [row.submission_id for row in rows])
        await refresh(context, stale & {each.upstream for each in known.values()})


async def _process_alone(context: Context, row: Stored) -> None:
    """Process one callback alone, so that an unwritable one does not affect others."""
    try:
        _report(context, await context.writers.journeys.run(_process, context, [row]))
    except StoreLocked as error:
        log.warning("callback waits for its lease callback=%s error=%s", row.id, error)
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - it is tried again, and parked in the end
        log.exception("callback cannot be written callback=%s", row.id)
        failed = _Read(detail=f"cannot be written: {type(error).__name__}", retry=True)
        await context.writers.journeys.run(queue.settle_callbacks, [_settlement(context, row, failed, (), None)])


@dataclasses.dataclass(frozen=True, slots=True)
class _Processed:
    """The callbacks of one transaction and what became of them, to be told after the commit."""

    decided: Sequence[tuple[Stored, str | None, Submission | None, Sequence[Applied]]]
    """Each callback with the decision on it, its submission, and what it changed."""
    hastened: bool
    """Whether tasks are to be polled at once."""
    proven: bool
    """Whether it told of a job that another submission of its task replaced."""


async def _process(connection: AsyncConnection, context: Context, rows: Sequence[Stored]) -> _Processed:
    """Read claimed callbacks and apply them, with the decision on each, in one transaction."""
    known = await submissions.by_id(connection, [row.submission_id for row in rows])
    read = [
        await context.large.run(
            unpacked_size(row.headers, row.body), functools.partial(_read, context, row, known.get(row.submission_id))
        )
        for row in rows
    ]
    outcomes = iter(await _apply(connection, context, read))
    applied = [[next(outcomes) for _ in each.changes] for each in read]
    settled = [
        _settlement(context, row, each, own, known.get(row.submission_id))
        for row, each, own in zip(rows, read, applied, strict=True)
    ]
    await queue.settle_callbacks(connection, settled)
    await _forget(connection, rows, known, [each for own in applied for each in own])
    hastened = [
        known[row.submission_id].task_id
        for row, each in zip(rows, read, strict=True)
        if each.decision == "hastened" or each.incomplete
    ]
    # A cancel that waited for the job's id is carried out by the poll.
    hastened += [each.task.id for own in applied for each in own if each.task and is_cancel_pending(each.task)]
    await queue.hasten(connection, hastened, now=context.now())
    proven = [change.submission for each in read for change in each.changes]
    return _Processed(
        [
            (row, each["decision"], known.get(row.submission_id), own)
            for row, each, own in zip(rows, settled, applied, strict=True)
        ],
        hastened=bool(hastened),
        proven=any(each is not None and each.superseded_at is not None for each in proven),
    )


def _report(context: Context, processed: _Processed) -> None:
    """Count, log and trace processed callbacks, and wake everything that waits for what they changed."""
    for row, decision, submission, own in processed.decided:
        upstream = None if submission is None else submission.upstream
        context.metrics.callbacks.labels(upstream or UNKNOWN, decision or "retried").inc()
        log.info(
            "callback processed callback=%s task=%s upstream=%s decision=%s attempt=%d",
            row.id,
            None if submission is None else submission.task_id,
            upstream,
            decision,
            row.attempts,
        )
        _trace(context, row, decision, own)
    announce(context, [each for _, _, _, own in processed.decided for each in own])
    if processed.hastened:
        context.signals.wake("poll")
    if processed.proven:
        context.signals.wake("duplicates")


async def _apply(connection: AsyncConnection, context: Context, read: Sequence["_Read"]) -> list[Applied]:
    return await apply(context, connection, [change for each in read for change in each.changes], hands_over=True)


async def _forget(
    connection: AsyncConnection, rows: Sequence[Stored], known: Mapping[UUID, Submission], applied: Sequence[Applied]
) -> None:
    """Remove the content of callbacks about tasks that are erased, or that retention has removed."""
    locked = {each.task.id: each.task for each in applied if each.task is not None}
    erased = {task.id for task in locked.values() if task.erased_at is not None}
    tasks = {known[row.submission_id].task_id for row in rows if row.submission_id in known} - locked.keys()
    erased |= await erasure_store.erased_among(connection, sorted(tasks))
    unknown = [row.submission_id for row in rows if row.submission_id not in known]
    removed = await erasure_store.removed_among(connection, unknown)
    found = [
        row.id
        for row in rows
        if row.submission_id in removed or (row.submission_id in known and known[row.submission_id].task_id in erased)
    ]
    await erasure_store.empty_callbacks(connection, found)


def _trace(context: Context, row: Stored, decision: str | None, applied: Sequence[Applied]) -> None:
    """Record a callback from its arrival until its decision."""
    task = next((each.task for each in applied if each.task is not None), None)
    if context.traces is not None and task is not None and task.traceparent is not None:
        end = context.now()
        context.traces.record("callback", task.traceparent, row.received_at, end, task=str(task.id), decision=decision)


@dataclasses.dataclass(frozen=True, slots=True)
class _Read:
    """The content of a callback: changes, or a decision without any."""

    changes: Sequence[StatusReported] = ()
    decision: str | None = None
    detail: str | None = None
    retry: bool = False
    incomplete: bool = False
    """Whether the job is done and its output is missing: a poll is to bring it."""


def _read(context: Context, row: Stored, submission: Submission | None) -> _Read:
    dialect = None if submission is None else DIALECTS.get(submission.dialect)
    if submission is None or dialect is None:
        log.warning("callback of an unknown submission kept callback=%s submission=%s", row.id, row.submission_id)
        return _Read(
            decision="unmatched", detail="this database has no such submission, or this version no such dialect"
        )
    upstream = context.upstreams.get(submission.upstream)
    secrets = () if upstream is None else secrets_of(upstream)
    redactor = Redactor(context.tokens, secrets)
    callback = Callback(row.headers, row.body, row.received_at.timestamp(), secrets)
    confirms = dialect.facts.confirms or (upstream is not None and _confirms(upstream))
    try:
        if dialect.verify_signature(callback, None if upstream is None else upstream.callback_key) is False:
            return _forged(context, row, upstream)
        stated = dialect.read_callback(callback)
        if len(stated) == 1:  # of several jobs the message does not say whose the common fields are
            stated = [with_charges(stated[0], callback.document, {})]
        updates = redactor.value(stated)
        if upstream is not None:
            updates = [complete(update, upstream, row.body) for update in updates]
    except UpstreamError as error:
        redactor.error(error)
        # Where a poll confirms every callback, the token alone is reason enough to poll.
        return _Read(decision="hastened" if confirms else "unreadable", detail=error.message or error.code)
    except Exception as error:  # noqa: BLE001 - our own fault must not cost the callback
        log.exception("callback cannot be read callback=%s", row.id)
        return _Read(detail=redactor.text(f"{type(error).__name__}: {error}")[:500], retry=True)
    if confirms:
        return _Read(_proof_of_job(submission, updates), "hastened", "a poll is to confirm it")
    return _about_our_job(submission, updates)


def _proof_of_job(submission: Submission, updates: Sequence[Update]) -> Sequence[StatusReported]:
    """Return the facts of a callback that no poll can find: that there is a job, and its id."""
    job = next((update.external_id for update in updates if update.external_id is not None), None)
    if submission.external_id is not None or job is None:
        return ()
    return [_change(submission, Update(state=State.SUBMITTED, external_id=job))]


def _about_our_job(submission: Submission, updates: Sequence[Update]) -> _Read:
    """Return the updates about our job. Another id is one of several jobs behind ours, or the vendor's own id."""
    ours = [
        update for update in updates if submission.external_id in {None, update.external_id or submission.external_id}
    ]
    if updates and not ours:
        return _Read(
            decision="hastened", detail=f"it is about job {updates[0].external_id}: a poll will report on ours"
        )
    incomplete = any(update.incomplete for update in ours)
    return _Read([_change(submission, update) for update in ours], incomplete=incomplete)


def _confirms(upstream: Upstream) -> bool:
    """Return whether a poll is to confirm the callbacks of an upstream: also while its public keys cannot be had."""
    return upstream.settings.callbacks == "confirm" or (upstream.fetches_keys and upstream.callback_key is None)


def _forged(context: Context, row: Stored, upstream: Upstream | None) -> _Read:
    """Return the decision on a wrong signature. Public keys are fetched once more before it counts: they may have changed."""
    if upstream is not None and upstream.fetches_keys and row.attempts == 1:
        read_at = upstream.public_keys.read_at
        if read_at is None or abs(context.now() - read_at) >= PAUSE:
            upstream.public_keys.doubted = True
            return _Read(detail="no known key has signed it: the provider's keys are fetched again", retry=True)
    return _Read(decision="forged", detail="the signature is not the provider's")


def _change(submission: Submission, update: Update) -> StatusReported:
    return StatusReported(task_id=submission.task_id, source=Source.CALLBACK, update=update, submission=submission)


def _settlement(
    context: Context, row: Stored, read: _Read, applied: Sequence[Applied], submission: Submission | None
) -> dict[str, Any]:
    now = context.now()
    decision, detail, due = read.decision, read.detail, None
    if read.retry:
        due = retry_inbox(row.attempts, now=now)
        decision = None if due is not None else "parked"
    elif decision is None:
        decisions = [each.decision for each in applied]
        decision = "applied" if "applied" in decisions else (decisions[0] if decisions else "duplicate")
    return {
        "of_row": row.id,
        "of_attempt": row.attempts,
        "decision": decision,
        "detail": detail,
        "decided_at": None if decision is None else now,
        "due_at": due,
        "upstream": row.upstream if submission is None else submission.upstream,
    }
