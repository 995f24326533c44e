"""What clients are told of, and by whose wish. Pure."""

from collections.abc import Collection

from service.domain.task import ENDED, State

PROGRESS = "task.progress"
LATE = "task.late_result"
TEST = "endpoint.test"
"""What an endpoint is sent when its client asks for a message to try it with; it is of no task."""

BEGINNINGS = frozenset({State.SUBMITTED, State.RUNNING, State.AWAITING_INPUT})
"""States before the end whose beginning is a client's business."""
ENDS = frozenset({*(f"task.{state}" for state in ENDED), LATE})
"""What a ``callback_url`` is told unless its task names something else."""
TYPES = (*(f"task.{state}" for state in State if state in BEGINNINGS | ENDED), LATE, PROGRESS)
"""Every message about a task."""


def told_by_callback(wanted: Collection[str], message: str) -> bool:
    """Whether a task's ``callback_url`` is told of a message.

    :param wanted: the task's ``callback_events``; empty: its end, and what comes late
    """
    return message in (wanted or ENDS)


def told_to_endpoint(wanted: Collection[str], message: str) -> bool:
    """Whether an endpoint is told of a message.

    :param wanted: the endpoint's ``events``; empty: everything but progress, which has to be asked for by name
    """
    return message in wanted if wanted else message != PROGRESS
