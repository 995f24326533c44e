"""The list of tasks: views, filters in the address, search, pages by cursor, live rows, and acts on picked tasks."""

import dataclasses
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from starlette.responses import Response

from service.domain.attention import is_stuck, needs_somebody
from service.domain.task import OPEN, State, Submission, Task
from service.flows.context import Context
from service.flows.statistics import typical_seconds
from service.flows.submission.request import MAX_EXTERNAL_ID, MAX_LABELS
from service.providers.registry import FAMILIES
from service.store import api_keys, overview
from service.store import submissions as submission_store
from service.store import tasks as task_store
from service.store.tasks import Filter
from service.web.dashboard import counts, words
from service.web.dashboard.task_row import Row, row_of
from service.web.dashboard.visit import Visit

PAGE: Final = 50
"""Tasks of a page."""
MAX_NEWS: Final = 99
"""New tasks that are counted."""
SINCE: Final[Mapping[str, tuple[str, dt.timedelta | None]]] = {
    "": ("Any time", None),
    "1h": ("Last hour", dt.timedelta(hours=1)),
    "24h": ("Last 24 hours", dt.timedelta(days=1)),
    "7d": ("Last 7 days", dt.timedelta(days=7)),
    "30d": ("Last 30 days", dt.timedelta(days=30)),
}
VIEWS: Final[Mapping[str, str]] = {
    "": "All",
    "attention": "Needs attention",
    "open": "Open",
    "twice": "Paid twice?",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """The view and the filters that an address asks for."""

    view: str = ""
    states: tuple[State, ...] = ()
    family: str = ""
    upstream: str = ""
    client: str = ""
    since: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    before: UUID | None = None
    """The cursor: only tasks below this id."""

    def fields(self) -> list[tuple[str, str]]:
        """Return the parameters of the address, without the cursor."""
        given = [("view", self.view), *(("state", str(state)) for state in self.states)]
        given += [("family", self.family), ("upstream", self.upstream), ("client", self.client), ("since", self.since)]
        given += [("label", f"{name}={value}") for name, value in self.labels]
        return [(name, value) for name, value in given if value]

    def address(self, **changed: Any) -> str:
        """Return the query string with other values of some fields."""
        cursor = changed.pop("cursor", None)
        fields = dataclasses.replace(self, **changed).fields()
        return "?" + urlencode(fields + ([("before", str(cursor))] if cursor else []))

    def toggled(self, state: State) -> str:
        """Return the address that adds a state to the filter, or removes it."""
        states = tuple(each for each in State if (each in self.states) != (each is state))
        return self.address(states=states, view="" if self.view == "open" else self.view)

    def filters(self) -> Iterator[tuple[str, str]]:
        """Yield each filter in words, with the address that removes it."""
        for state in self.states:
            yield f"state: {state.replace('_', ' ')}", self.toggled(state)
        for name in ("family", "upstream", "client"):
            if getattr(self, name):
                yield f"{name}: {getattr(self, name)}", self.address(**{name: ""})
        if self.since:
            yield f"time: {SINCE[self.since][0].lower()}", self.address(since="")
        for name, value in self.labels:
            others = tuple(each for each in self.labels if each != (name, value))
            yield f"label: {name}={value}", self.address(labels=others)

    def as_filter(self, client: str | None, *, now: dt.datetime) -> Filter:
        """Return the filter for the store.

        :param client: the only client whose tasks are visible; None: every client's
        """
        period = SINCE[self.since][1]
        return Filter(
            client=client if client is not None else (self.client or None),
            states=self.states or (tuple(sorted(OPEN)) if self.view == "open" else ()),
            family=self.family or None,
            upstream=self.upstream or None,
            labels=dict(self.labels),
            after=None if period is None else UUID(int=int((now - period).timestamp() * 1000) << 80),
            before=self.before,
        )

    def fits(self, task: Task, *, now: dt.datetime) -> bool:
        """Return whether a task fits the filters, for views that do not come from a filter of the store."""
        wanted = self.as_filter(None, now=now)
        return (
            (not wanted.states or task.state in wanted.states)
            and wanted.client in {None, task.client}
            and wanted.family in {None, task.family}
            and wanted.upstream in {None, task.upstream}
            and all(task.labels.get(name) == value for name, value in self.labels)
            and (wanted.after is None or task.id > wanted.after)
        )


def query_of(parameters: Sequence[tuple[str, str]]) -> Query:
    """Return what an address asks for. Values that mean nothing are left out."""
    given: dict[str, list[str]] = {}
    for name, value in parameters:
        given.setdefault(name, []).append(value.replace("\x00", "").strip())

    def one(name: str) -> str:
        return given.get(name, [""])[0][:200]

    labels = [label.partition("=") for label in given.get("label", []) if "=" in label]
    return Query(
        view=one("view") if one("view") in VIEWS else "",
        states=tuple(state for state in State if state in given.get("state", [])),
        family=one("family"),
        upstream=one("upstream"),
        client=one("client"),
        since=one("since") if one("since") in SINCE else "",
        labels=tuple((name, value) for name, _, value in labels[:MAX_LABELS]),
        before=as_id(one("before")),
    )


def as_id(text: str) -> UUID | None:
    """Return an id; None where a text is none."""
    try:
        return UUID(text)
    except ValueError:
        return None


def stuck(context: Context, task: Task) -> bool:
    """Return whether a task takes much longer than tasks of its kind."""
    return is_stuck(task, typical_seconds(context, task), now=context.now())


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A page of tasks."""

    rows: tuple[Row, ...]
    older: UUID | None
    """The cursor of the next page."""


async def read_list(visit: Visit, query: Query) -> Listed:
    """Read a page of tasks."""
    context, now = visit.context, visit.now
    async with context.database.reading() as connection:
        if query.view in {"attention", "twice"}:
            fitting = [each for each in await _of_view(visit, query.view) if query.fits(each, now=now)]
            ordered = sorted(fitting, key=lambda task: task.id, reverse=True)
            found = [task for task in ordered if query.before is None or task.id < query.before][: PAGE + 1]
        else:
            found = await task_store.page(connection, query.as_filter(visit.sees_only, now=now), most=PAGE + 1)
        shown = found[:PAGE]
        bought = await submission_store.of_tasks(connection, [task.id for task in shown])
    return Listed(rows=rows_of(context, shown, bought), older=shown[-1].id if len(found) > PAGE else None)


def rows_of(context: Context, tasks: Sequence[Task], bought: Mapping[UUID, Sequence[Submission]]) -> tuple[Row, ...]:
    """Return the rows of some tasks."""
    now = context.now()
    return tuple(row_of(task, bought[task.id], stuck=stuck(context, task), now=now) for task in tasks)


async def _of_view(visit: Visit, view: str) -> list[Task]:
    """Read the tasks of a view that no filter describes."""
    context = visit.context
    async with context.database.reading() as connection:
        if view == "twice":
            return await overview.with_duplicate_jobs(connection, visit.sees_only, most=overview.MAX_NEEDING)
        found = await overview.may_need_somebody(connection, visit.sees_only, now=visit.now)
    return [task for task in found if needs_somebody(task, typical_seconds(context, task), now=visit.now)]


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
    states = counted.states
    if wanted.family or wanted.upstream or wanted.labels or wanted.after or wanted.client != visit.sees_only:
        async with visit.context.database.reading() as connection:
            states = await overview.count_by_state(connection, dataclasses.replace(wanted, states=(), before=None))
    limit, attention = overview.MAX_COUNTED, counted.numbers["tasks"]
    views = {
        "": words.count(sum(counted.states.values()), limit=limit),
        "attention": words.count(attention),
        "open": words.count(sum(counted.states[state] for state in OPEN), limit=limit),
        "twice": words.count(counted.twice, limit=counts.MAX_COUNTED),
    }
    return Tally(
        states={state: words.count(number, limit=limit) for state, number in states.items()},
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
        "tally": tally,
        "views": VIEWS,
        "states": tuple(State),
        "families": sorted((each.title, name) for name, each in FAMILIES.items()),
        "upstreams": sorted(visit.context.upstreams),
        "clients": await known_clients(visit) if visit.is_operator else (),
        "periods": {name: title for name, (title, _) in SINCE.items()},
        "filters": tuple(query.filters()),
        "label": next((f"{name}={value}" for name, value in query.labels), ""),
        "newest": listed.rows[0].id if listed.rows else None,
    }


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
        if newest is not None and query.view not in {"attention", "twice"}:
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
