"""Recognise a request that a client repeats after a lost answer, although it sends no idempotency key.

No client of the doors has idempotency keys. Some mark a repeat by a number; others repeat without any mark.
"""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Final
from uuid import UUID

MAX_BACK_OFF: Final = 4
"""How many times as long as the repeats have taken so far the next pause of a client may be.

Clients double their pauses, and make each up to a quarter shorter or longer: 2.5 s may follow 0.75 s.
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """For how long a request counts as the same one."""

    marked: dt.timedelta
    """Since the last equal request, where the client marks a repeat."""
    unmarked: dt.timedelta
    """Since the last equal request, where it does not."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """A task that an equal request has made."""

    task_id: UUID
    generation: int
    """How many tasks equal requests had made before."""
    created_at: dt.datetime
    seen_at: dt.datetime
    """When an equal request last asked for it."""
    attempt: int = 0
    """The highest mark of a repeat that got this task."""
    cut_off: bool = False
    """Whether the connection of its request broke before the answer was written."""
    is_open: bool = False
    """Whether the task has not ended: an answer that waits for its end may still be outstanding."""
    is_known: bool = False
    """Whether the client has used its id: then it has received the answer."""
    at_once: bool = False
    """Whether the request came while the one of this task was being stored: then it is another one."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """How the sender of a request repeats."""

    attempt: int = 0
    """The mark: how often the client has sent this request before."""
    repeats_unmarked: bool = False
    """Whether the client is known to repeat without a mark."""


def choose(sender: Sender, earlier: Sequence[Earlier], windows: Windows, *, now: dt.datetime) -> Earlier | None:
    """Return the task that a request repeats; None where it is a new request.

    :param earlier: the tasks of equal requests, newest first
    """
    unknown = [each for each in earlier if not each.is_known]
    if sender.attempt:
        return _marked(sender, unknown, windows, now)
    return next((each for each in unknown if _is_unmarked_repeat(sender, each, windows, now)), None)


def _marked(sender: Sender, earlier: Sequence[Earlier], windows: Windows, now: dt.datetime) -> Earlier | None:
    """Return the task of a marked repeat: each repeat of equal requests gets one of its own, if there are as many."""
    if not windows.marked:
        return None
    fitting = [
        each
        for each in earlier
        if each.attempt < sender.attempt and (each.is_open or now - each.seen_at <= windows.marked)
    ]
    return max(fitting, key=lambda each: (each.cut_off, each.attempt, each.generation), default=None)


def _is_unmarked_repeat(sender: Sender, each: Earlier, windows: Windows, now: dt.datetime) -> bool:
    if not windows.unmarked:
        return False
    elapsed = max(now - each.seen_at, dt.timedelta())
    if each.cut_off and elapsed <= windows.unmarked:
        return True
    so_far = max(each.seen_at - each.created_at, dt.timedelta())
    is_recent = elapsed <= max(windows.unmarked, MAX_BACK_OFF * so_far) and elapsed <= windows.marked
    return sender.repeats_unmarked and not each.at_once and is_recent
