"""The explanation: one sentence on the state of a task and why it is not finished, computed when it is read.

A sentence names a time as future only if it is. It never states that a request was sent or is in flight unless that is
certain. Texts that are stored, such as the last error, name no times.
"""

import math
from datetime import datetime, timedelta

from service.domain.schedules import is_claimed_as_written
from service.domain.task import Source, State, Task

FRESH = timedelta(seconds=5)
"""How long a task that is due to be submitted is not called overdue."""
_HOW = {
    Source.CALLBACK: "reported by a callback",
    Source.POLL: "found by a poll",
    Source.SUBMIT: "reported in the answer to the submit",
    Source.SWEEP: "decided by Dovecote",
    Source.CLIENT: "requested by the client",
}
_ACCOUNT = {
    "insufficient_credit": "its account has not enough credit",
    "unauthorized": "it refuses the API key",
    "forbidden": "its account may not do this",
    "rate_limited": "it gets too many requests",
    "overloaded": "it is overloaded",
}
_MINUTE, _HOUR = 60, 3600


def explain(task: Task, *, now: datetime) -> str:
    """Return one sentence on the state of a task."""
    if task.erased_at is not None:
        return f"{task.state.capitalize()}; the content was erased at {_at(task.erased_at)}."
    sentence = _explain(task, now)
    bought = "its job was bought elsewhere, and Dovecote never submits it"
    return f"{sentence[:-1]}; {bought}." if task.adopted else sentence


def _explain(task: Task, now: datetime) -> str:
    if task.state is State.QUEUED:
        return _queued(task, now)
    if task.state is State.SUBMITTING:
        return _submitting(task, now)
    if task.state is State.UNCONFIRMED:
        return _unconfirmed(task, now)
    if task.state.ended:
        return _ended(task)
    return _open(task, now)


def _queued(task: Task, now: datetime) -> str:
    paid = "Nothing has been paid."
    if task.unconfirmed_since is not None:
        paid = "An earlier submission of it may have been paid."
    reason = "" if task.last_error is None else f": {task.last_error}"
    if task.waits_for is not None:
        what = "a slot at" if task.waits_for.dialect is None else "the recovery of"
        next_try = f"the next attempt {_due(task.due_at, now)}, and the task expires {_deadline(task, now)}"
        return f"Waiting for {what} {task.waits_for.upstream}{reason}; {next_try}. {paid}"
    fresh = task.due_at is not None and timedelta() <= now - task.due_at < FRESH
    when = "" if fresh or is_claimed_as_written(task) else f"; the submit {_due(task.due_at, now)}"
    return f"Waiting to be submitted{when}{reason}. {paid}"


def _submitting(task: Task, now: datetime) -> str:
    if task.due_at is not None and task.due_at <= now:
        return f"Being submitted to {task.upstream}; no answer came in time, and Dovecote will search for the job."
    cancel = "; the client has requested to cancel it, which is done once its answer has come"
    return f"Being submitted to {task.upstream}{cancel if task.cancel_requested_at else ''}."


def _unconfirmed(task: Task, now: datetime) -> str:
    who = task.upstream or "An upstream"
    if task.callback_expected:
        way_out = "a callback can settle it"
    elif task.due_at is not None and task.due_at < task.deadline_at:
        way_out = f"the next search for the job {_due(task.due_at, now)}"
    else:
        way_out = f"{task.upstream or 'the upstream'} has no way to look it up without an id"
    otherwise = {
        "hold": f"otherwise it expires {_deadline(task, now)}",
        "fail": "otherwise it fails, as its `on_uncertain` states",
        "resubmit_once": "otherwise it is submitted once more, as its `on_uncertain` states",
    }[task.on_uncertain]
    reason = task.last_error or "the process stopped"
    if task.cancel_requested_at is not None:
        otherwise += "; the client has requested to cancel it: a job that is found is cancelled"
    return (
        f"{who} may have the job, but no usable answer came ({reason}), so it may be running and paid for; "
        f"it is not submitted again automatically: {way_out}, {otherwise}."
    )


def _open(task: Task, now: datetime) -> str:
    check = f"the next poll {_due(task.due_at, now)}"
    waiting = f"a callback may come at any time, and {check}" if task.callback_expected else check
    trouble = f"; last problem: {task.last_error}" if task.last_error else ""
    cancel = "; the client has requested to cancel it, and no report has confirmed that yet"
    return f"{task.upstream} {_doing(task, now)}; {waiting}{cancel if task.cancel_requested_at else ''}{trouble}."


def _doing(task: Task, now: datetime) -> str:
    """Return the provider's progress on the job, by its last report."""
    if task.state is State.AWAITING_INPUT:
        return f"waits for your input; without it the task expires {_deadline(task, now)}"
    if task.progress == 100:  # noqa: PLR2004 - percent
        return "reports that it is done, but returns no output yet"
    if task.adopted and task.sequence == 1:
        return "has not been asked about it yet"
    if task.state is State.SUBMITTED:
        return "has it in its queue"
    progress = f" ({task.progress} %)" if task.progress else ""
    return f"is working on it{progress}"


def _ended(task: Task) -> str:
    how = _HOW[task.outcome_source] if task.outcome_source is not None else "the source is not recorded"
    if task.state is State.SUCCEEDED:
        return f"Succeeded at {task.upstream}; {how}."
    reason = _reason(task)
    place = f" at {task.upstream}" if task.upstream else ""
    if task.state is State.EXPIRED:
        return f"Dovecote stopped waiting at the deadline{reason}; {_after_expiry(task)}."
    if task.state is State.CANCELLED and task.cancel_requested_at is not None and task.decided_by == "provider":
        return f"Cancelled{place}, as the client requested ({how})."
    if task.state is State.CANCELLED and task.decided_by == "dovecote":
        return f"Cancelled by the client{reason}."
    return f"{task.state.capitalize()}{place}{reason} ({how})."


def _reason(task: Task) -> str:
    """Return why a task did not succeed. A provider's words about the account may be in any language, so ours precede them."""
    if task.failure is None:
        return ""
    ours = _ACCOUNT.get(task.failure.code) if task.decided_by == "provider" or task.upstream else None
    theirs = (task.failure.message or ("" if ours else task.failure.code)).strip().rstrip(".")
    return "".join(f": {words}" for words in (ours, theirs) if words)


def _after_expiry(task: Task) -> str:
    """Return what an expired task may have cost, and what may still come."""
    if task.upstream:
        return f"if {task.upstream} still delivers a result, it is kept and reported"
    if task.unconfirmed_since is not None:
        return "it may have been submitted and paid for"
    return "nothing has been paid"


def _due(due: datetime | None, now: datetime) -> str:
    """Return when something that is due happens: at the latest, since it may be under way already."""
    if due is None:
        return "is not planned"
    seconds = math.ceil((due - now).total_seconds())
    return f"is due within {_length(seconds)}" if seconds > 0 else f"has been due since {_at(due)}"


def _length(seconds: int) -> str:
    """Return a length, rounded up: in seconds up to two minutes, in minutes up to two hours."""
    if seconds <= 2 * _MINUTE:
        return f"{seconds} s"
    return f"{-(-seconds // _MINUTE)} min" if seconds <= 2 * _HOUR else f"{-(-seconds // _HOUR)} h"


def _deadline(task: Task, now: datetime) -> str:
    return f"at {_at(task.deadline_at)}" if task.deadline_at > now else "with the next check"


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
