"""Events: the lines of a task's history, their types, and the client messages that go with them."""

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from service.domain.kept import without_copies
from service.domain.task import ENDED, Result, Source, Task
from service.domain.webhook_events import BEGINNINGS, ERASED, LATE, PROGRESS

_SHOWN = (
    "state",
    "external_id",
    "progress",
    "results",
    "failure",
    "next_actions",
    "decided_by",
    "cancel_requested_at",
    "answered_at",
    "erased_at",
)
"""Fields of a task whose change is an event."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a task's history."""

    task_id: UUID
    client: str
    sequence: int
    type: str
    message: str | None = None
    """Type of the client message that goes with it, such as ``task.succeeded``; None where only operators need it."""
    source: Source
    at: datetime
    data: Mapping[str, Any]
    """The changed fields of the task; or what was tried and why it did not work."""


def rfc3339(at: datetime | None) -> str | None:
    """Return a time as RFC 3339, UTC, to the millisecond."""
    return None if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def is_event(before: Task, after: Task) -> bool:
    """Return whether the difference between two values of a task is an event. That of a copy alone is none."""
    return any(
        getattr(before, name) != getattr(after, name)
        and (name != "results" or without_copies(before.results) != without_copies(after.results))
        for name in _SHOWN
    )


def changed_fields(before: Task, after: Task) -> dict[str, Any]:
    """Return the changed fields of a task as JSON."""
    changed = {name: getattr(after, name) for name in _SHOWN if getattr(before, name) != getattr(after, name)}
    return {name: _as_json(value) for name, value in changed.items()}


def _as_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [each.as_json() for each in value]
    if isinstance(value, datetime):
        return rfc3339(value)
    return value.as_json() if hasattr(value, "as_json") else value


def event_type(before: Task, after: Task) -> str:
    """Return the type of the event for a change of a task."""
    if before.state is not after.state:
        late = before.state.ended and after.state.ended
        return "late_result" if late else str(after.state)
    if before.decided_by != after.decided_by:
        return "confirmed" if after.decided_by == "provider" else "job_found"
    return "progress" if before.progress != after.progress else "details"


def message_type(before: Task, after: Task) -> str | None:
    """Return the type of the client message for a change of a task; None where clients are sent none."""
    if after.erased_at is not None:
        return ERASED if before.erased_at is None else None
    if before.state is not after.state:
        if before.state.ended and after.state.ended:
            return LATE
        return f"task.{after.state}" if after.state in BEGINNINGS | ENDED else None
    if after.state.ended:
        return LATE if _outputs(before) != _outputs(after) else None
    return PROGRESS if (before.progress, before.results) != (after.progress, after.results) else None


def _outputs(task: Task) -> list[Result]:
    return [result for result in without_copies(task.results) if result.role == "result"]
