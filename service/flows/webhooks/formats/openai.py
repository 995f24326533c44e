"""A message about a task as OpenAI's webhooks have it: an event that names the object, which the client then retrieves."""

from collections.abc import Mapping
from typing import Any, Final

from service.domain.task import State, Task
from service.flows.webhooks.formats.ids import prefixed
from service.flows.webhooks.formats.shapes import unix

_WORDS: Final[Mapping[State, str]] = {
    State.SUCCEEDED: "completed",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.EXPIRED: "failed",
}


def message(task: Task, base: str) -> dict[str, Any]:
    """Return the body of a webhook: ``video.completed``, ``response.failed`` and the like."""
    del base
    kind, prefix = ("response", "resp_") if task.operation == "response" else ("video", "video_")
    word = _WORDS.get(task.state, "in_progress" if task.state is State.RUNNING else "queued")
    if (kind, word) == ("video", "cancelled"):
        word = "failed"  # OpenAI's videos have no such end
    return {
        "object": "event",
        "id": f"{prefixed('evt_', task.id)}{task.sequence:04}",
        "type": f"{kind}.{word}",
        "created_at": unix(task.finished_at or task.updated_at),
        "data": {"id": prefixed(prefix, task.id)},
    }
