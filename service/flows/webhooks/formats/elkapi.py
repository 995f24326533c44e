"""A task as ElkAPI shows it: in answers, and in webhooks, which it sends at every change."""

from typing import Any

from service.domain.task import State, Task
from service.flows.webhooks.formats.ids import prefixed
from service.flows.webhooks.formats.shapes import WAITING, outputs, reason_of, texts, unix


def task_document(task: Task) -> dict[str, Any]:
    """Return a task as ElkAPI shows it."""
    document: dict[str, Any] = {
        "id": prefixed("task_", task.id),
        "status": "queued" if task.state in WAITING else "in_progress",
        "created_at": unix(task.created_at),
    }
    if task.state.ended:
        document["status"] = "completed" if task.state is State.SUCCEEDED else "failed"
        document["completed_at"] = unix(task.finished_at)
    if task.state is State.SUCCEEDED:
        document["outputs"] = outputs(task) or texts(task)
    elif task.state.ended:
        document["error"] = reason_of(task)
    return document


def message(task: Task, base: str) -> dict[str, Any]:
    """Return the body of a webhook: the task."""
    del base
    return task_document(task)
