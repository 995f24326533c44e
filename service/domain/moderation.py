"""Withheld outputs: whether a task is bought again after its provider has withheld a finished output. Pure.

A rejection after the work is partly chance. A new purchase is an act of its own, by the task's terms: it has its reason in the history
and in the ledger, and counts in ``max_cost`` and in budgets as every purchase does.
"""

import dataclasses
from datetime import datetime
from typing import Any, Final

from service.domain.effects import Effect
from service.domain.task import AT_PROVIDER, Outcome, State, Submission, Task, Update

WITHHELD: Final = "content_policy"
_FRESH: Final[dict[str, Any]] = {
    "state": State.QUEUED,
    "waits_for": None,
    "external_id": None,
    "job_host": None,
    "progress": None,
    "results": (),
    "next_actions": (),
    "cost": None,
    "cost_unit": None,
    "usage": {},
    "refunded": None,
    "missing_since": None,
    "answered_at": None,
    "submitted_at": None,
    "callback_expected": False,
}
"""The fields of a task that belong to its former job."""


def purchases_withheld(task: Task) -> int:
    """Return how many jobs of a task were withheld."""
    return sum(each.get("evidence", {}).get("ending") == "moderated" for each in task.settlements)


def bought_again(task: Task, effect: Effect, submission: Submission, *, now: datetime) -> Effect | None:
    """Return the effect of queueing a task again whose output was withheld; None where its terms do not say so.

    :param submission: the one whose job the provider reports on, as it is now
    """
    failure, terms = effect.update.failure, task.terms
    withheld = effect.update.state is State.FAILED and failure is not None and failure.code == WITHHELD
    if not withheld or terms.on_moderated in {None, "fail"} or effect.is_duplicate or task.adopted:
        return None
    if task.state not in AT_PROVIDER or task.submission_id != submission.id:
        return None
    number = purchases_withheld(task) + 1
    if task.cancel_requested_at is not None or now >= task.deadline_at or number > (terms.moderated_retries or 1):
        return None
    job = task.external_id or effect.update.external_id
    words = None if failure is None else failure.message
    settled = dataclasses.replace(
        submission,
        outcome=Outcome.TAKEN,
        external_id=job,
        code=WITHHELD,
        message=words,
        settled_at=submission.settled_at or now,
        superseded_at=now,
        job_state=str(State.FAILED),
        cost=effect.update.cost if effect.update.cost is not None else task.cost,
        refunded=effect.update.refunded,
    )
    return Effect(
        source=effect.source,
        update=Update(),
        fields={
            **_FRESH,
            "last_error": f"{submission.upstream} withheld the output; the task is bought again ({number})",
        },
        event_type="bought_again",
        details={
            "upstream": submission.upstream,
            "submission": str(submission.id),
            "external_id": job,
            "reason": words,
            "number": number,
        },
        settles=settled,
        submit_at=now,
    )
