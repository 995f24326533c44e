"""The submissions about whose price a decision says something new."""

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from service.domain.decision import Decided
from service.domain.moderation import WITHHELD
from service.domain.money.settlement import Ending
from service.domain.task import ENDED, WITHOUT_PURCHASE, Outcome, Source, State, Submission, Task
from service.store.money.reservations import Reservation


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A submission of which something new is known."""

    submission_id: UUID
    task_id: UUID
    upstream: str
    dialect: str
    purchased_at: datetime
    ending: Ending
    cost: float | None = None
    cost_unit: str | None = None
    refunded: bool | None = None
    usage: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    external_id: str | None = None
    source: str = ""

    @property
    def worth_booking(self) -> bool:
        """Whether it is booked although no price of it is known: somebody may have to ask for the money."""
        return self.cost is not None or self.refunded is not None or self.ending not in {"succeeded", "no_job"}


def subjects_of(before: Task, each: Decided) -> list[Subject]:
    """Return the submissions of a task about whose price a decision says something new."""
    task, settles = each.task, each.settles
    if task.adopted:
        return []
    found: list[Subject] = []
    due = each.cost_due
    if due is not None and due.outcome in WITHOUT_PURCHASE:
        found.append(_of_submission(due, "no_job"))
    elif due is not None and due.id != task.submission_id and due.job_state in ENDED:
        found.append(_of_submission(due, _ending(State(due.job_state), None)))
    if settles is not None and settles.outcome in WITHOUT_PURCHASE:
        found.append(_of_submission(settles, "no_job"))
    elif settles is not None and settles.id != task.submission_id and settles.job_state in ENDED:
        found.append(_of_submission(settles, _ending(State(settles.job_state), None)))
    elif settles is not None and settles.superseded_at is not None and settles.code == WITHHELD:
        found.append(_of_submission(settles, "moderated"))
    serving = task.submission_id
    if serving is None or not task.state.ended or any(one.submission_id == serving for one in found):
        return found
    facts = ("state", "decided_by", "cost", "refunded", "submission_id", "usage")
    if due is not None or any(getattr(before, name) != getattr(task, name) for name in facts):
        subject = _of_task(task, each)
        found += [] if subject is None else [subject]
    return found


def _of_submission(settled: Submission, ending: Ending) -> Subject:
    return Subject(
        submission_id=settled.id,
        task_id=settled.task_id,
        upstream=settled.upstream,
        dialect=settled.dialect,
        purchased_at=settled.sent_at,
        ending=ending,
        cost=settled.cost,
        refunded=settled.refunded,
        external_id=settled.external_id,
        source="submit" if ending == "no_job" else "poll",
    )


def _of_task(task: Task, each: Decided) -> Subject | None:
    """Return the submission that serves an ended task; None where no upstream has created a job."""
    if task.submission_id is None or task.upstream is None or task.dialect is None:
        return None
    jobless = task.external_id is None and task.unconfirmed_since is None
    taken = each.settles is not None and each.settles.outcome is Outcome.TAKEN
    if jobless and not taken and task.state is not State.SUCCEEDED and not task.results:
        return None
    ending = _ending(task.state, None if task.failure is None else task.failure.code)
    return Subject(
        submission_id=task.submission_id,
        task_id=task.id,
        upstream=task.upstream,
        dialect=task.dialect,
        purchased_at=task.submitted_at or task.created_at,
        ending="unknown" if task.decided_by == "dovecote" else ending,
        cost=task.cost,
        cost_unit=task.cost_unit,
        refunded=task.refunded,
        usage=task.usage,
        external_id=task.external_id,
        source=str(task.outcome_source or Source.POLL),
    )


def _ending(state: State, code: str | None) -> Ending:
    match state:
        case State.SUCCEEDED:
            return "succeeded"
        case State.CANCELLED:
            return "cancelled"
        case State.FAILED:
            return "moderated" if code == "content_policy" else "failed"
        case _:
            return "unknown"


def left_over(
    held: Mapping[UUID, Reservation], tasks: Mapping[UUID, Task], ended: set[UUID], known: Mapping[UUID, Subject]
) -> list[Subject]:
    """Return the submissions of ended tasks that nothing is known of: they may have been charged."""
    return [
        Subject(
            submission_id=each.submission_id,
            task_id=each.task_id,
            upstream=each.upstream,
            dialect=each.dialect,
            purchased_at=each.reserved_at,
            ending="unknown" if _may_have_job(tasks[each.task_id], each) else "no_job",
            source="sweep",
        )
        for each in held.values()
        if each.settled_at is None and each.task_id in ended and each.submission_id not in known
    ]


def _may_have_job(task: Task, reservation: Reservation) -> bool:
    """Return whether a submission of an ended task may have created a job."""
    serves = task.submission_id == reservation.submission_id
    return not serves or task.external_id is not None or task.unconfirmed_since is not None
