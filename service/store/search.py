"""SQL for lists and counts under every combination of filters, in bounded time.

No set of indexes serves each combination of client, family, upstream, state, label and time. So a list is read by the one
index whose rows are fewest, and looks at a bounded number of them: its *window*. Where a window ends before the page is full,
the page says so, and its cursor goes on from there. The indexes of lists contain the other columns, so that no row is read
for a task that does not fit.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.task import TO_SUBMIT, State, Task
from service.store import overview
from service.store.tables import task_labels, tasks
from service.store.tasks import Filter, having, in_range, of_state, page, task_of

WINDOW: Final = 20_000
"""Entries of an index that a page or a count looks at."""
WINDOW_OF_LABEL: Final = 2_000
"""The same where each entry needs a row of another table."""
FEW: Final = 1_000
"""Entries up to which an index is known to have the fewest, and is read to its end."""


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A page of tasks, newest first."""

    tasks: list[Task]
    searched_to: UUID | None = None
    """The last id of the window, where tasks below it were not looked at; None where the page is complete."""


@dataclasses.dataclass(frozen=True, slots=True)
class Counted:
    """Numbers of tasks by state."""

    states: dict[State, int]
    complete: bool
    """Whether every task was looked at. Otherwise there may be more of each state."""


async def search(connection: AsyncConnection, wanted: Filter, *, most: int) -> Found:
    """Read the newest tasks that fit a filter."""
    if _served(wanted) or await _is_rare(connection, wanted):
        return Found(await page(connection, wanted, most=most))
    lead = await _lead_of(connection, wanted)
    for size in (FEW, _window(wanted)):  # most pages are full before the first one ends
        window = lead.limit(size).subquery()
        fitting = _fitting(select(window.c.id), window.c, wanted).order_by(window.c.id.desc()).limit(most)
        ids = list((await connection.scalars(fitting)).all())
        end = None if len(ids) == most else await _end_of(connection, lead, size)
        if end is None:
            break
    rows = await connection.execute(select(tasks).where(tasks.c.id.in_(ids)).order_by(tasks.c.id.desc()))
    return Found([task_of(row) for row in rows], end)


async def count_by_state(connection: AsyncConnection, wanted: Filter) -> Counted:
    """Count the tasks in the window of a filter by state, whatever states it names."""
    wanted = dataclasses.replace(wanted, states=())
    if not wanted.labels and wanted.family is None and wanted.upstream is None:
        return Counted(await overview.count_by_state(connection, wanted), complete=True)
    if await _is_rare(connection, wanted):
        return Counted(await overview.count_by_state(connection, wanted), complete=True)
    lead = await _lead_of(connection, wanted)
    window = lead.limit(_window(wanted)).subquery()
    statement = _fitting(select(window.c.state, func.count()), window.c, wanted).group_by(window.c.state)
    states = dict.fromkeys(State, 0)
    states |= {State(row[0]): row[1] for row in await connection.execute(statement)}
    return Counted(states, complete=await _end_of(connection, lead, _window(wanted)) is None)


def _window(wanted: Filter) -> int:
    return WINDOW_OF_LABEL if wanted.labels else WINDOW


async def _end_of(connection: AsyncConnection, lead: Select[Any], size: int) -> UUID | None:
    """Return the last id of a window that has more entries behind it."""
    last = lead.with_only_columns(lead.selected_columns.id).offset(size - 1).limit(2)
    ids = list((await connection.scalars(last)).all())
    return ids[0] if len(ids) == 2 else None  # noqa: PLR2004 - the last entry, and one behind it


def _served(wanted: Filter) -> bool:
    """Return whether an index has exactly the tasks of a filter, in order."""
    given = {name for name in ("client", "family", "upstream", "states", "labels") if getattr(wanted, name)}
    if "labels" in given:
        return False
    return len(given) <= 1 or ("client" in given and "upstream" not in given)


async def _is_rare(connection: AsyncConnection, wanted: Filter) -> bool:
    """Return whether so few tasks have one of the labels that each of them can be looked at."""
    if not wanted.labels:
        return False
    label = task_labels.c
    each = [
        select(label.task_id).where(label.name == name, label.value == value) for name, value in wanted.labels.items()
    ]
    if wanted.client is not None:
        each = [statement.where(label.client == wanted.client) for statement in each]
    return min(await _numbers(connection, each, WINDOW_OF_LABEL)) < WINDOW_OF_LABEL


async def _numbers(connection: AsyncConnection, statements: Sequence[Select[Any]], most: int) -> Sequence[int]:
    """Count the rows of some statements, each up to a number."""
    counts = [select(func.count()).select_from(each.limit(most).subquery()).scalar_subquery() for each in statements]
    return tuple((await connection.execute(select(*counts))).one())


async def _lead_of(connection: AsyncConnection, wanted: Filter) -> Select[Any]:
    """Return the entries of the index with the fewest tasks, among those that a filter can be read by.

    No planner knows it: how often each value occurs is not in the statistics of SQLite.
    """
    leads = list(_leads(wanted))
    numbers = await _numbers(connection, leads, FEW) if len(leads) > 1 else [0]
    return leads[numbers.index(min(numbers))]


def _leads(wanted: Filter) -> Iterator[Select[Any]]:
    """Yield the indexes that a filter can be read by. Of equals, the first one is taken."""
    if wanted.labels and wanted.client is not None:
        name, value = min(wanted.labels.items())
        label = task_labels.c
        of_label = select(*_COLUMNS).join(task_labels, label.task_id == tasks.c.id)
        of_label = of_label.where(label.name == name, label.value == value, label.client == wanted.client)
        yield in_range(of_label, label.task_id, wanted).order_by(label.task_id.desc())
    if len(wanted.states) == 1:
        to_submit, statement = wanted.states[0] in TO_SUBMIT, of_state(select(*_COLUMNS), wanted.states[0])
        # A sort of the few that are to be submitted, instead of a scan of all tasks by id.
        order: Any = func.coalesce(tasks.c.id, tasks.c.id) if to_submit else tasks.c.id
        yield in_range(statement, order, wanted).order_by(order.desc())
    for column, value in _equal(tasks.c, wanted):
        yield in_range(select(*_COLUMNS).where(column == value), tasks.c.id, wanted).order_by(tasks.c.id.desc())
    if wanted.labels and not _equal(tasks.c, wanted):
        yield in_range(select(*_COLUMNS), tasks.c.id, wanted).order_by(tasks.c.id.desc())


_COLUMNS: Final = tuple(tasks.c[name] for name in ("id", "state", "family", "upstream", "client"))


def _equal(columns: Any, wanted: Filter) -> list[tuple[Any, str]]:
    given = ((columns.upstream, wanted.upstream), (columns.family, wanted.family), (columns.client, wanted.client))
    return [(column, value) for column, value in given if value is not None]


def _fitting(statement: Select[Any], columns: Any, wanted: Filter) -> Select[Any]:
    """Return a statement on a window with the conditions of a filter."""
    statement = statement.where(*(column == value for column, value in _equal(columns, wanted)))
    if wanted.states:
        statement = statement.where(columns.state.in_([str(state) for state in wanted.states]))
    return having(statement, columns.client, columns.id, wanted.labels)
