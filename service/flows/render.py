"""A task as everybody outside sees it: in the API, in messages and in the command."""

import datetime as dt
import functools
from typing import Any, Final

import orjson

from service.domain.events import Event, rfc3339
from service.domain.explanation import explain
from service.domain.media_references import as_written
from service.domain.money.delivered import differences
from service.domain.money.quotes import unknown
from service.domain.task import State, Task
from service.providers.registry import DIALECTS, FAMILIES


def show_results(task: Task, *, api_url: str | None = None) -> list[dict[str, Any]]:
    """Write the results of a task as the API shows them, each with what became of its copy.

    :param api_url: address of this installation's API; without it the ``content_url`` is a path
    """
    shown = []
    for number, result in enumerate(task.results):
        document = result.as_json()
        document.pop("asset", None)
        if result.url is not None and result.kept is None:
            document["kept"] = "off"
        elif result.kept is not None and result.kept.state == "kept":
            document["content_url"] = f"{api_url or ''}/v1/tasks/{task.id}/results/{number}/content"
        shown.append(document)
    return shown


def show_task(task: Task, *, now: dt.datetime, api_url: str | None = None) -> dict[str, Any]:
    """Write a task as the API shows it.

    :param api_url: address of this installation's API, for links
    """
    shown = {
        "id": str(task.id),
        "family": task.family,
        "operation": task.operation,
        "state": str(task.state),
        "explanation": explain(task, now=now),
        "progress": task.progress,
        "results": show_results(task, api_url=api_url),
        "next_actions": [action.as_json() for action in task.next_actions],
        "awaits": _awaited(task),
        "failure": None if task.failure is None else task.failure.as_json(),
        "route": list(task.route),
        "skipped_upstreams": dict(task.skipped_upstreams),
        "on_uncertain": task.on_uncertain,
        "adopted": task.adopted,
        "warnings": [warning.as_json() for warning in task.warnings],
        "upstream": task.upstream,
        "dialect": task.dialect,
        "external_id": task.external_id,
        "quote": [quote.as_json() for quote in task.quotes] or [_unknown(name) for name in task.route],
        "max_cost": None if task.terms.max_cost is None else task.terms.max_cost.as_json(),
        "prefer": task.terms.prefer,
        "when_over_budget": task.terms.when_over_budget,
        "on_moderated": task.terms.on_moderated,
        "moderated_retries": task.terms.moderated_retries,
        "cost": task.cost,
        "cost_unit": _cost_unit(task),
        "usage": dict(task.usage),
        "settlements": list(task.settlements),
        "billing_differences": [each.as_json() for each in differences(task)],
        "refunded": task.refunded,
        "outcome_source": task.outcome_source,
        "waits_for": None if task.waits_for is None else task.waits_for.key,
        "input": as_written(dict(task.input)),
        "options": dict(task.options),
        "labels": dict(task.labels),
        "parent_id": None if task.parent_id is None else str(task.parent_id),
        "callback_url": task.callback_url,
        "callback_events": list(task.callback_events),
        "callback_when": task.callback_when,
        "callback_format": task.callback_format,
        "sequence": task.sequence,
        "created_at": rfc3339(task.created_at),
        "updated_at": rfc3339(task.updated_at),
        "submitted_at": rfc3339(task.submitted_at),
        "finished_at": rfc3339(task.finished_at),
        "deadline_at": rfc3339(task.deadline_at),
        "input_removed_at": rfc3339(task.input_removed_at),
        "results_removed_at": rfc3339(task.results_removed_at),
        "erased_at": rfc3339(task.erased_at),
        "next_check_at": rfc3339(task.due_at),
    }
    return {**shown, "truncated": True} if task.large_input else shown


def _cost_unit(task: Task) -> str | None:
    """Return the unit of a task's cost."""
    dialect = DIALECTS.get(task.dialect or "")
    return None if task.cost is None else task.cost_unit or (None if dialect is None else dialect.facts.cost_unit)


@functools.lru_cache(maxsize=256)
def _unknown(upstream: str) -> dict[str, Any]:
    return unknown(upstream).as_json()


MAX_BRIEF: Final = 20_000
"""Bytes of JSON that a task may take in a message, a feed or a stream."""
_MAX_TEXT: Final = 500
LEFT_OUT: Final[dict[str, Any]] = {
    "input": {},
    "options": {},
    "awaits": None,
    "next_actions": [],
    "results": [],
    "labels": {},
    "warnings": [],
    "skipped_upstreams": {},
    "quote": [],
    "settlements": [],
    "callback_url": None,
    "external_id": None,
}
"""The fields that are left out of a task that is too large, in this order, and the values that stand there instead."""


def show_task_briefly(
    task: Task, *, now: dt.datetime, api_url: str | None = None, truncated: bool = False
) -> dict[str, Any]:
    """Return a task as the API shows it, truncated to :data:`MAX_BRIEF` bytes.

    A truncated task has every field of a task. Fields that are left out are empty; ``truncated`` is true, and ``url`` leads
    to the whole task.

    :param api_url: address of this installation's API; without it ``url`` is a path
    :param truncated: whether the task was read without some of its fields already
    """
    shown = show_task(task, now=now, api_url=api_url)
    if not (truncated or task.large_input) and _fits(shown):
        return shown
    shown |= {"truncated": True, "url": f"{api_url or ''}/v1/tasks/{task.id}"}
    for name, empty in LEFT_OUT.items():
        if _fits(shown):
            return shown
        shown[name] = empty
    if not _fits(shown):
        shown["explanation"] = shown["explanation"][:_MAX_TEXT]
        if task.failure is not None:
            shown["failure"] = {**shown["failure"], "message": (task.failure.message or "")[:_MAX_TEXT]}
    return shown


def _fits(shown: dict[str, Any]) -> bool:
    """Return whether a document is small enough. A picture of many MiB is never encoded to find out."""
    room = MAX_BRIEF
    values: list[Any] = [shown]
    while values and room >= 0:
        value = values.pop()
        if not value or value is True:  # most fields are empty
            continue
        if isinstance(value, str):
            room -= len(value)
        elif isinstance(value, dict):
            values += value.values()
            room -= len(value)
        elif isinstance(value, list | tuple):
            values += value
            room -= len(value)
    return room >= 0 and len(orjson.dumps(shown)) <= MAX_BRIEF


def _awaited(task: Task) -> dict[str, Any] | None:
    """Return the schema of the input that a task waits for."""
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
