"""Evidence of jobs: which job serves a task, and the consequences for the task's other submissions."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime

from service.domain.effects import Effect
from service.domain.task import (
    ENDED,
    MAY_HAVE_JOB,
    WITHOUT_JOB,
    WITHOUT_RESULT,
    Outcome,
    Source,
    State,
    Submission,
    Task,
    Update,
)

_UNPROVEN = WITHOUT_JOB | {State.SUBMITTING}


def has_no_job(task: Task) -> bool:
    """Return whether no job serves a task, so that any job of it may be adopted."""
    if task.state in WITHOUT_JOB:
        return True
    return task.external_id is None and (task.decided_by == "dovecote" or _was_refused(task))


def _was_refused(task: Task) -> bool:
    """Return whether a task failed because every submission was refused. A job that exists all the same disproves that."""
    return task.state is State.FAILED and task.outcome_source is Source.SUBMIT


def may_have_job(history: Sequence[Submission]) -> bool:
    """Return whether one of these submissions has created a job, or may have."""
    return any(each.outcome in MAY_HAVE_JOB for each in history)


def decides_end(history: Sequence[Submission]) -> Source:
    """Return the source of the end of a task that no upstream takes.

    It is not the provider's decision while a job of an earlier submission may still appear.
    """
    return Source.SWEEP if may_have_job(history) else Source.SUBMIT


def assess(task: Task, effect: Effect, submission: Submission, *, now: datetime) -> Effect:
    """Return the meaning of the proof of a job: it serves the task, is adopted by it, or is a duplicate.

    A job is adopted while no other serves the task, even if its submission had counted as refused. Then no second job is bought
    beside it, and a paid result is delivered. A job never overwrites the work of another submission. A failed job does not end
    a task that another job may still serve.

    :param submission: as it is now, while the task is locked
    """
    update = effect.update
    if update.state is None and update.external_id is not None and task.state in _UNPROVEN:
        # Even a report with an unknown status word proves that the job exists, and names its id.
        update = dataclasses.replace(update, state=State.SUBMITTED)
        effect = dataclasses.replace(effect, update=update)
    given_up = submission.denied or submission.superseded_at is not None
    if task.submission_id in {None, submission.id} and not given_up:
        is_proof = submission.outcome is not Outcome.TAKEN and update.state is not None
        settles = _proven(submission, update, now) if is_proof or effect.source is Source.SUBMIT else None
        return effect if effect.settles is settles else dataclasses.replace(effect, settles=settles)
    proven = _proven(submission, update, now)
    if has_no_job(task) and not {update.state, submission.job_state} & WITHOUT_RESULT:
        return _adopted(task, effect, proven)
    return _duplicate(effect, proven, submission, now)


def _proven(submission: Submission, update: Update, now: datetime) -> Submission:
    """Return the submission as the one that has created the job of an update."""
    return dataclasses.replace(
        submission,
        outcome=Outcome.TAKEN,
        external_id=update.external_id,
        settled_at=now,
        code=None,
        message=None,
        job_state=None,
        due_at=None,
    )


def _adopted(task: Task, effect: Effect, proven: Submission) -> Effect:
    """Make the proven submission the one that serves the task."""
    # A refusal that a job contradicts was no decision of the provider about that job: the job's own end still counts.
    refuted = {"decided_by": "dovecote"} if task.decided_by is not None else {}
    fields = {
        **refuted,
        "upstream": proven.upstream,
        "dialect": proven.dialect,
        "submission_id": proven.id,
        "callback_expected": True,
    }
    return dataclasses.replace(
        effect,
        update=dataclasses.replace(effect.update, state=effect.update.state or State.SUBMITTED),
        fields={**effect.fields, **fields},
        settles=proven,
        supersedes_others=True,
        details=_names(proven),
    )


def _duplicate(effect: Effect, proven: Submission, before: Submission, now: datetime) -> Effect:
    """Record a job beside the one that serves the task. It is checked until its end; after the end nothing changes."""
    update, known = effect.update, before.job_state is not None
    ended = before.job_state in ENDED
    identified = update.external_id is not None or before.external_id is not None
    job_state = before.job_state if ended else str(update.state or before.job_state or State.SUBMITTED)
    duplicate = dataclasses.replace(
        proven,
        superseded_at=before.superseded_at or now,
        job_state=job_state,
        cost=update.cost,
        refunded=update.refunded,
        due_at=before.due_at if ended else now if identified else None,
    )
    shown = {"job_state": job_state, "job_results": [result.as_json() for result in update.results]}
    return dataclasses.replace(
        effect,
        update=Update(),
        fields={},
        settles=duplicate,
        is_duplicate=True,
        event_type=None if known else "duplicate_job",
        details=_names(proven) if known else {**_names(proven), **shown},
    )


def _names(proven: Submission) -> dict[str, str | None]:
    return {"upstream": proven.upstream, "submission": str(proven.id), "external_id": proven.external_id}
