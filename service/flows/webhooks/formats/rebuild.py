"""Rebuild the output of a model from the places of its results, such as ``images/0``."""

from collections.abc import Callable, Iterable
from typing import Any

import orjson

from service.domain.task import Result


def rebuilt(results: Iterable[Result], value_of: Callable[[Result], Any]) -> Any:
    """Return the output in its own form: a single value, a list or an object; None where there is none.

    :param value_of: returns the value of a result, such as its URL
    """
    found = list(results)
    if not found:
        return None
    if all(each.item is None for each in found):
        values = [_json_of(each) if each.kind == "json" else value_of(each) for each in found]
        return values[0] if len(values) == 1 else values
    tree: dict[str, Any] = {}
    for number, each in enumerate(found):
        *path, last = (each.item or str(number)).split("/")
        holder = tree
        for part in path:
            inner = holder.setdefault(part, {})
            holder = inner if isinstance(inner, dict) else holder
        holder[last] = value_of(each)
    return _with_lists(tree)


def _json_of(result: Result) -> Any:
    try:
        return orjson.loads(result.text or "null")
    except orjson.JSONDecodeError:
        return result.text


def _with_lists(tree: Any) -> Any:
    """Return a tree whose objects with only numbers as names are lists."""
    if not isinstance(tree, dict):
        return tree
    if tree and all(name.isascii() and name.isdecimal() for name in tree):
        return [_with_lists(tree[name]) for name in sorted(tree, key=int)]
    return {name: _with_lists(value) for name, value in tree.items()}
