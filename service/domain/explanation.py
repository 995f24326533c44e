"""In one sentence: where a task stands, and why it is not finished yet."""

from datetime import datetime

from service.domain.task import Source, State, Task

_LEARNED = {
    Source.CALLBACK: "its callback said so",
    Source.POLL: "a poll found out",
    Source.SUBMIT: "the answer to the submit said so",
    Source.SWEEP: "Dovecote concluded it by itself",
    Source.CLIENT: "the client asked for it",
}


def explain(task: Task, *, now: datetime) -> str:
    """Say where a task stands, for a person."""
    if task.state is State.QUEUED:
        return _queued(task, now)
    if task.state is State.SUBMITTING:
        return f"Being handed to {task.upstream} right now."
    if task.state is State.UNCONFIRMED:
        return _unconfirmed(task, now)
    if task.state.ended:
        return _ended(task)
    return _open(task, now)


def _queued(task: Task, now: datetime) -> str:
    paid = "Nothing has been paid."
    if task.unconfirmed_since is not None:
        paid = "An earlier submission of it may have been paid."
    if task.waits_for is not None:
        return f"Standing in line: {task.last_error}. {paid}"
    reason = "" if task.last_error is None else f" {_when(task.due_at, now)}: {task.last_error}"
    return f"Waiting to be handed over{reason}. {paid}"


def _unconfirmed(task: Task, now: datetime) -> str:
    looking = task.due_at is not None and task.due_at < task.deadline_at
    if task.callback_expected:
        way_out = "a callback can settle it"
    elif looking:
        way_out = f"Dovecote looks for it {_when(task.due_at, now)}"
    else:
        way_out = f"{task.upstream} offers no way to look it up without an id"
    else_what = {
        "hold": f"else it expires at {task.deadline_at:%H:%M:%S} UTC",
        "fail": "else it fails, as its client wants it",
        "resubmit_once": "else it is bought again, as its client wants it",
    }[task.on_uncertain]
    return (
        f"Sent to {task.upstream}, but no usable answer came ({task.last_error or 'the process stopped'}), so it may be "
        f"running and paid for; it is not sent again by itself: {way_out}, {else_what}."
    )


def _open(task: Task, now: datetime) -> str:
    doing = {
        State.SUBMITTED: "has it in its queue",
        State.RUNNING: "is working on it",
        State.AWAITING_INPUT: "waits for your input",
    }[task.state]
    progress = f" ({task.progress} %)" if task.progress else ""
    waiting = "its callback may come at any time, and Dovecote asks" if task.callback_expected else "Dovecote asks"
    trouble = f"; the last try failed: {task.last_error}" if task.last_error else ""
    return f"{task.upstream} {doing}{progress}; {waiting} {_when(task.due_at, now)}{trouble}."


def _ended(task: Task) -> str:
    how = _LEARNED[task.outcome_source] if task.outcome_source is not None else "nobody wrote down how"
    if task.state is State.SUCCEEDED:
        return f"Succeeded at {task.upstream}; {how}."
    words = "" if task.failure is None else (task.failure.message or task.failure.code).strip().rstrip(".")
    reason = f": {words}" if words else ""
    place = f" at {task.upstream}" if task.upstream else ""
    if task.state is State.EXPIRED:
        late = (
            f"should {task.upstream} still deliver, the result will be kept and told"
            if place
            else "nothing has been paid"
        )
        return f"Dovecote stopped waiting at the deadline{reason}; {late}."
    if task.state is State.CANCELLED and task.cancel_requested_at is not None and task.decided_by == "provider":
        return f"Cancelled{place}, as the client asked ({how})."
    if task.state is State.CANCELLED and task.decided_by == "dovecote":
        return f"Cancelled by the client{reason}."
    return f"{task.state.capitalize()}{place}{reason} ({how})."


def _when(due: datetime | None, now: datetime) -> str:
    if due is None:
        return "no more"
    seconds = round((due - now).total_seconds())
    return "now" if seconds <= 0 else f"in {seconds} s"
