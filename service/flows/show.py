"""A task as everybody outside sees it: in the API, in messages and in the command."""

import datetime as dt
from typing import Any

from service.domain.sentence import explain
from service.domain.task import State, Task
from service.providers import FAMILIES
from service.store.events import Event


def instant(at: dt.datetime | None) -> str | None:
    """Write a time as RFC 3339, UTC, to the millisecond."""
    return None if at is None else at.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def show_task(task: Task, *, now: dt.datetime) -> dict[str, Any]:
    """Write a task as the API shows it."""
    return {
        "id": str(task.id),
        "family": task.family,
        "operation": task.operation,
        "state": str(task.state),
        "explanation": explain(task, now=now),
        "progress": task.progress,
        "results": [result.as_json() for result in task.results],
        "next_actions": [action.as_json() for action in task.next_actions],
        "awaits": _awaited(task),
        "failure": None if task.failure is None else task.failure.as_json(),
        "upstream": task.upstream,
        "dialect": task.dialect,
        "external_id": task.external_id,
        "cost": task.cost,
        "learned_by": task.learned_by,
        "input": dict(task.input),
        "options": dict(task.options),
        "labels": dict(task.labels),
        "parent_id": None if task.parent_id is None else str(task.parent_id),
        "callback_url": task.callback_url,
        "callback_events": list(task.callback_events),
        "sequence": task.sequence,
        "created_at": instant(task.created_at),
        "updated_at": instant(task.updated_at),
        "submitted_at": instant(task.submitted_at),
        "finished_at": instant(task.finished_at),
        "deadline_at": instant(task.deadline_at),
        "next_attention_at": instant(task.due_at),
    }


def _awaited(task: Task) -> dict[str, Any] | None:
    """Give the schema of the input that a task waits for."""
    if task.state is not State.AWAITING_INPUT:
        return None
    operation = FAMILIES[task.family].operations.get(task.operation)
    return {"input": {} if operation is None or operation.answer is None else operation.answer}


def show_event(event: Event) -> dict[str, Any]:
    """Write an event as the API shows it."""
    return {
        "sequence": event.sequence,
        "type": event.type,
        "source": str(event.source),
        "at": instant(event.at),
        "data": dict(event.data),
    }
