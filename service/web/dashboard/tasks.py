"""The list of tasks: views, filters in the address, search, pages by cursor, live rows, and acts on picked tasks."""

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from starlette.responses import Response

from service.domain.attention import is_stuck
from service.domain.task import OPEN, State, Submission, Task
from service.flows.context import Context
from service.flows.statistics import typical_seconds
from service.flows.submission.request import MAX_EXTERNAL_ID
from service.providers.registry import FAMILIES
from service.store import api_keys, overview
from service.store import submissions as submission_store
from service.store.search import count_by_state
from service.web.dashboard import counts, words
from service.web.dashboard.bulk import ACTS
from service.web.dashboard.task_query import SINCE, SPECIAL, VIEWS, Query, as_id, query_of, read_tasks
from service.web.dashboard.task_row import Row, row_of
from service.web.dashboard.views import saved_views
from service.web.dashboard.visit import Visit

PAGE: Final = 50
"""Tasks of a page."""
MAX_NEWS: Final = 99
"""New tasks that are counted."""


def stuck(context: Context, task: Task) -> bool:
    """Return whether a task takes much longer than tasks of its kind."""
    return is_stuck(task, typical_seconds(context, task), now=context.now())


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A page of tasks."""

    rows: tuple[Row, ...]
    older: UUID | None
    """The cursor of the next page."""
    searched_to: UUID | None = None
    """The id below which no task was looked at, where the page is not full for that reason."""


async def read_list(visit: Visit, query: Query) -> Listed:
    """Read a page of tasks."""
    context = visit.context
    found = await read_tasks(visit, query, before=query.before, most=PAGE + 1)
    shown = found.tasks[:PAGE]
    async with context.database.reading() as connection:
        bought = await submission_store.of_tasks(connection, [task.id for task in shown])
    older = shown[-1].id if len(found.tasks) > PAGE else found.searched_to
    return Listed(rows=rows_of(context, shown, bought), older=older, searched_to=found.searched_to)


def rows_of(context: Context, tasks: Sequence[Task], bought: Mapping[UUID, Sequence[Submission]]) -> tuple[Row, ...]:
    """Return the rows of some tasks."""
    now = context.now()
    return tuple(row_of(task, bought[task.id], stuck=stuck(context, task), now=now) for task in tasks)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The numbers above the list."""

    states: Mapping[State, str]
    views: Mapping[str, str]
    attention: int


async def read_tally(visit: Visit, query: Query) -> Tally:
    """Count the tasks of each state and view. The states are counted with the other filters."""
    wanted = query.as_filter(visit.sees_only, now=visit.now)
    counted = await counts.refresh(visit)
    states, complete = counted.states, True
    if wanted.family or wanted.upstream or wanted.labels or wanted.after or wanted.client != visit.sees_only:
        async with visit.context.database.reading() as connection:
            found = await count_by_state(connection, dataclasses.replace(wanted, before=None))
        states, complete = found.states, found.complete
    limit, attention = overview.MAX_COUNTED, counted.numbers["tasks"]
    views = {
        "": words.count(sum(counted.states.values()), limit=limit),
        "attention": words.count(attention),
        "open": words.count(sum(counted.states[state] for state in OPEN), limit=limit),
        "twice": words.count(counted.twice, limit=counts.MAX_COUNTED),
    }
    return Tally(
        states={state: words.at_least(number, complete=complete, limit=limit) for state, number in states.items()},
        views=views,
        attention=attention,
    )


async def list_page(visit: Visit) -> Response:
    """Return the page with the list of tasks, or lead to the task that was searched for."""
    query = query_of(visit.http.query_params.multi_items())
    searched = visit.query("q").strip()
    if searched:
        return await _search(visit, searched)
    listed = await read_list(visit, query)
    tally = await read_tally(visit, query)
    if not listed.rows and not query.fields() and query.before is None:
        return visit.redirect("/start")
    return visit.page("tasks.html", title="Tasks", **await _values(visit, query, listed, tally))


async def _values(visit: Visit, query: Query, listed: Listed, tally: Tally) -> dict[str, Any]:
    return {
        "query": query,
        "rows": listed.rows,
        "older": listed.older,
        "searched_to": None if listed.searched_to is None else words.clock(time_of(listed.searched_to), now=visit.now),
        "tally": tally,
        "views": VIEWS,
        "states": tuple(State),
        "families": sorted((each.title, name) for name, each in FAMILIES.items()),
        "upstreams": sorted(visit.context.upstreams),
        "clients": await known_clients(visit) if visit.is_operator else (),
        "periods": {name: title for name, (title, _) in SINCE.items()},
        "filters": tuple(query.filters()),
        "label": next((f"{name}={value}" for name, value in query.labels), ""),
        "acts": tuple(ACTS.values()),
        "saved": saved_views(visit.http),
        "newest": listed.rows[0].id if listed.rows else None,
    }


def time_of(task_id: UUID) -> dt.datetime:
    """Return the time in an id of version 7."""
    return dt.datetime.fromtimestamp((task_id.int >> 80) / 1000, dt.UTC)


async def known_clients(visit: Visit) -> list[str]:
    """Return the clients that have a key."""
    async with visit.context.database.reading() as connection:
        stored = await api_keys.every(connection)
    return sorted({*visit.context.settings.api_keys, *(key.client for key in stored)})


async def _search(visit: Visit, searched: str) -> Response:
    """Lead to the task with an id or external id, or to the tasks with a label."""
    context = visit.context
    own_id = as_id(searched)
    async with context.database.reading() as connection:
        found = [] if own_id is None else await overview.by_ids(connection, [own_id], visit.sees_only)
        if not found and len(searched) <= MAX_EXTERNAL_ID:
            found = await overview.by_external_id(connection, searched, list(context.upstreams), visit.sees_only)
        bought = await submission_store.of_tasks(connection, [task.id for task in found])
    if len(found) == 1:
        return visit.redirect(f"/tasks/{found[0].id}")
    if not found and "=" in searched:
        return visit.redirect("/tasks", label=searched)
    query = Query()
    listed = Listed(rows=rows_of(context, found, bought), older=None)
    values = await _values(visit, query, listed, await read_tally(visit, query))
    return visit.page("tasks.html", title="Search", q=searched, searched=searched, **values)


async def live_rows(visit: Visit) -> Response:
    """Return the shown rows, the counts and the number of new tasks, for the script of the page."""
    query = query_of(visit.http.query_params.multi_items())
    shown = [task_id for text in visit.query("shown").split(",")[:PAGE] if (task_id := as_id(text)) is not None]
    newest = as_id(visit.query("newest"))
    context = visit.context
    async with context.database.reading() as connection:
        found = await overview.by_ids(connection, shown, visit.sees_only)
        bought = await submission_store.of_tasks(connection, [task.id for task in found])
        wanted = dataclasses.replace(query.as_filter(visit.sees_only, now=visit.now), before=None)
        newer = 0
        if newest is not None and query.view not in SPECIAL:
            newer = await overview.count_newer(connection, dataclasses.replace(wanted, after=newest), most=MAX_NEWS)
    return visit.page(
        "tasks_live.html",
        query=query,
        rows=rows_of(context, found, bought),
        newer=words.count(newer, limit=MAX_NEWS) if newer else "",
        tally=await read_tally(visit, query),
        views=VIEWS,
        states=tuple(State),
    )
