"""The body of a message about a task: the task as the API shows it, or so much of it as fits."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

import orjson

from service.domain.events import rfc3339
from service.domain.task import Task
from service.flows.render import show_task

LARGEST = 20_000
"""Bytes that a body may have."""
BULKY = ("input", "options", "results", "next_actions", "awaits")
"""What a task is shown without where it would be too large: its link leads to them."""
BULKY_IN_WORDS = ("labels", "explanation", "callback_url", "callback_events", "external_id")
"""What else goes where it is still too large."""


def body_of(kind: str, task: Task, at: dt.datetime, *, public_url: str | None) -> str:
    """Write the body of a message.

    :param kind: the message's type
    :param public_url: where this Dovecote is reached; without it the link of a truncated body is a path
    """
    head = {"type": kind, "timestamp": rfc3339(at), "sequence": task.sequence}
    if not (task.large_input or _is_bulky(task)):
        body = orjson.dumps({**head, "data": show_task(task, now=at)})
        if len(body) <= LARGEST:
            return body.decode()
    head |= {"truncated": True, "url": f"{public_url or ''}/v1/tasks/{task.id}"}
    shown = show_task(task, now=at)
    body = orjson.dumps({**head, "data": _without(shown, BULKY)})
    if len(body) > LARGEST:
        shown["failure"] = None if task.failure is None else {**task.failure.as_json(), "message": None}
        body = orjson.dumps({**head, "data": _without(shown, BULKY + BULKY_IN_WORDS)})
    return body.decode()


def _without(shown: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in shown.items() if name not in names}


def _is_bulky(task: Task) -> bool:
    """Whether what the client sent is too large alone. It may be a picture of 32 MiB: nothing is written to find out."""
    room = LARGEST
    waiting: list[Any] = [task.input, task.options]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            room -= len(value)
        elif isinstance(value, Mapping):
            waiting += value.values()
            room -= len(value)
        elif isinstance(value, list | tuple):
            waiting += value
            room -= len(value)
        if room < 0:
            return True
    return False
