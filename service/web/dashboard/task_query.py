"""The view and the filters of a list, as its address names them, and the tasks that fit."""

import dataclasses
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from service.domain.attention import needs_somebody
from service.domain.task import OPEN, State, Task
from service.flows.statistics import typical_seconds
from service.flows.submission.request import MAX_LABELS
from service.store import overview
from service.store.search import Found, count_by_state, search
from service.store.tasks import Filter
from service.web.dashboard.visit import Visit

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
SPECIAL: Final = frozenset({"attention", "twice"})
"""Views that no filter of the store describes."""


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


async def read_tasks(visit: Visit, query: Query, *, before: UUID | None = None, most: int) -> Found:
    """Read the newest tasks that fit a view and its filters, below a cursor."""
    if query.view in SPECIAL:
        fitting = [each for each in await _of_view(visit, query.view) if query.fits(each, now=visit.now)]
        ordered = sorted(fitting, key=lambda task: task.id, reverse=True)
        return Found([task for task in ordered if before is None or task.id < before][:most])
    wanted = dataclasses.replace(query.as_filter(visit.sees_only, now=visit.now), before=before)
    async with visit.context.database.reading() as connection:
        return await search(connection, wanted, most=most)


async def count_fitting(visit: Visit, query: Query) -> tuple[int, bool]:
    """Count the tasks that fit a view and its filters; return whether all were looked at, too."""
    if query.view in SPECIAL:
        return len((await read_tasks(visit, query, most=overview.MAX_COUNTED)).tasks), True
    wanted = dataclasses.replace(query.as_filter(visit.sees_only, now=visit.now), before=None)
    async with visit.context.database.reading() as connection:
        counted = await count_by_state(connection, wanted)
    numbers = [number for state, number in counted.states.items() if not wanted.states or state in wanted.states]
    return sum(numbers), counted.complete and max(numbers) <= overview.MAX_COUNTED


async def _of_view(visit: Visit, view: str) -> list[Task]:
    """Read the tasks of a view that no filter describes."""
    context = visit.context
    async with context.database.reading() as connection:
        if view == "twice":
            return await overview.with_duplicate_jobs(connection, visit.sees_only, most=overview.MAX_NEEDING)
        found = await overview.may_need_somebody(connection, visit.sees_only, now=visit.now)
    return [task for task in found if needs_somebody(task, typical_seconds(context, task), now=visit.now)]
