"""All rows of a parametrised test in one item, where a run takes the whole suite.

pytest collects an item in each process of a run, sets it up, and sends three reports about it. For a row of a pure test that takes
several times as long as the row itself. A run of one file has an item for each row.
"""

import functools
import inspect
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.support.cases import case

_MIN_ROWS: Final = 3
_PARAM: Final = type(pytest.param())


class Row(NamedTuple):
    """A row of one ``parametrize``. Its text is its id."""

    arguments: Mapping[str, Any]
    label: Any
    """The id, a function that returns the id of a value, or None."""

    def __str__(self) -> str:
        """Return the id. It is for readers, so two rows may have the same."""
        if self.label is not None and not callable(self.label):
            return str(self.label)
        words = [(value, self.label and self.label(value)) for value in self.arguments.values()]
        return "-".join(str(value if word is None else word) for value, word in words)


def folded(collector: pytest.Module, name: str, function: object) -> pytest.Function | None:
    """Return one item that runs a function with every row, or None where the rows need items of their own."""
    rows = None if _has_autouse(collector.path) else rows_of(function)
    if rows is None or len(rows) < _MIN_ROWS:
        return None
    item: pytest.Function = pytest.Function.from_parent(collector, name=name, callobj=_all(function, rows))
    return item


def rows_of(function: object) -> list[tuple[Row, ...]] | None:
    """Return the rows of a plain function whose arguments are all theirs. Return None for any other function.

    A row has a part for each ``parametrize``. A mark of another kind, on the function or on a row, is for pytest to read.
    """
    marks: Sequence[pytest.Mark] = getattr(function, "pytestmark", ())
    if not marks or not inspect.isfunction(function) or inspect.iscoroutinefunction(function):
        return None
    if hasattr(function, "hypothesis"):
        return None  # its plugin has to see the function itself
    tables = [table for mark in marks if (table := _table(mark)) is not None]
    names = [name for table in tables for name in table[0].arguments]
    if len(tables) < len(marks) or sorted(names) != sorted(inspect.signature(function).parameters):
        return None
    return list(itertools.product(*tables))


def _table(mark: pytest.Mark) -> list[Row] | None:
    if mark.name != "parametrize" or len(mark.args) != 2 or mark.kwargs.keys() - {"ids"}:
        return None
    given, values = mark.args
    if not isinstance(values, Collection):
        return None  # it can be read only once
    names = [each.strip() for each in given.split(",")] if isinstance(given, str) else [*given]
    rows = list(_rows(names, values, mark.kwargs.get("ids"), single=isinstance(given, str) and len(names) == 1))
    return rows if rows and len(rows) == len(values) else None


def _rows(names: Sequence[str], values: Collection[Any], ids: Any, *, single: bool) -> Iterator[Row]:
    """Yield the rows. Those with marks of their own are missing."""
    labels = ids if isinstance(ids, Collection) else itertools.repeat(ids)
    for value, label in zip(values, labels, strict=False):
        if isinstance(value, _PARAM):
            if not value.marks:
                yield Row(dict(zip(names, value.values, strict=True)), label if value.id is None else value.id)
        else:
            yield Row(dict(zip(names, (value,) if single else value, strict=True)), label)


def _all(function: Any, rows: Sequence[tuple[Row, ...]]) -> Callable[[], None]:
    """Return a function without arguments that calls this one with each row."""

    @functools.wraps(function)
    def run() -> None:
        skipped: list[BaseException] = []
        for row in rows:
            arguments = {name: value for part in row for name, value in part.arguments.items()}
            try:
                with case(*row):
                    function(**arguments)
            except pytest.skip.Exception as reason:
                skipped.append(reason)
        if len(skipped) == len(rows):
            raise skipped[0]

    run.__signature__ = inspect.Signature()  # type: ignore[attr-defined]
    run.pytestmark = []  # type: ignore[attr-defined]
    return run


@functools.cache
def _has_autouse(path: Path) -> bool:
    """Return whether a file or its folder has fixtures that every row would need anew."""
    near = path.with_name("conftest.py")
    files = [path, *([near] if near.parent.name != "tests" and near.exists() else [])]
    return any("autouse=True" in each.read_text(encoding="utf-8") for each in files)
