"""Decide the consequences of a change: evidence, then the table of moves, then events and the next check. Pure."""

import dataclasses
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from service.domain import kept
from service.domain.changes import Change
from service.domain.effects import Effect
from service.domain.erasure import effect_without_content, without_content
from service.domain.events import Event, changed_fields, event_type, is_event, message_type
from service.domain.evidence import assess
from service.domain.moderation import bought_again
from service.domain.money.delivered import differences
from service.domain.money.evidence import CostEvidence
from service.domain.task import TO_SUBMIT, Outcome, Source, State, Submission, Task, Update
from service.domain.transitions import advance, with_expiry
from service.domain.webhook_events import RESULTS_KEPT

Decision = Literal["applied", "duplicate", "ignored", "stale", "late", "unmatched"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Facts besides the task, read while it is locked."""

    submissions: Mapping[UUID, Submission]
    """The submissions that changes speak of, as they are now."""
    next_check: Callable[[Task], datetime | None]
    """When to poll a task next, by the statistics of its kind."""
    result_lifetime: Callable[[Task], float | None] = lambda _: None
    """Seconds for which the task's provider keeps an output; None where that is not known."""
    keeps_results: Callable[[Task], bool] = lambda _: False
    """Whether copies of the task's results are made."""
    new_id: Callable[[], UUID] = lambda: UUID(int=0)
    """Makes the id of a copy."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The result of a change, and what to write."""

    decision: Decision
    task: Task
    """As it is after the change."""
    event: Event | None = None
    begins: Submission | None = None
    settles: Submission | None = None
    answered: bool = False
    """Whether the answer to the settled submission came: it alone may replace an id that a callback has named."""
    certain: bool = False
    """Whether the settled submission is known to have created no job, whatever was concluded before."""
    supersedes_others: bool = False
    unknown_word: str | None = None
    """A status word that no table knows."""
    cost_due: Submission | None = None
    """A submission of which it is checked whether its price was booked."""
    cost_evidence: CostEvidence | None = None
    """Later evidence of a submission's price."""
    recheck_duplicates: bool = False
    """Whether a resubmission created no job, so that a duplicate may serve the task after all."""


def decide(task: Task, change: Change, facts: Facts, *, now: datetime) -> Decided:
    """Return the consequences of a change for its task."""
    lease_held = change.attempt is not None and change.attempt == task.attempts
    if change.only_if_lease_held and not lease_held:
        return Decided(decision="stale", task=task)
    effect = change.effect() if task.erased_at is None else effect_without_content(change.effect())
    unknown_word = effect.update.unknown_word
    proven = None if change.evidence_id is None else facts.submissions.get(change.evidence_id, change.evidence)
    if proven is not None:
        effect = assess(task, effect, proven, now=now)
        effect = bought_again(task, effect, proven, now=now) or effect
    lease_held = lease_held and not effect.is_duplicate
    of_another = effect.is_certain and effect.settles is not None and effect.settles.id != task.submission_id
    if (task.state not in change.expects or of_another) and not effect.is_duplicate:
        effect = _without_effect(effect)
    if effect.update.state is State.EXPIRED and now < task.deadline_at:
        # The deadline has moved since the task was claimed: the clock jumped.
        effect = dataclasses.replace(_without_effect(effect), submit_at=now)
    changed = task.changed(**effect.fields)
    after = advance(changed, effect.update, now=now, source=effect.source) or changed
    after = with_expiry(after, task, facts.result_lifetime(after), now=now)
    if after.erased_at is not None:
        after = without_content(after)
    after = kept.begin(after, keeps=facts.keeps_results, new_id=facts.new_id)
    if effect.copies or effect.deletes_copies:
        effect, after = _with_copies(effect, after)
    moved = is_event(task, after)
    event = None
    if moved or effect.event_type is not None:
        after = after.changed(sequence=task.sequence + 1, updated_at=now)
        event = _event(task, after, effect, now)
    after = after.changed(due_at=_due_at(task, after, effect, facts, lease_held=lease_held))
    settles = effect.settles
    return Decided(
        decision="applied"
        if moved or (event is not None and (effect.deletes_copies or bool(effect.copies)))
        else _why_unchanged(task, effect.update),
        task=after,
        event=event,
        begins=effect.begins,
        settles=settles,
        answered=settles is not None and effect.source is Source.SUBMIT,
        certain=effect.is_certain,
        supersedes_others=effect.supersedes_others,
        unknown_word=unknown_word,
        cost_due=effect.cost_due,
        cost_evidence=effect.cost_evidence,
        recheck_duplicates=settles is not None
        and settles.outcome is not Outcome.TAKEN
        and task.unconfirmed_since is not None,
    )


def _with_copies(effect: Effect, task: Task) -> tuple[Effect, Task]:
    """Return a task with what became of its copies. The last of them makes an event."""
    if effect.deletes_copies:
        return effect, kept.delete(task)
    after = kept.settle(task, effect.copies)
    if kept.pending(after) or after is task:
        return effect, after
    return dataclasses.replace(effect, event_type="results_kept"), after


def _without_effect(effect: Effect) -> Effect:
    """Return an effect that moves the time of the next check, and keeps the certain facts of a submission."""
    return Effect(
        source=effect.source,
        details=effect.details,
        settles=effect.settles if effect.is_certain else None,
        is_certain=effect.is_certain,
        poll_at=effect.poll_at,
        not_before=effect.not_before,
    )


def _event(before: Task, after: Task, effect: Effect, now: datetime) -> Event:
    return Event(
        task_id=after.id,
        client=after.client,
        sequence=after.sequence,
        type=effect.event_type or event_type(before, after),
        message=_message(before, after, effect),
        source=effect.source,
        at=now,
        data={**_changed(before, after), **effect.details, **_omitted(effect), **_differing(after, effect)},
    )


def _changed(before: Task, after: Task) -> dict[str, Any]:
    """Return the changed fields; of an erasure only its time."""
    changed = changed_fields(before, after)
    return changed if before.erased_at == after.erased_at else {"erased_at": changed["erased_at"]}


def _message(before: Task, after: Task, effect: Effect) -> str | None:
    if effect.event_type == "results_kept":
        return RESULTS_KEPT
    return message_type(before, after) if is_event(before, after) else None


def _differing(task: Task, effect: Effect) -> dict[str, Any]:
    """Return what was billed otherwise than it was made, once every file is known."""
    found = differences(task) if effect.event_type == "results_kept" else ()
    return {"billing_differences": [each.as_json() for each in found]} if found else {}


def _omitted(effect: Effect) -> dict[str, int]:
    """Return how many results and actions of an answer were left out, where some were."""
    return {"omitted": effect.update.omitted} if effect.update.omitted else {}


def _due_at(before: Task, after: Task, effect: Effect, facts: Facts, *, lease_held: bool) -> datetime | None:
    """Return when the task is claimed next."""
    queued = State.QUEUED in {before.state, after.state}
    if after.decided_by == "provider" or after.erased_at is not None:
        return None
    if effect.submit_at is not None and (lease_held or queued):
        return effect.submit_at
    if after.state in TO_SUBMIT:
        return before.due_at
    if lease_held and effect.poll_at is not None:
        return effect.poll_at
    if lease_held or before.state is not after.state or before.external_id != after.external_id:
        due_at = facts.next_check(after)
        return due_at if due_at is None or effect.not_before is None else max(due_at, effect.not_before)
    return before.due_at


def _why_unchanged(task: Task, update: Update) -> Decision:
    if update.state is None:
        return "ignored"
    if update.state is task.state:
        return "duplicate"
    return "late" if task.state.ended and update.state.ended else "stale"
