"""SQL for tasks: accept, read, lock, list."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, Select, and_, bindparam, exists, func, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.large_input import shortened, size_of
from service.domain.money.quotes import Quote
from service.domain.money.terms import NO_TERMS, Terms
from service.domain.task import TO_SUBMIT, Action, Failure, Result, Source, State, Task, TaskWarning, WaitingFor
from service.store.prepared import Prepared
from service.store.tables import DUE_SUBMIT, NOT_TO_SUBMIT, events, insert_for, large_inputs, task_labels, tasks


def task_of(row: Row[Any] | Mapping[str, Any]) -> Task:
    """Return the task of a row."""
    kept = dict(row if isinstance(row, Mapping) else row._mapping)  # noqa: SLF001 - the documented way to a row's names
    kept["state"] = State(kept["state"])
    kept["route"] = tuple(kept["route"])
    kept["callback_events"] = tuple(kept["callback_events"])
    kept["results"] = tuple(Result.from_json(result) for result in kept["results"])
    kept["next_actions"] = tuple(Action.from_json(action) for action in kept["next_actions"])
    kept["failure"] = None if kept["failure"] is None else Failure.from_json(kept["failure"])
    kept["warnings"] = tuple(TaskWarning.from_json(warning) for warning in kept["warnings"])
    kept["terms"] = Terms.from_json(kept["terms"]) if kept["terms"] else NO_TERMS
    kept["quotes"] = tuple(map(Quote.from_json, kept["quotes"])) if kept["quotes"] else ()
    kept["settlements"] = tuple(kept["settlements"])
    kept["waits_for"] = None if kept["waits_for"] is None else WaitingFor.from_key(kept["waits_for"])
    kept["outcome_source"] = None if kept["outcome_source"] is None else Source(kept["outcome_source"])
    return Task.of(kept)


def row_of(task: Task) -> dict[str, Any]:
    """Return the row of a task."""
    row = {**task.__dict__}
    row["state"] = str(task.state)
    row["route"] = list(task.route)
    row["callback_events"] = list(task.callback_events)
    row["results"] = [result.as_json() for result in task.results]
    row["next_actions"] = [action.as_json() for action in task.next_actions]
    row["failure"] = None if task.failure is None else task.failure.as_json()
    row["warnings"] = [warning.as_json() for warning in task.warnings]
    row["terms"] = task.terms.as_json() if task.terms is not NO_TERMS else {}
    row["quotes"] = [quote.as_json() for quote in task.quotes]
    row["settlements"] = list(task.settlements)
    row["waits_for"] = None if task.waits_for is None else task.waits_for.key
    row["outcome_source"] = None if task.outcome_source is None else str(task.outcome_source)
    return row


@dataclasses.dataclass(frozen=True, slots=True)
class Accepted:
    """The answer to a submit: the task, and whether it is new."""

    task: Task
    new: bool


_ACCEPT = Prepared(
    insert_for(
        lambda insert: (
            insert(tasks)
            .on_conflict_do_nothing(
                index_elements=["client", "idempotency_key"], index_where=tasks.c.idempotency_key.is_not(None)
            )
            .returning(tasks.c.id)
        )
    )
)


_ADOPT = Prepared(insert_for(lambda insert: insert(tasks).on_conflict_do_nothing().returning(tasks.c.id)))
_ADD_EVENTS = Prepared(events.insert())
_ADD_LABELS = Prepared(task_labels.insert())


async def accept(connection: AsyncConnection, requested: Sequence[Task]) -> list[Accepted]:
    """Insert new tasks with their first event. Where the client's idempotency key exists, return the task that has it."""
    # In the order of the keys, so that two processes with the same keys cannot deadlock.
    in_order = sorted(requested, key=lambda task: (task.client, task.idempotency_key or ""))
    inserted = await _insert(connection, _ACCEPT, in_order)
    new = [task for task in requested if task.id in inserted]
    known = {(task.client, task.idempotency_key): task for task in new}
    missing = [
        task for task in requested if task.id not in inserted and (task.client, task.idempotency_key) not in known
    ]
    known |= await _by_idempotency_key(connection, missing)
    return [
        Accepted(stored(task), new=True)
        if task.id in inserted
        else Accepted(known[task.client, task.idempotency_key], new=False)
        for task in requested
    ]


async def adopt(connection: AsyncConnection, task: Task) -> bool:
    """Insert a task that follows a job, with its first event; return False where its key or its job has a task already."""
    return task.id in await _insert(connection, _ADOPT, [task])


async def _insert(connection: AsyncConnection, statement: Prepared, requested: Sequence[Task]) -> set[UUID]:
    """Insert tasks with their inputs, labels and first events; return the ids of those that are new."""
    inserted = {row.id for row in await statement.rows_of_many(connection, _new_rows(requested))}
    new = [task for task in requested if task.id in inserted]
    large = [task for task in new if task.large_input]
    if large:
        await connection.execute(large_inputs.insert(), [_whole_input(task) for task in large])
    if new:
        await _ADD_EVENTS.many(connection, [_acceptance(task) for task in new])
    labels = [
        {"client": task.client, "name": name, "value": value, "task_id": task.id}
        for task in new
        for name, value in task.labels.items()
    ]
    if labels:
        await _ADD_LABELS.many(connection, labels)
    return inserted


_LATER: Final = frozenset(
    {
        *("upstream", "dialect", "submission_id", "external_id", "job_host", "progress", "failure", "cost", "refunded"),
        *("decided_by", "outcome_source", "cancel_requested_at", "answered_at", "missing_since", "last_error"),
        *("waits_for", "unconfirmed_since", "submitted_at", "finished_at", "input_removed_at", "results_removed_at"),
    }
)
"""Columns that are NULL until a task is handed over. Leaving them out of a statement saves a fifth of an insert."""


def _new_rows(requested: Sequence[Task]) -> list[dict[str, Any]]:
    rows = [row_of(stored(task)) for task in requested]
    if any(row[name] is not None for row in rows for name in _LATER):
        return rows
    return [{name: value for name, value in row.items() if name not in _LATER} for row in rows]


def stored(task: Task) -> Task:
    """Return a new task as its row has it: with a large input shortened."""
    if not task.large_input:
        return task
    return dataclasses.replace(task, input=shortened(task.input), options=shortened(task.options))


def _whole_input(task: Task) -> dict[str, Any]:
    size = size_of(task.input, task.options)
    return {"task_id": task.id, "input": task.input, "options": task.options, "size": size}


_INPUT_SIZE = select(large_inputs.c.size).where(large_inputs.c.task_id == bindparam("of_task"))
_WHOLE_INPUT = select(large_inputs).where(large_inputs.c.task_id == bindparam("of_task"))


async def input_size(connection: AsyncConnection, task: Task) -> int:
    """Return the characters of a large input and its options, without reading them."""
    return int(await connection.scalar(_INPUT_SIZE, {"of_task": task.id}) or 0)


async def with_whole_input(connection: AsyncConnection, task: Task) -> Task:
    """Return a task with its whole input and options."""
    if not task.large_input:
        return task
    row = (await connection.execute(_WHOLE_INPUT, {"of_task": task.id})).one()
    return dataclasses.replace(task, input=row.input, options=row.options)


def _acceptance(task: Task) -> dict[str, Any]:
    return {
        "task_id": task.id,
        "client": task.client,
        "sequence": task.sequence,
        "type": "adopted" if task.adopted else "accepted",
        "message": None,
        "source": str(Source.CLIENT),
        "at": task.created_at,
        "data": {"state": str(task.state), "route": list(task.route)}
        | ({"upstream": task.upstream, "external_id": task.external_id} if task.adopted else {})
        | ({"skipped_upstreams": dict(task.skipped_upstreams)} if task.skipped_upstreams else {}),
    }


async def _by_idempotency_key(
    connection: AsyncConnection, requested: Sequence[Task]
) -> dict[tuple[str, str | None], Task]:
    if not requested:
        return {}
    same = or_(
        *(and_(tasks.c.client == task.client, tasks.c.idempotency_key == task.idempotency_key) for task in requested)
    )
    found = [task_of(row) for row in await connection.execute(select(tasks).where(same))]
    return {(task.client, task.idempotency_key): task for task in found}


_ONE = select(tasks).where(tasks.c.id == bindparam("id"))
_ONE_OF_CLIENT = _ONE.where(tasks.c.client == bindparam("client"))
_LOCKED = Prepared(
    select(tasks).where(tasks.c.id.in_(bindparam("ids", expanding=True))).order_by(tasks.c.id).with_for_update()
)


async def find(connection: AsyncConnection, task_id: UUID, client: str | None = None) -> Task | None:
    """Read one task; with a client, only if it is that client's."""
    if client is None:
        row = (await connection.execute(_ONE, {"id": task_id})).first()
    else:
        row = (await connection.execute(_ONE_OF_CLIENT, {"id": task_id, "client": client})).first()
    return None if row is None else task_of(row)


_ALL_OF_CLIENT = select(tasks).where(
    tasks.c.id.in_(bindparam("ids", expanding=True)), tasks.c.client == bindparam("client")
)


async def find_all(connection: AsyncConnection, ids: Sequence[UUID], client: str) -> list[Task]:
    """Read a client's tasks of some ids, in the order of the ids; others are left out."""
    rows = await connection.execute(_ALL_OF_CLIENT, {"ids": list(dict.fromkeys(ids)), "client": client})
    found = {row.id: task_of(row) for row in rows}
    return [found[each] for each in dict.fromkeys(ids) if each in found]


_BY_KEY = select(tasks).where(tasks.c.client == bindparam("client"), tasks.c.idempotency_key == bindparam("key"))


async def find_by_key(connection: AsyncConnection, client: str, idempotency_key: str) -> Task | None:
    """Read the task of a client's idempotency key."""
    row = (await connection.execute(_BY_KEY, {"client": client, "key": idempotency_key})).first()
    return None if row is None else task_of(row)


async def lock(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, Task]:
    """Read tasks and lock their rows until the transaction ends; in id order, so that two processes cannot deadlock."""
    rows = await _LOCKED.rows(connection, {"ids": sorted(set(ids))})
    return {row.id: task_of(row) for row in rows}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which tasks to list. Every field is served by an index."""

    client: str | None = None
    states: tuple[State, ...] = ()
    family: str | None = None
    upstream: str | None = None
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    after: UUID | None = None
    """Only ids above this one. A UUIDv7 begins with its time, so this is also the filter by time."""
    before: UUID | None = None
    """Only ids below this one: the keyset cursor."""
    oldest_first: bool = False
    """The order, where there are no labels and at most one state."""


MAX_COUNTED = 5_000
"""Rows of an index that are counted to choose by which one a list is read."""
FEW = 200
"""Tasks with a label that are read without looking whether the other filters find fewer."""


async def page(connection: AsyncConnection, wanted: Filter, *, most: int) -> list[Task]:
    """List tasks, newest first unless the filter says otherwise."""
    label = await _rarest_label(connection, wanted) if wanted.labels else None
    statement = _page(wanted, most) if label is None else _labelled(wanted, label, most)
    return [task_of(row) for row in await connection.execute(statement)]


async def _rarest_label(connection: AsyncConnection, wanted: Filter) -> str | None:
    """Return the label that fewest tasks have; None where the other filters find fewer.

    No planner knows this: how often a label occurs is not in its statistics.
    """
    counts = {name: _bounded(_with_label(wanted, name)[1], MAX_COUNTED) for name in wanted.labels}
    found = dict(zip(counts, (await connection.execute(select(*counts.values()))).one(), strict=True))
    rarest = min(found, key=lambda name: found[name])
    if wanted.client is None:
        # The ids of a label are in order for each client only, and to sort so many takes longer.
        return rarest if found[rarest] < MAX_COUNTED else None
    if found[rarest] > FEW and (wanted.states or wanted.family is not None):
        others = _where(select(tasks.c.id), dataclasses.replace(wanted, labels={}))
        if await connection.scalar(select(_bounded(others, found[rarest]))) < found[rarest]:
            return None
    return rarest


def _bounded(statement: Select[Any], most: int) -> Any:
    return select(func.count()).select_from(statement.limit(most).subquery()).scalar_subquery()


def _with_label(wanted: Filter, name: str) -> tuple[Any, Select[Any]]:
    """Select the ids of the tasks that have one of the labels; return its columns, too."""
    label = task_labels.alias("chosen")
    statement = select(label.c.task_id).where(label.c.name == name, label.c.value == wanted.labels[name])
    if wanted.client is not None:
        statement = statement.where(label.c.client == wanted.client)
    return label.c, in_range(statement, label.c.task_id, wanted)


def _labelled(wanted: Filter, name: str, most: int) -> Select[Any]:
    """Select a page by the ids of a label. As a subquery with a limit, no planner begins with another table."""
    chosen, ids = _with_label(wanted, name)
    others = {key: value for key, value in wanted.labels.items() if key != name}
    ids = having(ids, chosen.client, chosen.task_id, others)
    if wanted.states or wanted.family is not None or wanted.upstream is not None:
        besides = dataclasses.replace(wanted, labels={}, client=None, after=None, before=None)
        ids = ids.where(_where(select(tasks.c.id), besides).where(tasks.c.id == chosen.task_id).exists())
    found = ids.order_by(chosen.task_id.desc()).limit(most).subquery()
    return select(tasks).where(tasks.c.id.in_(select(found))).order_by(tasks.c.id.desc())


def _page(wanted: Filter, most: int) -> Select[Any]:
    """Select a page. For several states, select a page of each and merge them, so that an index serves every one."""
    if len(wanted.states) <= 1:
        return _newest(wanted, most)
    pages = [_newest(dataclasses.replace(wanted, states=(state,)), most).subquery() for state in set(wanted.states)]
    either = union_all(*(select(page) for page in pages)).subquery()
    return select(either).order_by(either.c.id.desc()).limit(most)


def _newest(wanted: Filter, most: int) -> Select[Any]:
    id_ = _id_of(wanted)
    return fitting(select(tasks), wanted).order_by(id_ if wanted.oldest_first else id_.desc()).limit(most)


def _id_of(wanted: Filter) -> Any:
    """Return the id as a filter's range and order have it.

    Few tasks are to be submitted. They are sorted: in the order of all ids, a database would look for them in all tasks.
    """
    few = wanted.client is None and len(wanted.states) == 1 and wanted.states[0] in TO_SUBMIT
    return func.coalesce(tasks.c.id, tasks.c.id) if few else tasks.c.id


def having(statement: Select[Any], client: Any, task_id: Any, labels: Mapping[str, str]) -> Select[Any]:
    """Select only tasks that have some labels: each is one lookup in the primary key."""
    for name, value in sorted(labels.items()):
        label = task_labels.alias()
        statement = statement.where(
            exists().where(
                label.c.name == name,
                label.c.value == value,
                label.c.client == client,
                label.c.task_id == task_id,
            )
        )
    return statement


def _where(statement: Select[Any], wanted: Filter) -> Select[Any]:
    if wanted.client is not None:
        statement = statement.where(tasks.c.client == wanted.client)
    if wanted.states:
        states = [str(state) for state in wanted.states]
        statement = statement.where(tasks.c.state == states[0] if len(states) == 1 else tasks.c.state.in_(states))
    if len(wanted.states) == 1 and wanted.client is None:
        statement = of_state(statement, wanted.states[0])
    for column, value in ((tasks.c.family, wanted.family), (tasks.c.upstream, wanted.upstream)):
        if value is not None:
            statement = statement.where(column == value)
    return in_range(statement, _id_of(wanted), wanted)


def of_state(statement: Select[Any], state: State) -> Select[Any]:
    """Select the tasks of a state, for all clients, with the predicate of the index that has them.

    Every task that is to be submitted has a due time. Without this column in the statement, SQLite would read an index
    of all tasks that has the others.
    """
    statement = statement.where(tasks.c.state == str(state))
    if state in TO_SUBMIT:
        return statement.where(DUE_SUBMIT, tasks.c.due_at.is_not(None))
    return statement.where(NOT_TO_SUBMIT)


def fitting(statement: Select[Any], wanted: Filter) -> Select[Any]:
    """Return a statement on tasks with the conditions of a filter."""
    return having(_where(statement, wanted), tasks.c.client, tasks.c.id, wanted.labels)


def in_range(statement: Select[Any], task_id: Any, wanted: Filter) -> Select[Any]:
    """Select only ids in the range of a filter."""
    if wanted.after is not None:
        statement = statement.where(task_id > wanted.after)
    if wanted.before is not None:
        statement = statement.where(task_id < wanted.before)
    return statement


async def count_by_state(connection: AsyncConnection) -> dict[str, int]:
    """Count tasks by state. For tests and the demo: it reads the whole table."""
    rows = await connection.execute(select(tasks.c.state, func.count()).group_by(tasks.c.state))
    return {row[0]: row[1] for row in rows}
