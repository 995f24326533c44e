"""Shorten the input of a task that carries media: lists, polls and locks need the rest of it only."""

from collections.abc import Mapping
from typing import Any, Final

MAX_INPUT: Final = 20_000
"""Characters of texts in an input and its options that are kept with the task."""
MAX_TEXT: Final = 8_000
"""Characters of a text that is not shortened: prompts and lyrics are below this."""
SHOWN: Final = 60
"""Characters that remain of a text that is shortened."""


def is_large(*documents: Mapping[str, Any]) -> bool:
    """Return whether an input and its options are too large to be kept with the task."""
    room = MAX_INPUT
    waiting: list[Any] = list(documents)
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            room -= len(value)
        elif isinstance(value, Mapping):
            waiting += value.values()
            waiting += value.keys()
        elif isinstance(value, list | tuple):
            waiting += value
        room -= 2
        if room < 0:
            return True
    return False


def size_of(*documents: Mapping[str, Any]) -> int:
    """Return the characters of all texts in an input and its options."""
    size, waiting = 0, list[Any](documents)
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            size += len(value)
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
    return size


def shortened(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return an input or its options with short texts only; of one with too many values, only the short texts in it.

    The result is never large itself.
    """
    brief: dict[str, Any] = _shortened(document)
    if not is_large(brief):
        return brief
    plain = {
        name: value for name, value in brief.items() if not isinstance(value, dict | list) and len(str(value)) < SHOWN
    }
    return plain if not is_large(plain) else {}


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else f"{value[:SHOWN]}…"
    if isinstance(value, Mapping):
        return {name: _shortened(item) for name, item in value.items() if len(name) <= MAX_TEXT}
    if isinstance(value, list | tuple):
        return [_shortened(item) for item in value]
    return value
