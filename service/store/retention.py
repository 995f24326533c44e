"""Statements of retention: find what is older than it may be, and remove it, a few rows in each transaction.

Each step looks at some rows after a position, oldest first, and removes those that nothing needs any more. What is still
needed is passed over, and looked at again by the next sweep, which begins at the oldest row.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, Uuid, and_, bindparam, delete, exists, func, or_, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store import feed, ledger, queue
from service.store.money import entries as money_entries
from service.store.subqueries import for_each_row, is_set
from service.store.tables import (
    FINISHED,
    INPUT_KEPT,
    RESULTS_KEPT,
    UtcTime,
    callbacks,
    erasures,
    events,
    large_inputs,
    ledger_entries,
    polls,
    reservations,
    submission_answers,
    submissions,
    tasks,
    webhook_messages,
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a step."""

    before: datetime
    """Only what belongs to tasks that ended before this time."""
    keys_before: datetime | None
    """Only tasks with an idempotency key that were accepted before this time; None: no such task."""
    now: datetime


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The result of a step."""

    examined: int = 0
    removed: int = 0
    after: Any = None
    """The position after the last row that was examined."""


Remove = Callable[..., Awaitable[Step]]
BEFORE, _NOW = bindparam("before", type_=UtcTime), bindparam("now", type_=UtcTime)
FIRST_ID: Any = bindparam("first_id", type_=Uuid())
_IDS: Any = bindparam("ids", expanding=True)
_MOST: Any = bindparam("most")


def first_id_at(moment: datetime) -> UUID:
    """Return the lowest id of a moment: a UUID of version 7 begins with the milliseconds since 1970."""
    return UUID(int=max(int(moment.timestamp() * 1000), 0) << 80)


# ── callbacks and messages, by their ids ───────────────────────────────────────────────────────────────────────

_NOT_OVER = or_(tasks.c.finished_at.is_(None), tasks.c.finished_at >= BEFORE)


def _heads(table: Any) -> Select[Any]:
    return (
        select(table.c.id)
        .where(table.c.id > bindparam("after"), table.c.id < FIRST_ID)
        .order_by(table.c.id)
        .limit(_MOST)
    )


OLD_CALLBACKS = and_(
    callbacks.c.due_at.is_(None),
    callbacks.c.received_at < BEFORE,
    ~exists().where(
        submissions.c.id == callbacks.c.submission_id, tasks.c.id == submissions.c.task_id, _NOT_OVER
    ),
)  # fmt: skip
OLD_MESSAGES = and_(
    webhook_messages.c.state != "pending",
    func.coalesce(webhook_messages.c.replayed_at, webhook_messages.c.created_at) < BEFORE,
    ~exists().where(tasks.c.id == webhook_messages.c.task_id, _NOT_OVER),
)
_BY_ID: Final = {
    "callbacks": (_heads(callbacks), delete(callbacks).where(callbacks.c.id.in_(_IDS), for_each_row(OLD_CALLBACKS))),
    "messages": (
        _heads(webhook_messages),
        delete(webhook_messages).where(webhook_messages.c.id.in_(_IDS), for_each_row(OLD_MESSAGES)),
    ),
}


async def _remove_by_id(
    connection: AsyncConnection, kind: str, limits: Limits, *, after: UUID | None, most: int
) -> Step:
    heads, removing = _BY_ID[kind]
    given = {"after": after or UUID(int=0), "first_id": first_id_at(limits.before), "most": most}
    ids = list((await connection.scalars(heads, given)).all())
    if not ids:
        return Step()
    removed = (await connection.execute(removing, {"ids": ids, "before": limits.before})).rowcount
    return Step(examined=len(ids), removed=removed, after=ids[-1])


async def remove_callbacks(connection: AsyncConnection, limits: Limits, *, after: Any, most: int) -> Step:
    """Remove stored callbacks that are decided."""
    return await _remove_by_id(connection, "callbacks", limits, after=after, most=most)


async def remove_messages(connection: AsyncConnection, limits: Limits, *, after: Any, most: int) -> Step:
    """Remove messages that are settled, with their delivery attempts."""
    return await _remove_by_id(connection, "messages", limits, after=after, most=most)


# ── events, by their numbers ───────────────────────────────────────────────────────────────────────────────────

_NEWEST_EVENT = select(events.c.id).order_by(events.c.id.desc()).limit(1).scalar_subquery()
_EVENT_HEADS = (
    select(events.c.id, events.c.at).where(events.c.id > bindparam("after")).order_by(events.c.id).limit(_MOST)
)
# The newest event stays: SQLite would assign its number again, and the order of the feed would break.
OLD_EVENTS = and_(
    events.c.id < _NEWEST_EVENT,
    exists().where(tasks.c.id == events.c.task_id, tasks.c.finished_at < BEFORE, tasks.c.due_at.is_(None)),
)
_REMOVE_EVENTS = (
    delete(events)
    .where(events.c.id.in_(_IDS), for_each_row(OLD_EVENTS))
    .returning(events.c.id, events.c.client, events.c.message)
)


async def remove_events(connection: AsyncConnection, limits: Limits, *, after: Any, most: int) -> Step:
    """Remove events of ended tasks, and note how far each feed is pruned."""
    heads = (await connection.execute(_EVENT_HEADS, {"after": after or 0, "most": most})).all()
    if not heads or heads[0].at >= limits.before:
        return Step()
    given = {"ids": [row.id for row in heads], "before": limits.before}
    removed = (await connection.execute(_REMOVE_EVENTS, given)).all()
    await _note_pruned(connection, removed)
    return Step(examined=len(heads), removed=len(removed), after=heads[-1].id)


async def _note_pruned(connection: AsyncConnection, removed: Sequence[Any]) -> None:
    numbers: dict[str, int] = {}
    for row in removed:
        if row.message is not None:
            numbers[row.client] = max(row.id, numbers.get(row.client, 0))
    await feed.set_pruned(connection, numbers)


# ── tasks and their content, by the time of their end ──────────────────────────────────────────────────────────

NOBODY_WORKS: Final = and_(
    tasks.c.finished_at < BEFORE,
    tasks.c.due_at.is_(None),
    ~exists().where(submissions.c.task_id == tasks.c.id, is_set(submissions.c.due_at)),
)
"""The task has ended, and neither its job nor a duplicate one is queried any more."""
_child = tasks.alias("child")
_NEWEST_SUBMISSION = select(submissions.c.id).order_by(submissions.c.id.desc()).limit(1).scalar_subquery()
_TASK_OF_NEWEST_EVENT = select(events.c.task_id).order_by(events.c.id.desc()).limit(1).scalar_subquery()
REASONS: Final[Mapping[str, Any]] = {
    "it is not settled at its provider": ~NOBODY_WORKS,
    "a message is pending": exists().where(
        webhook_messages.c.task_id == tasks.c.id, func.coalesce(webhook_messages.c.state, "") == "pending"
    ),
    "a callback is not processed": exists().where(
        submissions.c.task_id == tasks.c.id,
        callbacks.c.submission_id == submissions.c.id,
        is_set(callbacks.c.due_at),
    ),
    "an open task continues it": exists().where(_child.c.parent_id == tasks.c.id, _child.c.finished_at.is_(None)),
    "its price is not booked": exists().where(reservations.c.task_id == tasks.c.id, is_set(reservations.c.check_at)),
    "its erasure is not complete": exists().where(erasures.c.task_id == tasks.c.id, is_set(erasures.c.due_at)),
    "its idempotency key is valid": and_(
        tasks.c.idempotency_key.is_not(None),
        or_(
            bindparam("keys_before", type_=UtcTime).is_(None),
            tasks.c.created_at >= bindparam("keys_before", type_=UtcTime),
        ),
    ),
    # By the newest submission a restore is detected; the newest event keeps the order of the feed.
    "it has the newest submission": exists().where(
        submissions.c.task_id == tasks.c.id, submissions.c.id == _NEWEST_SUBMISSION
    ),
    "it has the newest event": func.coalesce(tasks.c.id == _TASK_OF_NEWEST_EVENT, False),
}
"""Why a task that is old enough is kept, by the sentence that says so."""
REMOVABLE: Final = and_(NOBODY_WORKS, *(~reason for reason in [*REASONS.values()][1:]))


def _task_heads(which: Any) -> Select[Any]:
    position = tuple_(tasks.c.finished_at, tasks.c.id)
    return (
        select(tasks.c.finished_at, tasks.c.id)
        .where(which, tasks.c.finished_at >= bindparam("since", type_=UtcTime), tasks.c.finished_at < BEFORE)
        .where(position > tuple_(bindparam("since", type_=UtcTime), bindparam("after", type_=Uuid())))
        .order_by(tasks.c.finished_at, tasks.c.id)
        .limit(_MOST)
    )


def _chosen(columns: Sequence[Any], condition: Any) -> Select[Any]:
    return (
        select(*columns)
        .where(tasks.c.id.in_(_IDS), for_each_row(condition))
        .order_by(tasks.c.id)
        .with_for_update(skip_locked=True)
    )


_HEADS: Final = {
    "tasks": _task_heads(FINISHED),
    "inputs": _task_heads(INPUT_KEPT),
    "results": _task_heads(RESULTS_KEPT),
}
_TASKS_TO_REMOVE = _chosen([tasks.c.id], REMOVABLE)
_MODEL = func.coalesce(tasks.c.options["model"].as_string(), tasks.c.input["model"].as_string()).label("model")
_OLD_INPUTS = _chosen([tasks.c.id, _MODEL], and_(NOBODY_WORKS, tasks.c.input_removed_at.is_(None)))
_OLD_RESULTS = _chosen(
    [tasks.c.id, tasks.c.failure], and_(NOBODY_WORKS, tasks.c.results_removed_at.is_(None))
)  # fmt: skip
_START: Final = (datetime.fromisoformat("1970-01-01T00:00:00+00:00"), UUID(int=0))


@dataclasses.dataclass(frozen=True, slots=True)
class _Found:
    """The tasks that a step examines, and those of them that it may change."""

    examined: int
    rows: Sequence[Any]
    after: tuple[datetime, UUID]


async def _find(
    connection: AsyncConnection, kind: str, chosen: Select[Any], limits: Limits, *, after: Any, most: int
) -> _Found | None:
    since, last = after or _START
    given = {"since": since, "after": last, "before": limits.before, "most": most}
    heads = (await connection.execute(_HEADS[kind], given)).all()
    if not heads:
        return None
    chosen_by = {"ids": [row.id for row in heads], "before": limits.before, "keys_before": limits.keys_before}
    rows = (await connection.execute(chosen, chosen_by)).all()
    return _Found(len(heads), rows, (heads[-1].finished_at, heads[-1].id))


_REMOVE_INPUT = (
    update(tasks)
    .where(tasks.c.id == bindparam("of_task"))
    .values(
        input=bindparam("model"),
        options={},
        inherited={},
        large_input=False,
        input_removed_at=_NOW,
    )
)
_REMOVE_LARGE = delete(large_inputs).where(large_inputs.c.task_id.in_(_IDS))


async def remove_inputs(connection: AsyncConnection, limits: Limits, *, after: Any, most: int) -> Step:
    """Remove the inputs of ended tasks. The name of the model stays, because statistics need it."""
    found = await _find(connection, "inputs", _OLD_INPUTS, limits, after=after, most=most)
    if found is None:
        return Step()
    if found.rows:
        given = [
            {"of_task": row.id, "now": limits.now, "model": {} if row.model is None else {"model": row.model}}
            for row in found.rows
        ]
        await connection.execute(_REMOVE_INPUT, given)
        await connection.execute(_REMOVE_LARGE, {"ids": [row.id for row in found.rows]})
    return Step(examined=found.examined, removed=len(found.rows), after=found.after)


_REMOVE_RESULTS = (
    update(tasks)
    .where(tasks.c.id == bindparam("of_task"))
    .values(results=[], next_actions=[], failure=bindparam("kept"), last_error=None, results_removed_at=_NOW)
)
CONTENT_OF_EVENTS: Final = ("results", "failure", "next_actions", "job_results", "error")
"""The fields of events that contain outputs, or words about them."""
_REMOVE_FROM_EVENTS: Final = {
    "sqlite": update(events)
    .where(events.c.task_id.in_(_IDS))
    .values(data=text("json_remove(data, " + ", ".join(f"'$.{name}'" for name in CONTENT_OF_EVENTS) + ")")),
    "postgresql": update(events)
    .where(events.c.task_id.in_(_IDS))
    .values(data=text("(data::jsonb - ARRAY[" + ", ".join(f"'{name}'" for name in CONTENT_OF_EVENTS) + "])::json")),
}


_REMOVE_ANSWERS = delete(submission_answers).where(
    submission_answers.c.submission_id.in_(select(submissions.c.id).where(submissions.c.task_id.in_(_IDS)))
)
_REMOVE_POLLS = delete(polls).where(polls.c.task_id.in_(_IDS))


def without_words(failure: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a stored failure without the provider's words."""
    return None if failure is None else {**failure, "message": None}


async def remove_results(connection: AsyncConnection, limits: Limits, *, after: Any, most: int) -> Step:
    """Remove the results of ended tasks, also from their history."""
    found = await _find(connection, "results", _OLD_RESULTS, limits, after=after, most=most)
    if found is None:
        return Step()
    if found.rows:
        given = [{"of_task": row.id, "now": limits.now, "kept": without_words(row.failure)} for row in found.rows]
        await connection.execute(_REMOVE_RESULTS, given)
        ids = [row.id for row in found.rows]
        await connection.execute(_REMOVE_ANSWERS, {"ids": ids})
        await connection.execute(_REMOVE_POLLS, {"ids": ids})
        await queue.delete_assets(connection, ids, now=limits.now)
        await connection.execute(_REMOVE_FROM_EVENTS[connection.dialect.name], {"ids": ids})
    return Step(examined=found.examined, removed=len(found.rows), after=found.after)


_REMOVE_CALLBACKS_OF = delete(callbacks).where(
    callbacks.c.submission_id.in_(select(submissions.c.id).where(submissions.c.task_id.in_(_IDS)))
)
_REMOVE_EVENTS_OF = (
    delete(events).where(events.c.task_id.in_(_IDS)).returning(events.c.id, events.c.client, events.c.message)
)
# Labels, large inputs, submissions, messages and their attempts go with their task.
_REMOVE_TASKS = delete(tasks).where(tasks.c.id.in_(_IDS))


async def remove_tasks(connection: AsyncConnection, limits: Limits, *, after: Any, most: int) -> Step:
    """Remove ended tasks with everything that belongs to them. The ledger keeps what it needs of their submissions."""
    found = await _find(connection, "tasks", _TASKS_TO_REMOVE, limits, after=after, most=most)
    if found is None:
        return Step()
    if ids := [row.id for row in found.rows]:
        await ledger.keep_entries(connection, ids)
        await queue.delete_assets(connection, ids, now=limits.now)
        await connection.execute(_REMOVE_CALLBACKS_OF, {"ids": ids})
        await _note_pruned(connection, (await connection.execute(_REMOVE_EVENTS_OF, {"ids": ids})).all())
        await connection.execute(_REMOVE_TASKS, {"ids": ids})
    return Step(examined=found.examined, removed=len(found.rows), after=found.after)


# ── the ledger ─────────────────────────────────────────────────────────────────────────────────────────────────

_OLD_ENTRIES = (
    select(ledger_entries.c.id).where(ledger_entries.c.sent_at < BEFORE).order_by(ledger_entries.c.sent_at).limit(_MOST)
)
_REMOVE_ENTRIES = delete(ledger_entries).where(ledger_entries.c.id.in_(_IDS))


async def remove_entries(connection: AsyncConnection, limits: Limits, *, after: Any, most: int) -> Step:
    """Remove entries of the ledger of removed tasks: of their submissions first, then of what they cost."""
    ids = list((await connection.scalars(_OLD_ENTRIES, {"before": limits.before, "most": most})).all())
    if ids:
        removed = (await connection.execute(_REMOVE_ENTRIES, {"ids": ids})).rowcount
        return Step(examined=len(ids), removed=removed, after=after)
    examined, removed, position = await money_entries.remove_old(
        connection, before=limits.before, after=after or (_START[0], 0), most=most
    )
    return Step(examined=examined, removed=removed, after=position) if examined else Step()


STEPS: Final[Mapping[str, Remove]] = {
    "tasks": remove_tasks,
    "callbacks": remove_callbacks,
    "messages": remove_messages,
    "inputs": remove_inputs,
    "results": remove_results,
    "events": remove_events,
    "ledger": remove_entries,
}
"""By the setting that states how long a kind is kept. Whole tasks come first: what goes with them is not looked at again."""
