"""Statements of erasure: what clients asked for, and the removal of a task's content from every table."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, Select, and_, bindparam, case, delete, func, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.task import ENDED
from service.domain.webhook_events import ERASED
from service.store import queue
from service.store.money import entries as money_entries
from service.store.tables import (
    UtcTime,
    callbacks,
    erasures,
    events,
    insert_for,
    large_inputs,
    ledger_entries,
    polls,
    submission_answers,
    submissions,
    task_labels,
    tasks,
    webhook_attempts,
    webhook_messages,
)

EMPTY_BODY: Final = "{}"
"""The body of a message whose content was erased."""
WITHOUT_CONTENT: Final = ("erased", "settled", "cost_corrected")
"""Types of events whose details stay: a time, and what was paid."""
REASON: Final = "the content of its task was erased"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """The erasure of one task."""

    id: int
    request_id: UUID
    task_id: UUID
    client: str
    cancel: bool
    """Whether the client asked to cancel the task if it is open."""
    requested_at: datetime
    erased_at: datetime | None = None
    provider: str | None = None
    """The answer of the provider: ``deleted``, ``not_possible`` or ``failed``; None: not asked yet."""
    error: str | None = None
    """Why the provider has not deleted the job yet."""
    due_at: datetime | None = None
    """When there is more to do; None: it is complete."""
    attempts: int = 0


def erasure_of(row: Row[Any]) -> Erasure:
    """Return the erasure of a row."""
    return Erasure(**row._mapping)  # noqa: SLF001 - the documented way to a row's names


# ── requests ───────────────────────────────────────────────────────────────────────────────────────────────────


def _labelled(labels: Mapping[str, str], client: str | None) -> Select[Any]:
    """Select the tasks that have all of some labels, by their ids."""
    (name, value), *others = sorted(labels.items())
    first = task_labels.alias("first")
    found = select(first.c.task_id, first.c.client).where(first.c.name == name, first.c.value == value)
    if client is not None:
        found = found.where(first.c.client == client)
    for name, value in others:
        also = task_labels.alias()
        same = and_(also.c.name == name, also.c.value == value, also.c.client == first.c.client)
        found = found.where(select(also.c.task_id).where(same, also.c.task_id == first.c.task_id).exists())
    return found


async def count_labelled(connection: AsyncConnection, labels: Mapping[str, str], client: str | None) -> tuple[int, int]:
    """Return how many tasks have all of some labels, and how many of these are open.

    :param client: whose tasks; None for those of all clients
    """
    found = _labelled(labels, client).subquery()
    is_open = func.sum(case((tasks.c.state.in_(sorted(ENDED)), 0), else_=1))
    joined = found.join(tasks, tasks.c.id == found.c.task_id)
    count, open_tasks = (await connection.execute(select(func.count(), is_open).select_from(joined))).one()
    return int(count), int(open_tasks or 0)


async def request_labelled(
    connection: AsyncConnection,
    request_id: UUID,
    labels: Mapping[str, str],
    client: str | None,
    *,
    cancel: bool,
    after: UUID,
    most: int,
    now: datetime,
) -> UUID | None:
    """Note the erasure of some tasks with labels; return the id to continue after, None at the end."""
    found = _labelled(labels, client).subquery()
    page = select(found.c.task_id, found.c.client).where(found.c.task_id > after)
    rows = (await connection.execute(page.order_by(found.c.task_id).limit(most))).all()
    await request(connection, request_id, {row.task_id: row.client for row in rows}, cancel=cancel, now=now)
    return rows[-1].task_id if len(rows) == most else None


async def request(
    connection: AsyncConnection, request_id: UUID, clients: Mapping[UUID, str], *, cancel: bool, now: datetime
) -> None:
    """Note the erasure of some tasks.

    :param clients: the client of each task, by its id
    """
    common = {"request_id": request_id, "cancel": cancel, "requested_at": now, "due_at": now, "attempts": 0}
    if clients:
        rows = [{**common, "task_id": task_id, "client": client} for task_id, client in clients.items()]
        await connection.execute(erasures.insert(), rows)


_REQUEST_ONE = insert_for(
    lambda insert: insert(erasures).on_conflict_do_nothing(index_elements=["request_id", "task_id"])
)
_SET_CANCEL = (
    update(erasures)
    .where(erasures.c.request_id == bindparam("of_task"), erasures.c.erased_at.is_(None), ~erasures.c.cancel)
    .values(cancel=True)
)


async def request_one(connection: AsyncConnection, task_id: UUID, client: str, *, cancel: bool, now: datetime) -> None:
    """Note the erasure of one task, unless that is noted already; its request has the id of the task."""
    row = {"request_id": task_id, "task_id": task_id, "client": client, "cancel": cancel, "requested_at": now}
    await connection.execute(_REQUEST_ONE[connection.dialect.name], {**row, "due_at": now, "attempts": 0})
    if cancel and (await connection.execute(_SET_CANCEL, {"of_task": task_id})).rowcount:
        await queue.hasten_erasures(connection, task_id, now=now)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a request has come."""

    requested_at: datetime
    tasks: int
    erased: int
    """Tasks whose content is removed from the database."""
    complete: int
    """Tasks of which nothing is left to do."""
    deleted_at_provider: int
    failed_at_provider: int


_PROGRESS = select(
    func.min(erasures.c.requested_at).label("requested_at"),
    func.count().label("tasks"),
    func.count(erasures.c.erased_at).label("erased"),
    func.sum(case((erasures.c.due_at.is_(None), 1), else_=0)).label("complete"),
    func.sum(case((erasures.c.provider == "deleted", 1), else_=0)).label("deleted_at_provider"),
    func.sum(case((erasures.c.provider == "failed", 1), else_=0)).label("failed_at_provider"),
).where(erasures.c.request_id == bindparam("of_request"))
_OF_CLIENT = erasures.c.client == bindparam("of_client")


async def progress(connection: AsyncConnection, request_id: UUID, client: str | None) -> Progress | None:
    """Return how far a request has come; None where there is none, or it concerns another client."""
    given: dict[str, Any] = {"of_request": request_id}
    statement = _PROGRESS
    if client is not None:
        statement, given = statement.where(_OF_CLIENT), {**given, "of_client": client}
    row = (await connection.execute(statement, given)).one()
    return Progress(**row._mapping) if row.tasks else None  # noqa: SLF001 - the documented way to a row's names


# ── content ────────────────────────────────────────────────────────────────────────────────────────────────────

_ID: Any = bindparam("of_task")
_NOW: Any = bindparam("now", type_=UtcTime)
_SUBMISSIONS = select(submissions.c.id).where(submissions.c.task_id == _ID)
_MESSAGES = select(webhook_messages.c.id).where(webhook_messages.c.task_id == _ID, webhook_messages.c.type != ERASED)
_PENDING = _MESSAGES.where(webhook_messages.c.state == "pending")
_TASK = (
    update(tasks)
    .where(tasks.c.id == _ID)
    .values(
        input={},
        options={},
        large_input=False,
        labels={},
        inherited={},
        callback_url=None,
        request_hash="",
        skipped_upstreams={},
        input_removed_at=func.coalesce(tasks.c.input_removed_at, _NOW),
        results_removed_at=func.coalesce(tasks.c.results_removed_at, _NOW),
        erased_at=func.coalesce(tasks.c.erased_at, _NOW),
    )
)
_REMOVALS: Final = (
    delete(large_inputs).where(large_inputs.c.task_id == _ID),
    delete(task_labels).where(task_labels.c.task_id == _ID),
    delete(callbacks).where(callbacks.c.submission_id.in_(_SUBMISSIONS), callbacks.c.due_at.is_(None)),
    update(submissions).where(submissions.c.task_id == _ID).values(message=None),
    delete(submission_answers).where(submission_answers.c.submission_id.in_(_SUBMISSIONS)),
    delete(polls).where(polls.c.task_id == _ID),
    update(events).where(events.c.task_id == _ID, events.c.type.not_in(WITHOUT_CONTENT)).values(data={}),
    update(webhook_messages)
    .where(webhook_messages.c.id.in_(_MESSAGES))
    .values(
        body=EMPTY_BODY,
        url=case((webhook_messages.c.endpoint_id.is_(None), literal("")), else_=webhook_messages.c.url),
        last_error=None,
    ),
    update(webhook_attempts).where(webhook_attempts.c.message_id.in_(_MESSAGES)).values(answer=None),
)


async def remove_content(connection: AsyncConnection, task_id: UUID, *, now: datetime) -> None:
    """Remove what the client and the provider said about a task from every table. The caller holds its row lock.

    A second call removes what was on its way during the first.
    """
    given = {"of_task": task_id}
    pending = (await connection.scalars(_PENDING, given)).all()
    await queue.discard(connection, list(pending), reason=REASON)
    for statement in _REMOVALS:
        await connection.execute(statement, given)
    await connection.execute(_TASK, {**given, "now": now})
    await money_entries.remove_labels(connection, (await connection.scalars(_SUBMISSIONS, given)).all())
    await queue.delete_assets(connection, [task_id], now=now)


_ERASED_OF = select(tasks.c.id).where(tasks.c.id.in_(bindparam("ids", expanding=True)), tasks.c.erased_at.is_not(None))
_REMOVED_OF = select(ledger_entries.c.id).where(ledger_entries.c.id.in_(bindparam("ids", expanding=True)))
_EMPTY_CALLBACKS = (
    update(callbacks)
    .where(callbacks.c.id.in_(bindparam("ids", expanding=True)))
    .values(body=b"", headers={}, detail=None)
)


async def requested_among(connection: AsyncConnection, task_ids: Sequence[UUID]) -> set[UUID]:
    """Return those of some tasks whose erasure is requested, done or not."""
    wanted = select(erasures.c.task_id).where(erasures.c.task_id.in_(sorted(task_ids)))
    return set(await connection.scalars(wanted)) if task_ids else set()


async def erased_among(connection: AsyncConnection, task_ids: Sequence[UUID]) -> set[UUID]:
    """Return which of some tasks are erased."""
    return set((await connection.scalars(_ERASED_OF, {"ids": list(task_ids)})).all()) if task_ids else set()


async def removed_among(connection: AsyncConnection, submission_ids: Sequence[UUID]) -> set[UUID]:
    """Return which of some submissions belong to tasks that retention has removed."""
    if not submission_ids:
        return set()
    return set((await connection.scalars(_REMOVED_OF, {"ids": list(submission_ids)})).all())


async def empty_callbacks(connection: AsyncConnection, ids: Sequence[UUID]) -> None:
    """Remove the content of callbacks that came for erased or removed tasks."""
    if ids:
        await connection.execute(_EMPTY_CALLBACKS, {"ids": list(ids)})
