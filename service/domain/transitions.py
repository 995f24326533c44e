"""How a task may change: one table of moves and one pure function."""

import dataclasses
from collections import Counter
from datetime import datetime, timedelta

from service.domain.task import ENDED, OPEN, Failure, Result, Source, State, Task, Update

_AFTER_TAKEN = frozenset({State.RUNNING, State.AWAITING_INPUT}) | ENDED

MOVES: dict[State, frozenset[State]] = {
    # Back to queued from submitting when the upstream is known to have created nothing, and from unconfirmed by the
    # task's policy or an operator who accepts that it may be paid twice: never a provider's report.
    # A callback may prove a job although the upstream had denied it.
    State.QUEUED: frozenset({State.SUBMITTING, State.UNCONFIRMED, State.SUBMITTED}) | _AFTER_TAKEN,
    State.SUBMITTING: frozenset({State.QUEUED, State.UNCONFIRMED, State.SUBMITTED}) | _AFTER_TAKEN,
    State.UNCONFIRMED: frozenset({State.QUEUED, State.SUBMITTED}) | _AFTER_TAKEN,
    State.SUBMITTED: _AFTER_TAKEN,
    State.RUNNING: frozenset({State.AWAITING_INPUT}) | ENDED,
    State.AWAITING_INPUT: frozenset({State.SUBMITTED, State.RUNNING}) | ENDED,
    # Only an outcome of the provider replaces our own.
    State.EXPIRED: frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED}),
    State.CANCELLED: frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED}),
    State.FAILED: frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED}),
    State.SUCCEEDED: frozenset(),
}
"""All allowed moves. A state that the provider ended allows none, regardless of this table."""

ANSWER_GRACE = 120.0
"""Seconds for which a provider may still report that it waits for input that it has received (gateways lag some 15 s)."""

_OURS = frozenset({Source.SWEEP, Source.CLIENT})
_TAKEN = frozenset({State.SUBMITTED, State.RUNNING, State.AWAITING_INPUT})
_BOUGHT_AGAIN = frozenset({State.QUEUED, State.SUBMITTING})
_OURS_TO_SAY = frozenset({State.QUEUED, State.SUBMITTING, State.UNCONFIRMED, State.EXPIRED})
"""The states that no callback and no poll can set. A task that became ``queued`` would be submitted again."""


def advance(task: Task, update: Update, *, now: datetime, source: Source) -> Task | None:
    """Return the task after an update, or None when nothing changes.

    Never backward; progress and results only grow; a provider's verdict is final for every sender, and our own
    verdicts give way to it. The sequence number is the caller's to raise: it belongs to the event.
    """
    if task.decided_by == "provider":
        return None if source in _OURS else _complete(task, update, now=now)
    changed = _with_facts(task, update, source)
    if update.state is not None and _may_move(task, update.state, source, now):
        changed = _move(changed, update, now=now, source=source)
    return None if changed is task else changed.changed(updated_at=now)


def _may_move(task: Task, state: State, source: Source, now: datetime) -> bool:
    if state not in MOVES[task.state] or (task.state in ENDED and source in _OURS):
        return False
    if (task.state, state) == (State.UNCONFIRMED, State.QUEUED) and source not in _OURS:
        return False  # it may have been bought: only a policy or an operator can queue it again, no answer
    if state in _OURS_TO_SAY and source in {Source.CALLBACK, Source.POLL}:
        return False
    if state is State.AWAITING_INPUT and task.answered_at is not None:
        # The input has been sent. Gateways repeat the old state for a while before it is current again.
        return (now - task.answered_at).total_seconds() > ANSWER_GRACE
    if task.state is State.AWAITING_INPUT and state is State.SUBMITTED:
        return task.answered_at is not None
    return True


def _with_facts(task: Task, update: Update, source: Source) -> Task:
    """Fill empty fields, and let progress grow."""
    progress = task.progress
    if task.state in OPEN and update.progress is not None:
        progress = max(update.progress, progress or 0)
    # The answer to the submit names the id that can be asked about; an earlier callback may have borne the vendor's.
    named = update.external_id if source is Source.SUBMIT and update.external_id else task.external_id
    same_job = task.external_id is None or task.external_id == (named or update.external_id)
    return task.changed(
        external_id=named or update.external_id,
        job_host=update.job_host or (task.job_host if same_job else None),
        progress=progress,
        results=merge_results(task.results, update.results) if task.state in OPEN else task.results,
        next_actions=update.actions or task.next_actions,
        cost=update.cost if update.cost is not None else task.cost,
        cost_unit=update.cost_unit if update.cost is not None else task.cost_unit,
        usage={**task.usage, **update.usage} if update.usage else task.usage,
        refunded=update.refunded if update.refunded is not None else task.refunded,
    )


def _move(task: Task, update: Update, *, now: datetime, source: Source) -> Task:
    """Make an allowed move."""
    state = update.state
    assert state is not None  # noqa: S101 - for the type checker: the caller has looked
    unconfirmed_since = _unconfirmed_since(task, state, now, source)
    if state not in ENDED:
        begins = state in _TAKEN and task.submitted_at is None
        submitted_at = now if begins else task.submitted_at
        return task.changed(state=state, waits_for=None, unconfirmed_since=unconfirmed_since, submitted_at=submitted_at)
    failure = update.failure
    if failure is None and state is State.FAILED:
        failure = Failure("unknown")
    return task.changed(
        state=state,
        waits_for=None,
        unconfirmed_since=unconfirmed_since,
        results=_final(merge_results(task.results, update.results)),
        failure=None if state is State.SUCCEEDED else failure,
        progress=100 if state is State.SUCCEEDED else task.progress,
        # An earlier report of a failure may have reported a refund.
        refunded=update.refunded if state is State.SUCCEEDED else task.refunded,
        decided_by="dovecote" if source in _OURS else "provider",
        outcome_source=source,
        finished_at=now,
    )


def _unconfirmed_since(task: Task, state: State, now: datetime, source: Source) -> datetime | None:
    """Return since when a job may exist of which nothing is known: until the provider proves or denies it."""
    if state is State.UNCONFIRMED:
        return now
    return task.unconfirmed_since if state in _BOUGHT_AGAIN or (state in ENDED and source in _OURS) else None


def _complete(task: Task, update: Update, *, now: datetime) -> Task | None:
    """Fill the missing fields of a task that the provider has ended, and change no other field."""
    if update.state is not task.state:
        return None
    unsaid = task.failure is None or task.failure == Failure("unknown")
    completed = dataclasses.replace(
        task,
        external_id=task.external_id or update.external_id,
        results=_final(merge_results(update.results, task.results)),
        failure=update.failure or task.failure if unsaid and task.state is not State.SUCCEEDED else task.failure,
        next_actions=update.actions or task.next_actions,
        cost=task.cost if task.cost is not None else update.cost,
        cost_unit=task.cost_unit if task.cost is not None else update.cost_unit,
        usage={**update.usage, **task.usage} if update.usage else task.usage,
        refunded=update.refunded if update.refunded is not None else task.refunded,
    )
    return None if completed == task else completed.changed(updated_at=now)


def merge_results(known: tuple[Result, ...], told: tuple[Result, ...]) -> tuple[Result, ...]:
    """Replace known results by reported results of the same output, and keep the others: later snapshots may be incomplete."""
    if not told or not known or told == known:
        return told or known
    dated = {dataclasses.replace(each, expires_at=None, kept=None): each for each in known}
    told = tuple(dated.get(each, each) for each in told)
    replaced = set(_keys(told))
    kept = [result for place, result in zip(_keys(known), known, strict=True) if place not in replaced]
    return told + tuple(kept)


def with_expiry(task: Task, before: Task, lifetime: float | None, *, now: datetime) -> Task:
    """Return the task with an expiry for each new output at a URL that states none.

    :param lifetime: seconds for which the provider keeps an output; None where that is not known
    """
    if lifetime is None or task.results == before.results:
        return task
    expires_at, known = now.replace(microsecond=0) + timedelta(seconds=lifetime), frozenset(before.results)
    results = tuple(
        dataclasses.replace(each, expires_at=expires_at) if each not in known and _may_expire(each) else each
        for each in task.results
    )
    return task.changed(results=results)


def _may_expire(result: Result) -> bool:
    return result.expires_at is None and result.url is not None and not result.url.startswith("data:")


def _keys(results: tuple[Result, ...]) -> list[tuple[object, ...]]:
    """Return a key for each result: its item, kind and role, and its number among those."""
    counted: Counter[tuple[object, ...]] = Counter()
    places: list[tuple[object, ...]] = []
    for result in results:
        place = (result.item, result.kind, result.role)
        counted[place] += 1
        places.append((*place, counted[place]))
    return places


def _final(results: tuple[Result, ...]) -> tuple[Result, ...]:
    """Leave previews out once there is something better."""
    finals = tuple(result for result in results if result.role != "preview")
    return finals if any(result.role == "result" for result in finals) else results
