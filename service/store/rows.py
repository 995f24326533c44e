"""Rows of values: the fields of a dataclass by name."""

import dataclasses
from typing import Any


def row_of_value(value: Any) -> dict[str, Any]:
    """Return the fields of a value by name, as they are. ``dataclasses.asdict`` copies each of them deeply."""
    return {name: getattr(value, name) for name in _names(type(value))}


_NAMES: dict[type, tuple[str, ...]] = {}


def _names(kind: type) -> tuple[str, ...]:
    """Return the names of a dataclass's fields. They are read once for each class."""
    if kind not in _NAMES:
        _NAMES[kind] = tuple(field.name for field in dataclasses.fields(kind))
    return _NAMES[kind]
