"""Which tasks need somebody: those that wait for input, those that may be paid for, and those that take too long. Pure."""

from datetime import datetime, timedelta
from typing import Final

from service.domain.task import State, Task

STUCK_FACTOR: Final = 4
"""A task is stuck after so many times its usual duration …"""
STUCK_AFTER: Final = timedelta(minutes=10)
"""… and not before this time has passed."""
_AT_WORK: Final = frozenset({State.SUBMITTED, State.RUNNING})
NEEDING: Final = frozenset({State.UNCONFIRMED, State.AWAITING_INPUT})
"""States in which a task always needs somebody."""
MAY_BE_STUCK: Final = _AT_WORK | {State.SUBMITTING}


def is_stuck(task: Task, usual: float, *, now: datetime) -> bool:
    """Return whether a task takes much longer than tasks of its kind do.

    :param usual: seconds that tasks of its kind take
    """
    if task.state not in MAY_BE_STUCK:
        return False
    since = now - (task.submitted_at or task.updated_at)
    return since > max(timedelta(seconds=STUCK_FACTOR * usual), STUCK_AFTER)


def needs_somebody(task: Task, usual: float, *, now: datetime) -> bool:
    """Return whether a task needs somebody.

    :param usual: seconds that tasks of its kind take
    """
    return task.state in NEEDING or is_stuck(task, usual, now=now)
