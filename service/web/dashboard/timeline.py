"""The time line of a task: submissions, callbacks, polls, states, acts and messages, in one order. Pure."""

import dataclasses
import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from service.domain.task import ENDED, State, Task
from service.web.dashboard import words
from service.web.dashboard.history import KINDS, Item, Kind, Part, Records
from service.web.dashboard.history_items import callbacks, messages, states, submissions


def timeline(records: Records, *, now: dt.datetime) -> tuple[Item, ...]:
    """Return what happened, oldest first, and what is planned."""
    items = [
        *states(records),
        *submissions(records),
        *callbacks(records),
        *_polls(records),
        *messages(records, now=now),
    ]
    order = list(KINDS)
    # A submission precedes the state that it leads to; a callback or a poll, too.
    items.sort(key=lambda item: (item.at, order.index(item.kind)))
    return (*_with_states(_joined(items)), *_future(records, now=now))


def counts(items: Iterable[Item]) -> dict[Kind, int]:
    """Return the number of items of each kind that occurs, besides those that are planned."""
    found: dict[Kind, int] = dict.fromkeys(KINDS, 0)
    for item in items:
        if not item.future:
            found[item.kind] += item.count
    return {kind: number for kind, number in found.items() if number}


# Polls ---------------------------------------------------------------------------------------------------------


def _polls(records: Records) -> Iterator[Item]:
    for poll in records.polls:
        progress = "" if poll.progress is None else f" {poll.progress} %"
        times = f"{poll.count} times " if poll.count > 1 else ""
        bad = poll.outcome.startswith(("error", "unknown"))
        part = Part(
            words.precise(poll.first_at),
            f"{times}{poll.outcome}{progress}",
            words.milliseconds(poll.duration_ms),
            "bad" if bad else None,
        )
        yield Item(
            kind="poll",
            at=poll.first_at,
            until=poll.last_at if poll.count > 1 else None,
            wire="w-ask",
            tone="bad" if bad else None,
            title=poll.outcome,
            parts=(part,),
            count=poll.count,
        )


def _joined(items: Sequence[Item]) -> Iterator[Item]:
    """Yield the items with neighbouring polls of one outcome joined into one."""
    held: list[Item] = []

    def flush() -> Iterator[Item]:
        if held:
            yield _polls_together(held)
            held.clear()

    for item in items:
        if item.kind == "poll" and item.parts:
            if held and held[-1].title != item.title:
                yield from flush()
            held.append(item)
            continue
        yield from flush()
        yield item
    yield from flush()


def _polls_together(polls: Sequence[Item]) -> Item:
    number = sum(each.count for each in polls)
    outcome = polls[0].title
    said = f"said {outcome.replace('_', ' ')}" if polls[0].tone is None else f"got {outcome.replace('_', ' ')}"
    last = polls[-1].until or polls[-1].at
    measures = [
        part.words.rpartition(" ")[0].rpartition(" ")[2] for each in polls for part in each.parts if "%" in part.words
    ]
    return dataclasses.replace(
        polls[0],
        title=f"Poll {said}" if number == 1 else f"{number} polls {said}",
        parts=tuple(part for each in polls for part in each.parts),
        count=number,
        until=last if last != polls[0].at else None,
        measure=", ".join(f"{each}{words.NARROW}%" for each in measures[-4:]) or polls[-1].parts[-1].measure,
    )


# What is planned -------------------------------------------------------------------------------------------------

_POLLED: Final = frozenset({State.SUBMITTED, State.RUNNING, State.AWAITING_INPUT})


def _future(records: Records, *, now: dt.datetime) -> Iterator[Item]:
    task = records.task
    if task.state in ENDED:
        return
    due = task.due_at
    if due is not None and task.state in _POLLED and due < task.deadline_at:
        unless = "unless a callback comes before" if task.callback_expected else ""
        title = f"Dovecote polls {task.upstream}"
        yield _planned("poll", task, max(due, now), title=title, wire="w-ask", meaning=unless)
    elif due is not None and task.state is State.UNCONFIRMED and due < task.deadline_at:
        title = f"Dovecote searches for the job at {task.upstream}"
        yield _planned("poll", task, max(due, now), title=title, wire="w-ask")
    elif due is not None and task.state is State.QUEUED and task.waits_for is None:
        yield _planned("submission", task, max(due, now), title="Dovecote submits it", wire="w-out")
    meaning = "if it has not ended by then; a result that comes later is kept and reported"
    yield _planned("state", task, task.deadline_at, title="Expires", meaning=meaning)


def _planned(kind: Kind, task: Task, at: dt.datetime, *, title: str, wire: str = "", meaning: str = "") -> Item:
    return Item(kind=kind, at=at, wire=wire, title=title, meaning=meaning, state=task.state, future=True)


def _with_states(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items with the state that the task was in at each."""
    current = State.QUEUED
    for item in items:
        if item.kind == "state":
            current = item.state
        yield dataclasses.replace(item, state=current)
