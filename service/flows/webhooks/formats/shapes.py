"""Parts of the documents that doors show: outputs, times, failures."""

import base64
import binascii
import datetime as dt
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from service.domain.task import State, Task

WAITING: Final = frozenset({State.QUEUED, State.SUBMITTING, State.UNCONFIRMED, State.SUBMITTED})
"""States in which no provider is known to work on a task."""
BROKEN_OFF: Final = frozenset({State.CANCELLED, State.EXPIRED})
"""Ends without a verdict of the provider."""


def outputs(task: Task, *kinds: str) -> list[str]:
    """Return the URLs of a task's results, without covers and previews.

    :param kinds: the kinds that count; default: all
    """
    return [
        each.url
        for each in task.results
        if each.url is not None and each.role == "result" and (not kinds or each.kind in kinds)
    ]


def texts(task: Task) -> list[str]:
    """Return the texts of a task's results."""
    return [each.text for each in task.results if each.text is not None and each.role == "result"]


def unix(moment: dt.datetime | None) -> int | None:
    """Return a time as seconds since 1970."""
    return None if moment is None else int(moment.timestamp())


def reason_of(task: Task) -> str | None:
    """Return why a task has no result; None where it has one or has not ended."""
    if not task.state.ended or task.state is State.SUCCEEDED:
        return None
    if task.failure is not None and (task.failure.message or task.failure.code):
        return task.failure.message or task.failure.code
    return f"the task is {task.state}"


def code_of(task: Task) -> str:
    """Return the code of a task's failure, of the closed set in ``errors.py``."""
    if task.failure is not None:
        return task.failure.code
    return "provider_timeout" if task.state is State.EXPIRED else "cancelled"


def bytes_of(url: str) -> tuple[bytes, str] | None:
    """Return the content and the type of a ``data:`` URL; None for any other, or one that cannot be read."""
    head, comma, encoded = url.partition(",")
    if not comma or head[:5].lower() != "data:":
        return None
    kind = head[5:].partition(";")[0].strip() or "application/octet-stream"
    try:
        if head.lower().endswith(";base64"):
            return base64.b64decode(encoded, validate=False), kind
        return unquote_to_bytes(encoded), kind
    except (binascii.Error, ValueError):
        return None


def base64_of(url: str) -> str | None:
    """Return the base64 text in a ``data:`` URL; None for any other URL."""
    head, comma, encoded = url.partition(",")
    return encoded if comma and head[:5].lower() == "data:" and head.lower().endswith(";base64") else None


def first(results: list[Any]) -> Any:
    """Return the first item; None where there is none."""
    return results[0] if results else None
