"""A task as gateways show a Runway job: in the answer of ``/runway/feed`` and in callbacks, such as the status "3" payload."""

from collections.abc import Mapping
from typing import Any, Final

from service.domain.task import State, Task
from service.flows.webhooks.formats.shapes import first, outputs, reason_of, unix

_STATUSES: Final[Mapping[State, tuple[str, str]]] = {
    State.QUEUED: ("0", "pending"),
    State.SUBMITTING: ("0", "pending"),
    State.UNCONFIRMED: ("0", "pending"),
    State.SUBMITTED: ("0", "pending"),
    State.AWAITING_INPUT: ("1", "running"),
    State.RUNNING: ("1", "running"),
    State.SUCCEEDED: ("3", "succeeded"),
    State.FAILED: ("2", "failed"),
    State.CANCELLED: ("2", "failed"),
    State.EXPIRED: ("2", "failed"),
}
"""``status`` and ``state`` of the record."""


def record(task: Task) -> dict[str, Any]:
    """Return the record of a task: what a callback has as its body, and the feed as ``data``."""
    prompt = str(task.input.get("prompt") or "")
    status, word = _STATUSES[task.state]
    covers = [each.url for each in task.results if each.url is not None and each.role == "cover"]
    updated = task.finished_at or task.updated_at
    return {
        "task_id": str(task.id),
        "status": status,
        "state": word,
        "prompt": prompt,
        "prompt_en": prompt,
        "video_url": first(outputs(task, "video") or outputs(task)) if task.state is State.SUCCEEDED else None,
        "poster": first(covers),
        "last_frame": None,
        "msg": reason_of(task) or "",
        "point": None if task.cost is None else str(task.cost),
        "refund": "1" if task.refunded else "0",
        "create_time": str(unix(task.created_at)),
        "update_time": str(unix(updated)),
    }


def message(task: Task, base: str) -> dict[str, Any]:
    """Return the body of a callback: the bare record."""
    del base
    return record(task)
