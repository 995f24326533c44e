"""Subqueries that are run for each row, by an index.

PostgreSQL may turn EXISTS around: it reads every row of the other table that fits, and compares each with each. It decides so by
its statistics, which know nothing of a backlog that has just come. A subquery with a limit cannot be turned around.
"""

from typing import Any

from sqlalchemy import ColumnElement, Exists, Select, case, false, literal_column, select, true
from sqlalchemy.sql import visitors


def any_row(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the condition that a row fits; see the module."""
    return _has_row(select().where(*conditions))


def for_each_row(condition: Any) -> ColumnElement[bool]:
    """Return an equal condition whose subqueries are run for each row, instead of EXISTS."""

    def replace(element: Any, **_: Any) -> Any:
        return _has_row(element.element.element) if isinstance(element, Exists) else None

    changed: ColumnElement[bool] = visitors.replacement_traverse(condition, {}, replace)
    return changed


def is_set(column: Any) -> ColumnElement[bool]:
    """Return the condition that a column is not null, for a row that another index finds.

    A partial index of what is not null is not used: a planner that takes it for empty would read all of it for each row.
    """
    return case((column.is_(None), false()), else_=true())


def _has_row(found: Select[Any]) -> ColumnElement[bool]:
    return found.with_only_columns(literal_column("1")).limit(1).scalar_subquery().is_not(None)
