"""The price of a task as a fact of its own: paid once, perhaps, twice. Pure."""

import dataclasses
from collections.abc import Sequence
from typing import Final, Literal

from service.domain.task import UNANSWERED, WITHOUT_RESULT, Outcome, Submission, Task
from service.providers.registry import DIALECTS
from service.web.dashboard import words

Tone = Literal["calm", "work", "good", "bad", "doubt", "yours", "over"]
_TIMES: Final = {1: "Once", 2: "Twice"}


@dataclasses.dataclass(frozen=True, slots=True)
class Paid:
    """The fact, its reason, and its tone."""

    word: str
    detail: str
    tone: Tone


def paid_for(task: Task, submissions: Sequence[Submission]) -> Paid:
    """Return what was paid for a task. Doubt is never rounded to yes or no."""
    dialect = DIALECTS.get(task.dialect or "")
    if task.adopted:
        return Paid("Elsewhere", "the job was bought outside of Dovecote", "calm")
    if dialect is not None and task.operation in dialect.facts.free:
        return Paid("Nothing", f"{task.operation} buys nothing", "calm")
    bought = [each for each in submissions if each.outcome is Outcome.TAKEN]
    open_questions = [each for each in submissions if each.outcome in UNANSWERED]
    if not bought and not open_questions:
        return Paid("Nothing", "no upstream has a job of it", "calm")
    cost = cost_of(task) or ""
    if not bought:
        return _perhaps(open_questions, cost)
    if len(bought) == 1 and not open_questions:
        return _once(task, cost)
    return _several(task, bought, open_questions, cost)


def cost_of(task: Task) -> str | None:
    """Return the price that the provider states, with its unit; None where it states none."""
    if task.cost is None:
        return None
    dialect = DIALECTS.get(task.dialect or "")
    return _amount(task.cost, "units" if dialect is None else dialect.facts.cost_unit)


def _amount(cost: float, unit: str) -> str:
    return f"{words.number(cost)}{words.NARROW}{unit}"


def _perhaps(open_questions: Sequence[Submission], cost: str) -> Paid:
    if any(each.outcome is Outcome.SENDING for each in open_questions):
        return Paid("Not known yet", "the submit is on its way", "work")
    times = _TIMES.get(len(open_questions), f"{len(open_questions)} times").lower()
    return Paid(
        f"Perhaps, {times}", f"{cost}, if a job was created" if cost else "no answer came to the submit", "doubt"
    )


def _once(task: Task, cost: str) -> Paid:
    if task.refunded:
        return Paid("Refunded", f"{task.upstream} states that it returned the price", "calm")
    dialect = DIALECTS.get(task.dialect or "")
    nothing = task.state in WITHOUT_RESULT and task.decided_by == "provider"
    if nothing and task.refunded is None and dialect is not None and dialect.facts.refunds:
        return Paid("Perhaps refunded", f"{task.upstream} says so in its documentation only", "doubt")
    return Paid("Once", cost or f"{task.upstream or 'the upstream'} states no price", "good")


def _several(task: Task, bought: Sequence[Submission], open_questions: Sequence[Submission], cost: str) -> Paid:
    """Return the fact for a task of which more than one job exists, or may."""
    duplicates = [each for each in bought if each.id != task.submission_id]
    given_back = [each for each in duplicates if each.refunded]
    certain = len(bought) - len(given_back) - bool(task.refunded)
    parts = [cost] if cost else []
    for each in duplicates:
        dialect = DIALECTS.get(each.dialect)
        unit = "units" if dialect is None else dialect.facts.cost_unit
        state = "refunded" if each.refunded else (_amount(each.cost, unit) if each.cost else "no price stated")
        parts.append(f"duplicate job at {each.upstream}: {state}")
    if open_questions:
        parts.append(f"{len(open_questions)} submit without an answer")
    detail = ", ".join(parts)
    if certain > 1:
        return Paid(f"{_TIMES.get(certain, f'{certain} times')}, probably", detail, "bad")
    if open_questions:
        return Paid("Once, perhaps twice", detail, "doubt")
    return Paid("Once" if certain else "Refunded", detail, "good" if certain else "calm")
