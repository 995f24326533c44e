"""Templates of recorded messages: JSON with slots such as `${id}` or `${created_at seconds|0}`, filled from a job."""

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

Resolve = Callable[[str, str], Any]
"""Return the value of a slot by its name and detail; None when there is no value yet."""

FILTERS: Final[dict[str, Callable[[Any], Any]]] = {
    "seconds": int,
    "milliseconds": lambda moment: int(moment * 1000),
    "iso": lambda moment: datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    "percent": lambda fraction: int(fraction * 100),
    "text": str,
}

_SLOT: Final = re.compile(r"\$\{(\w+)(?::([^}| ]+))?((?: \w+)*)(?:\|([^}]*))?\}")


def fill(template: Any, resolve: Resolve) -> Any:
    """Return a copy of a template with every slot replaced by its value.

    A text that is one slot becomes the value itself, of any type; a slot within a longer text becomes text. A key
    that is one slot represents several: its value maps keys to counts, and `${count}` is the count beside each.
    """
    if isinstance(template, str):
        return _fill_text(template, resolve)
    if isinstance(template, Mapping):
        return _fill_object(template, resolve)
    if isinstance(template, list):
        return [fill(value, resolve) for value in template]
    return template


def slots(template: Any) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield the name, the detail and the filters of each slot of a template.

    :raises ValueError: when the value of a slot that may be absent is not JSON
    """
    if isinstance(template, str):
        for slot in _SLOT.finditer(template):
            name, detail, filters, otherwise = slot.groups()
            _read_default(slot[0], otherwise)
            yield name, detail or "", tuple(filters.split())
    elif isinstance(template, Mapping):
        for name, value in template.items():
            yield from slots(name)
            yield from slots(value)
    elif isinstance(template, list):
        for value in template:
            yield from slots(value)


def _fill_object(template: Mapping[str, Any], resolve: Resolve) -> dict[str, Any]:
    filled: dict[str, Any] = {}
    for name, value in template.items():
        slot = _SLOT.fullmatch(name)
        if slot is None:
            filled[name] = fill(value, resolve)
            continue
        for each, count in _value(slot, resolve).items():
            filled[each] = fill(value, functools.partial(_with_count, resolve, count))
    return filled


def _with_count(resolve: Resolve, count: int, name: str, detail: str) -> Any:
    return count if name == "count" else resolve(name, detail)


def _fill_text(text: str, resolve: Resolve) -> Any:
    whole = _SLOT.fullmatch(text)
    if whole is not None:
        return _value(whole, resolve)
    return _SLOT.sub(lambda slot: str(_value(slot, resolve)), text)


def _read_default(slot: str, otherwise: str | None) -> Any:
    """Return the value that a slot has while there is none."""
    try:
        return None if otherwise is None else json.loads(otherwise)
    except json.JSONDecodeError:
        raise ValueError(f"the value after | in {slot} is not JSON") from None


def _value(slot: re.Match[str], resolve: Resolve) -> Any:
    name, detail, filters, otherwise = slot.groups()
    value = resolve(name, detail or "")
    if value is None:
        return _read_default(slot[0], otherwise)
    for each in filters.split():
        value = FILTERS[each](value)
    return value
