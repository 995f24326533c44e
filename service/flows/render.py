"""A task as everybody outside sees it: in the API, in messages and in the command."""

import datetime as dt
from typing import Any, Final

import orjson

from service.domain.events import Event, rfc3339
from service.domain.explanation import explain
from service.domain.task import State, Task
from service.providers.registry import FAMILIES


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
        "route": list(task.route),
        "skipped_upstreams": dict(task.skipped_upstreams),
        "on_uncertain": task.on_uncertain,
        "upstream": task.upstream,
        "dialect": task.dialect,
        "external_id": task.external_id,
        "cost": task.cost,
        "refunded": task.refunded,
        "outcome_source": task.outcome_source,
        "waits_for": None if task.waits_for is None else task.waits_for.key,
        "input": dict(task.input),
        "options": dict(task.options),
        "labels": dict(task.labels),
        "parent_id": None if task.parent_id is None else str(task.parent_id),
        "callback_url": task.callback_url,
        "callback_events": list(task.callback_events),
        "sequence": task.sequence,
        "created_at": rfc3339(task.created_at),
        "updated_at": rfc3339(task.updated_at),
        "submitted_at": rfc3339(task.submitted_at),
        "finished_at": rfc3339(task.finished_at),
        "deadline_at": rfc3339(task.deadline_at),
        "next_check_at": rfc3339(task.due_at),
    }


BRIEF: Final = 20_000
"""Bytes of JSON that a task may take where it is told of: in messages, feeds and streams."""
_LEFT_OUT: Final[dict[str, Any]] = {"input": {}, "options": {}, "awaits": None, "next_actions": [], "results": []}
"""What is left out of a task that is too large, in this order, and what stands there instead."""


def show_task_briefly(task: Task, *, now: dt.datetime, truncated: bool = False) -> dict[str, Any]:
    """Write a task as the API shows it, and leave out what is large: then it says so with ``truncated``.

    :param truncated: whether the task was read without something already
    """
    shown = show_task(task, now=now)
    for name, empty in _LEFT_OUT.items():
        if len(orjson.dumps(shown)) <= BRIEF:
            break
        truncated = truncated or shown[name] != empty
        shown[name] = empty
    return {**shown, "truncated": True} if truncated else shown


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
        "at": rfc3339(event.at),
        "data": dict(event.data),
    }
