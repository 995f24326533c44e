"""The items of a time line: states, acts, submissions, callbacks and messages. Pure."""

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any, Final

from service.domain.events import Event
from service.domain.task import Outcome, Source, State, Submission, Task
from service.store.history import Answer
from service.store.webhooks.attempts import Delivery
from service.web.dashboard import words
from service.web.dashboard.bodies import Body, body_of
from service.web.dashboard.decisions import DECISIONS, MESSAGE_STATES, Chip
from service.web.dashboard.history import Item, Part, Records

# States and acts -------------------------------------------------------------------------------------------------

_ACTS: Final[Mapping[str, str]] = {
    "cancel_requested": "Cancellation requested",
    "input_sent": "Input sent",
}
_FIRST: Final = frozenset({"accepted", "adopted"})
_DUPLICATE: Final = frozenset({"duplicate_job", "duplicate_job_ended"})


def states(records: Records) -> Iterator[Item]:
    task = records.task
    for event in records.events:
        state = event.data.get("state")
        if event.type in _FIRST:
            yield _accepted(event, task)
        elif event.type in _ACTS:
            yield _act(event)
        elif event.type in _DUPLICATE:
            yield _duplicate_job(event)
        elif event.type == "waiting":
            yield Item(kind="state", at=event.at, state=State.QUEUED, title="Waiting", meaning=_said(event))
        elif event.type == "found_in_list":
            yield Item(
                kind="poll", at=event.at, wire="w-ask", tone="good", title="Found in the upstream's list of jobs"
            )
            yield from _state(event, state)
        else:
            yield from _state(event, state)


def _state(event: Event, word: Any) -> Iterator[Item]:
    if word not in set(State) or word == State.SUBMITTING:
        return
    state = State(word)
    again = event.source is Source.CLIENT and state is State.QUEUED
    if again:
        chip = Chip("doubt", "buy", "may be paid twice")
        yield Item(kind="act", at=event.at, wire="w-act", title="Submitted again", chips=(chip,))
    if event.source is Source.CLIENT and event.data.get("input"):
        names = ", ".join(map(str, event.data["input"]))
        yield Item(kind="act", at=event.at, wire="w-act", title="Input sent", meaning=f"Fields: {names}")
    late = event.type == "late_result"
    yield Item(
        kind="state",
        at=event.at,
        state=state,
        title=state.replace("_", " ").capitalize(),
        chips=(Chip("over", "late", "late result"),) if late else (),
        measure=f"event {event.sequence}",
        meaning=_said(event),
    )


def _accepted(event: Event, task: Task) -> Item:
    adopted = event.type == "adopted"
    key = "" if task.idempotency_key is None else f", Idempotency-Key {words.excerpt(task.idempotency_key, 40)}"
    route = ", ".join(map(str, event.data.get("route", ())))
    skipped = "".join(f" {name} is skipped: {why}." for name, why in event.data.get("skipped_upstreams", {}).items())
    meaning = f"From {task.client}{key}." + (f" Route: {route}." if route else "") + skipped
    title = "Adopted: its job was bought elsewhere" if adopted else "Accepted, queued"
    state = State(event.data["state"]) if event.data.get("state") in set(State) else State.QUEUED
    return Item(kind="state", at=event.at, state=state, title=title, meaning=meaning, measure=f"event {event.sequence}")


def _act(event: Event) -> Item:
    return Item(kind="act", at=event.at, wire="w-act", title=_ACTS[event.type], meaning=_said(event))


def _duplicate_job(event: Event) -> Item:
    data = event.data
    where = f"{data.get('upstream')} " if data.get("upstream") else ""
    if event.type == "duplicate_job":
        meaning = (
            f"Another submission created a job, too: {where}{data.get('external_id') or ''}. It counts in the ledger."
        )
        return Item(
            kind="submission", at=event.at, wire="w-in", tone="doubt", title="A duplicate job exists", meaning=meaning
        )
    meaning = f"{where}{data.get('external_id') or ''}: {data.get('job_state') or data.get('error') or 'ended'}"
    return Item(
        kind="poll", at=event.at, wire="w-ask", tone="doubt", title="The duplicate job has ended", meaning=meaning
    )


def _said(event: Event) -> str:
    """Return the reason that an event states."""
    data = event.data
    failure = data.get("failure")
    if isinstance(failure, Mapping):
        return str(failure.get("message") or failure.get("code") or "")
    for name in ("error", "reason", "message", "waits_for"):
        if isinstance(data.get(name), str):
            return str(data[name])
    return ""


# Submissions -----------------------------------------------------------------------------------------------------

_OUTCOMES: Final[Mapping[Outcome, tuple[str, Chip]]] = {
    Outcome.SENDING: ("w-out", Chip("work", "s-submitting", "sending")),
    Outcome.TAKEN: ("w-out", Chip("good", "check", "taken")),
    Outcome.REFUSED: ("w-bounce", Chip("bad", "x", "refused")),
    Outcome.ACCOUNT: ("w-bounce", Chip("bad", "key", "account")),
    Outcome.UNAVAILABLE: ("w-bounce", Chip("bad", "minus", "unavailable")),
    Outcome.UNCERTAIN: ("w-lost", Chip("doubt", "s-unconfirmed", "uncertain")),
}
_NO_JOB: Final = "Nothing was created, so it may be sent again."


def submissions(records: Records) -> Iterator[Item]:
    for number, each in enumerate(records.submissions, 1):
        wire, chip = _OUTCOMES[each.outcome]
        answer = records.answers.get(each.id)
        duplicate = each.superseded_at is not None and each.outcome is Outcome.TAKEN
        received = () if answer is None else (_answer_body(answer),)
        sent = (records.sent[each.id],) if each.id in records.sent else ()
        yield Item(
            kind="submission",
            at=each.sent_at,
            wire=wire,
            tone=None if each.outcome is Outcome.TAKEN else chip.tone,
            title=f"Adopted job at {each.upstream}"
            if records.task.adopted
            else f"Submission {number} to {each.upstream}",
            chips=(chip, Chip("doubt", "copy", "duplicate job")) if duplicate else (chip,),
            measure=_measure(each, answer),
            meaning=_meaning(each),
            bodies=(*sent, *received) if received or len(records.submissions) < MAX_REBUILT else received,
        )


MAX_REBUILT: Final = 10
"""Submissions of a task whose requests are shown even without an answer."""


def _measure(submission: Submission, answer: Answer | None) -> str:
    if answer is None:
        return "" if submission.outcome is Outcome.SENDING else "no answer kept"
    took = (answer.at - submission.sent_at).total_seconds() * 1000
    return f"HTTP {answer.status}, {words.milliseconds(max(took, 0))}"


def _meaning(submission: Submission) -> str:
    said = (submission.message or submission.code or "").strip()
    match submission.outcome:
        case Outcome.TAKEN:
            return (
                f"Its id there: {submission.external_id}"
                if submission.external_id
                else "It has a job without an id yet."
            )
        case Outcome.UNCERTAIN:
            return f"It was sent, and no usable answer came ({said}): {submission.upstream} may have created the job."
        case Outcome.UNAVAILABLE | Outcome.ACCOUNT:
            return f"{said}. {_NO_JOB}" if said else _NO_JOB
        case Outcome.REFUSED:
            return said or "The upstream does not accept this input."
        case _:
            return "On its way now."


def _answer_body(answer: Answer) -> Body:
    cut = "" if len(answer.body.encode()) >= answer.size else f", the first part of {words.size(answer.size)}"
    return body_of(f"Answer: HTTP {answer.status}{cut}", answer.body)


# Callbacks and messages ------------------------------------------------------------------------------------------


def callbacks(records: Records) -> Iterator[Item]:
    numbers = {each.id: number for number, each in enumerate(records.submissions, 1)}
    for heard in records.callbacks:
        row = heard.received
        chip = DECISIONS.get(row.decision or "", Chip("work", "late", "being read"))
        copies = f", {row.copies} equal copies" if row.copies > 1 else ""
        of = (
            f" for submission {numbers[row.submission_id]}" if len(numbers) > 1 and row.submission_id in numbers else ""
        )
        proof = "signed" if heard.signed else "token"
        yield Item(
            kind="callback",
            at=row.received_at,
            wire="w-in",
            tone=None if chip.tone == "calm" else chip.tone,
            title=f"Callback{of}{copies}",
            chips=(chip,),
            measure=f"{proof}, {words.size(len(row.body))}",
            meaning=". ".join(filter(None, (heard.says and f"Reports: {heard.says}", row.detail))),
            bodies=heard.bodies,
            callback=row.id,
        )


def messages(records: Records, *, now: dt.datetime) -> Iterator[Item]:
    for message in records.messages:
        chip = MESSAGE_STATES[message.state]
        made = records.attempts.get(message.id, ())
        failed = message.state in {"exhausted", "discarded"} or (message.state == "pending" and bool(made))
        number = f"{message.attempts} attempt{'s' * (message.attempts != 1)}"
        planned = f"next {words.remaining(message.due_at, now=now)}" if message.due_at else ""
        yield Item(
            kind="message",
            at=message.created_at,
            wire="w-told-not" if failed else "w-tell",
            tone=chip.tone if chip.tone != "calm" else None,
            title=f"{message.type} to {_host(message.url)}",
            chips=(chip,),
            measure=", ".join(filter(None, (number, planned))),
            meaning=message.last_error or "",
            parts=tuple(_attempt(each) for each in made),
            message=message.id,
        )


def _attempt(made: Delivery) -> Part:
    good = made.status is not None and made.status < 300  # noqa: PLR2004 - the class 2xx
    said = " ".join(filter(None, (str(made.status or ""), made.error or made.answer or "")))
    return Part(words.precise(made.at), said[:200], words.milliseconds(made.duration_ms), "good" if good else "bad")


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0].rpartition("@")[2] or url[:60]
