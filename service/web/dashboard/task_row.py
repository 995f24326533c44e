"""One task as a row of a list. Pure."""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from service.domain.explanation import explain
from service.domain.task import ENDED, MAY_HAVE_JOB, Result, State, Submission, Task
from service.providers.registry import FAMILIES
from service.web.dashboard import words
from service.web.dashboard.paid import Tone, cost_of, paid_for

MAX_PROMPT: Final = 140
"""Characters of a prompt that a row shows."""
_ICONS: Final = {"video": "video", "image": "image", "audio": "music", "model": "tag", "text": "tag"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """Something that is no state and needs a reader's eye."""

    word: str
    tone: Tone


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A task as a list shows it."""

    id: UUID
    state: State
    progress: int | None
    family: str
    operation: str
    model: str | None
    prompt: str
    icon: str
    thumbnail: int | None
    """The number of the kept picture that stands for it."""
    why: str
    flags: tuple[Flag, ...]
    client: str
    upstream: str
    cost: str
    time: str
    took: str
    exact: str
    """The time in full, for a tooltip."""


def row_of(task: Task, submissions: Sequence[Submission], *, stuck: bool, now: dt.datetime) -> Row:
    """Return the row of a task."""
    family = FAMILIES.get(task.family)
    ended = task.finished_at if task.state in ENDED else None
    return Row(
        id=task.id,
        state=task.state,
        progress=task.progress if task.state is State.RUNNING else None,
        family=task.family if family is None else family.title,
        operation=task.operation,
        model=task.model,
        prompt=prompt_of(task),
        icon=icon_of(task),
        thumbnail=thumbnail_of(task.results),
        why=explain(task, now=now),
        flags=flags_of(task, submissions, stuck=stuck),
        client=task.client,
        upstream=task.upstream or "",
        cost=_cost(task, submissions),
        time=words.duration((now - task.created_at).total_seconds()) if ended is None else words.clock(ended, now=now),
        took="" if ended is None else words.duration((ended - task.created_at).total_seconds()),
        exact=words.moment(ended or task.created_at),
    )


def prompt_of(task: Task) -> str:
    """Return the words of a task on one line: its prompt, or the first text of its input."""
    for name in ("prompt", "text", "lyrics", "action", "title"):
        value = task.input.get(name)
        if isinstance(value, str) and value.strip():
            return words.excerpt(value, MAX_PROMPT)
    return ""


def icon_of(task: Task) -> str:
    """Return the icon of what a task produces."""
    family = FAMILIES.get(task.family)
    operation = None if family is None else family.operations.get(task.operation)
    return _ICONS.get("" if operation is None else operation.produces, "tag")


def thumbnail_of(results: Sequence[Result]) -> int | None:
    """Return the number of a kept picture that stands for a task; None where there is none."""
    kept = [
        number
        for number, each in enumerate(results)
        if each.kind == "image" and each.kept is not None and each.kept.state == "kept"
    ]
    return next(iter(sorted(kept, key=lambda number: results[number].role != "cover")), None)


def flags_of(task: Task, submissions: Sequence[Submission], *, stuck: bool) -> tuple[Flag, ...]:
    """Return what a reader must not miss."""
    found = []
    if stuck:
        found.append(Flag(word="stuck", tone="doubt"))
    if paid_for(task, submissions).tone == "bad":
        found.append(Flag(word="paid twice?", tone="bad"))
    if (
        task.state in ENDED
        and task.decided_by == "provider"
        and task.finished_at
        and task.finished_at > task.deadline_at
    ):
        found.append(Flag(word="late", tone="over"))
    return tuple(found)


def _cost(task: Task, submissions: Sequence[Submission]) -> str:
    if task.refunded:
        return "refunded"
    cost = cost_of(task)
    if cost is None or task.adopted:
        return ""
    sure = any(each.outcome in MAY_HAVE_JOB and each.settled_at and each.external_id for each in submissions)
    return cost if sure else f"{cost}?"


def rows_together(tasks: Sequence[Task], *, now: dt.datetime) -> tuple[Row, ...]:
    """Return the rows of related tasks."""
    return tuple(row_of(task, (), stuck=False, now=now) for task in tasks)
