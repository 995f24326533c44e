"""The six invariants, as pure functions of the whole database at one moment."""

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.domain.events import Event, rfc3339
from service.domain.schedules import LATE_WATCH, LEASE
from service.domain.task import ENDED, State, Submission, Task
from service.providers.capabilities import CanCancel
from service.providers.registry import DIALECTS
from service.store.callbacks import Received
from service.store.tasks import row_of
from service.store.webhooks.messages import Message

LONGEST_LEASE = 190.0
"""Seconds: of a submission, which waits for its answer."""
LONGEST_WATCH = 3600.0
LONGEST_LOOK = 600.0
"""Seconds between two looks at a duplicate job, and between two tries to read a callback."""
LONGEST_MESSAGE_WAIT = 1.2 * 129_600

REPLAYED = (
    "state",
    "external_id",
    "progress",
    "results",
    "failure",
    "next_actions",
    "decided_by",
    "cancel_requested_at",
)
NOTHING: Mapping[str, Any] = {**dict.fromkeys(REPLAYED), "results": [], "next_actions": []}

OF_A_DUPLICATE_JOB = frozenset({"duplicate_job", "duplicate_job_ended"})
"""Events that tell of another job than the one that serves the task."""
AFTER_THE_END = OF_A_DUPLICATE_JOB | {"late_result", "confirmed", "details", "settled", "cost_corrected"}


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """The rows of a task."""

    task: Task
    events: Sequence[Event]
    submissions: Sequence[Submission]
    messages: Sequence[Message]


def steps(events: Sequence[Event]) -> Iterator[tuple[Event, dict[str, Any], dict[str, Any]]]:
    """Yield each event of a history, with the task before and after it."""
    before = dict(NOTHING)
    for event in events:
        told = {} if event.type in OF_A_DUPLICATE_JOB else event.data
        after = before | {name: told[name] for name in REPLAYED if name in told}
        yield event, before, after
        before = after


def replayed(events: Sequence[Event]) -> dict[str, Any]:
    """Return the task that results from a history."""
    after = dict(NOTHING)
    for _, _, after in steps(events):  # noqa: B007 - the last one counts
        pass
    return after


def shown(task: Task) -> dict[str, Any]:
    """Return a task in the form of :func:`replayed`."""
    row = row_of(task)
    return {name: row[name] for name in REPLAYED} | {"cancel_requested_at": rfc3339(task.cancel_requested_at)}


def outputs(known: Mapping[str, Any]) -> list[Any]:
    return [result for result in known["results"] if result["role"] == "result"]


def owed(events: Sequence[Event]) -> list[int]:
    """Return the numbers of the events that need a message: the end, and each later change of the outcome."""
    return [
        event.sequence
        for event, before, after in steps(events)
        if after["state"] in ENDED and (before["state"] != after["state"] or outputs(before) != outputs(after))
    ]


def wrong_with(kept: Kept, *, now: dt.datetime) -> list[str]:
    """Return every violation of an invariant by one task."""
    return [
        *_wrong_history(kept),
        *_wrong_ends(kept.events),
        *_wrong_messages(kept),
        *_wrong_times(kept.task, now),
        *_wrong_submissions(kept),
    ]


def _wrong_history(kept: Kept) -> Iterator[str]:
    if [event.sequence for event in kept.events] != list(range(1, kept.task.sequence + 1)):
        yield f"{kept.task.sequence} events were counted, and numbered {[event.sequence for event in kept.events]}"
    told, is_now = replayed(kept.events), shown(kept.task)
    yield from (
        f"{name}: the events end with {told[name]!r}, the task has {is_now[name]!r}"
        for name in REPLAYED
        if told[name] != is_now[name]
    )


def _wrong_ends(events: Sequence[Event]) -> Iterator[str]:
    for event, before, after in steps(events):
        if before["state"] not in ENDED:
            continue
        if after["state"] not in ENDED:
            yield f"{event.type} opens a task again that had {before['state']}"
        if event.type not in AFTER_THE_END:
            yield f"{event.type} after the end"
        if before["decided_by"] == "provider" and (after["state"], after["decided_by"]) != (
            before["state"],
            "provider",
        ):
            yield f"the provider's verdict {before['state']} became {after['state']} of {after['decided_by']}"


def _wrong_messages(kept: Kept) -> Iterator[str]:
    made = sorted(message.sequence for message in kept.messages)
    wanted = owed(kept.events) if kept.task.callback_url is not None else []
    if made != wanted:
        yield f"messages are owed of events {wanted}, and made of {made}"


def _wrong_times(task: Task, now: dt.datetime) -> Iterator[str]:
    soon = now + dt.timedelta(seconds=LONGEST_LEASE)
    if not task.state.ended and (task.due_at is None or task.due_at > max(task.deadline_at, soon)):
        yield f"{task.state}, due at {task.due_at}, deadline at {task.deadline_at}: it is {now}"
    if task.state.ended and task.due_at is not None:
        last = min(
            now + dt.timedelta(seconds=LONGEST_WATCH), task.deadline_at + dt.timedelta(seconds=LATE_WATCH + LEASE)
        )
        if task.due_at > max(last, soon):
            yield f"{task.state}, watched until {task.due_at}"


_MAY_SERVE = frozenset({"sending", "taken", "uncertain"})
_NOT_PROVEN = frozenset({State.QUEUED, State.SUBMITTING, State.UNCONFIRMED})
_BEING_SERVED = frozenset({State.SUBMITTING, State.UNCONFIRMED, State.SUBMITTED, State.RUNNING, State.AWAITING_INPUT})


def _wrong_submissions(kept: Kept) -> Iterator[str]:
    """Return the violations by submissions. The serving submission is known, is unique, and has not been given up."""
    serving = [each.id for each in kept.submissions if each.outcome in _MAY_SERVE and each.superseded_at is None]
    if len(serving) > 1:
        yield f"{len(serving)} submissions serve it"
    if kept.task.state in _BEING_SERVED and serving != [kept.task.submission_id]:
        yield f"{kept.task.state} by {kept.task.submission_id}, and {serving} may serve it"
    if kept.task.state is State.QUEUED and serving:
        yield f"queued, although {serving} may have made its job"
    last = max((each.sent_at for each in kept.submissions if each.outcome == "sending"), default=None)
    for each in kept.submissions:
        known = each.job_state in _ALIVE and each.external_id is not None and not _is_stopped(each)
        if known and last is not None and each.settled_at is not None and each.settled_at < last:
            yield f"bought again, although job {each.external_id} was known"
    if kept.task.external_id is not None and kept.task.state in _NOT_PROVEN:
        yield f"{kept.task.state}, although job {kept.task.external_id} is known"
    for each in kept.submissions:
        if each.job_state is not None and each.superseded_at is None:
            yield f"submission {each.id} serves the task, and is in the ledger as a duplicate job"


_ALIVE = frozenset({State.SUBMITTED, State.RUNNING, State.SUCCEEDED})


def _is_stopped(extra: Submission) -> bool:
    """Return whether a duplicate job is cancelled where it runs as soon as it is known."""
    return isinstance(DIALECTS[extra.dialect], CanCancel)


def may_have_bought(events: Sequence[Event]) -> int:
    """Count the purchases that a task's history allows: one, and one more for each permitted resubmit."""
    happened = Counter(event.type for event in events)
    return 1 + happened["resubmitted"] + happened["retried"]


def wrong_with_rows(
    callbacks: Sequence[Received], messages: Sequence[Message], extra: Sequence[Submission], *, now: dt.datetime
) -> list[str]:
    """Return the rows besides tasks that stay unprocessed for too long."""

    def late(due: dt.datetime | None, longest: float) -> bool:
        return due is not None and due > now + dt.timedelta(seconds=max(longest, LEASE))

    return [
        *(f"callback {each.id} is due at {each.due_at}" for each in callbacks if late(each.due_at, LONGEST_LOOK)),
        *(f"message {each.id} is due at {each.due_at}" for each in messages if late(each.due_at, LONGEST_MESSAGE_WAIT)),
        *(f"duplicate job {each.id} is due at {each.due_at}" for each in extra if late(each.due_at, LONGEST_LOOK)),
    ]
