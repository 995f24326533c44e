"""The queues: rows with a due time. A claim moves the time of a row forward by a lease."""

import functools
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Table, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.destination_slots import DestinationSlots
from service.domain.schedules import LEASE
from service.domain.task import State, Submission, Task
from service.store.prepared import Prepared
from service.store.tables import (
    DUE,
    DUE_POLL,
    DUE_SUBMIT,
    WAITING,
    assets,
    callbacks,
    erasures,
    submissions,
    tasks,
    webhook_messages,
)
from service.store.tasks import row_of, task_of
from service.store.webhooks import claim as claim_module


def _claim(table: Table, which: Any) -> Any:
    due = (
        select(table.c.id)
        .where(which, table.c.due_at <= bindparam("now"))
        .order_by(table.c.due_at)
        .limit(bindparam("most"))
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    return (
        update(table)
        .where(table.c.id.in_(select(due.c.id)))
        .values(due_at=bindparam("until"), attempts=table.c.attempts + 1)
        .returning(*table.c)
    )


_CLAIMS = {
    "submit": Prepared(_claim(tasks, DUE_SUBMIT)),
    "poll": Prepared(_claim(tasks, DUE_POLL)),
    "callbacks": Prepared(_claim(callbacks, DUE)),
    "submissions": Prepared(_claim(submissions, DUE)),
    "erasures": Prepared(_claim(erasures, DUE)),
}


async def claim_tasks(
    connection: AsyncConnection, journey: str, *, now: datetime, until: datetime, most: int
) -> list[Task]:
    """Claim the tasks that are due for a journey, ``submit`` or ``poll``, the longest due first, until a time."""
    rows = await _CLAIMS[journey].rows(connection, {"now": now, "until": until, "most": most})
    return sorted((task_of(row) for row in rows), key=lambda task: task.id)


_UNLOCKED = (
    select(tasks.c.id)
    .where(tasks.c.id.in_(bindparam("ids", expanding=True)), WAITING)
    .with_for_update(skip_locked=True)
    .cte("unlocked")
)
_CLAIM_WAITING = (
    update(tasks)
    .where(tasks.c.id.in_(select(_UNLOCKED.c.id)))
    .values(due_at=bindparam("until"), attempts=tasks.c.attempts + 1, waits_for=None)
    .returning(*tasks.c)
)


async def claim_waiting(connection: AsyncConnection, ids: Sequence[UUID], *, until: datetime) -> list[Task]:
    """Claim tasks that wait for an upstream, until a time; they wait no longer. A task whose row is locked is left out."""
    if not ids:
        return []
    rows = await connection.execute(_CLAIM_WAITING, {"ids": list(ids), "until": until})
    return sorted((task_of(row) for row in rows), key=lambda task: task.id)


async def claim_rows(
    connection: AsyncConnection, table: str, *, now: datetime, until: datetime, most: int
) -> Sequence[Row[Any]]:
    """Claim rows of ``callbacks``, ``submissions`` or ``erasures`` that are due, the longest due first, until a time."""
    rows = await _CLAIMS[table].rows(connection, {"now": now, "until": until, "most": most})
    return sorted(rows, key=lambda row: row.id)


_RENEW_ASSET = (
    update(assets)
    .where(assets.c.id == bindparam("of_row"), assets.c.attempts == bindparam("of_attempt"), DUE)
    .values(due_at=bindparam("until"))
)
_DELETE_ASSETS = (
    update(assets)
    .where(assets.c.task_id.in_(bindparam("ids", expanding=True)), assets.c.state != "deleting")
    .values(state="deleting", due_at=bindparam("now"), attempts=assets.c.attempts + 1, settled_at=None)
    .returning(assets.c.id)
)


_DELETE_ASSET = (
    update(assets)
    .where(assets.c.id == bindparam("of_row"))
    .values(state="deleting", due_at=bindparam("now"), attempts=assets.c.attempts + 1, settled_at=None)
)


async def delete_asset(connection: AsyncConnection, asset_id: UUID, *, now: datetime) -> None:
    """Make a copy due to be deleted."""
    await connection.execute(_DELETE_ASSET, {"of_row": asset_id, "now": now})


async def renew_asset(connection: AsyncConnection, asset_id: UUID, attempt: int, *, until: datetime) -> bool:
    """Extend the claim of a copy; return False where it was lost."""
    row = {"of_row": asset_id, "of_attempt": attempt, "until": until}
    return (await connection.execute(_RENEW_ASSET, row)).rowcount == 1


async def delete_assets(connection: AsyncConnection, task_ids: Sequence[UUID], *, now: datetime) -> int:
    """Make the copies of tasks due to be deleted, whatever is done with them now; return how many there are."""
    if not task_ids:
        return 0
    return len((await connection.execute(_DELETE_ASSETS, {"ids": list(task_ids), "now": now})).all())


_CLAIM_MESSAGES = Prepared(
    update(webhook_messages)
    .where(webhook_messages.c.id.in_(bindparam("ids", expanding=True)))
    .values(due_at=bindparam("until"), attempts=webhook_messages.c.attempts + 1)
    .returning(*webhook_messages.c)
)


async def claim_messages(
    connection: AsyncConnection, *, now: datetime, until: datetime, most: int, slots: DestinationSlots
) -> Sequence[Row[Any]]:
    """Claim due messages until a time, as far as there are free slots for their clients, hosts and destinations."""
    chosen = await claim_module.choose(connection, now=now, most=most, slots=slots)
    if not chosen:
        return []
    rows = await _CLAIM_MESSAGES.rows(connection, {"ids": chosen, "until": until})
    return sorted(rows, key=lambda row: row.id)


_ACCEPTED_ONCE = frozenset(
    {
        *("id", "client", "family", "operation", "input", "options", "large_input", "labels", "parent_id", "inherited"),
        *("callback_url", "callback_events", "callback_when", "callback_format", "idempotency_key", "request_hash"),
        *("route", "skipped_upstreams", "terms", "quotes", "adopted", "created_at", "deadline_at", "attempts"),
        "traceparent",
        # Only store/retention.py removes content.
        *("input_removed_at", "results_removed_at", "erased_at"),
    }
)
_CHANGING = [column.name for column in tasks.columns if column.name not in _ACCEPTED_ONCE]


@functools.lru_cache(maxsize=128)
def _settle_task(names: tuple[str, ...]) -> Prepared:
    """Return the statement that writes some columns of a task."""
    statement = (
        update(tasks).where(tasks.c.id == bindparam("of_task")).values({name: bindparam(name) for name in names})
    )
    # Without it, SQLite copies every page that the statement changes, because a table with a trigger may need to undo it alone.
    # A refused row ends the whole transaction here.
    return Prepared(statement.prefix_with("OR FAIL", dialect="sqlite"))


def _differing(before: Task, after: Task) -> list[str]:
    """Return the columns that a change writes. Most values of a changed task are those of the task before."""
    old, new = before.__dict__, after.__dict__
    return [name for name in _CHANGING if old[name] is not new[name] and old[name] != new[name]]


async def settle_tasks(connection: AsyncConnection, changes: Sequence[tuple[Task, Task]]) -> None:
    """Write changed tasks, with their next due times. The caller holds their row locks.

    Only columns in which one of the tasks differs are written: SQLite makes each index entry of a written column anew.

    :param changes: each task as it was locked, and as it is now
    """
    differing = {name for before, after in changes for name in _differing(before, after)}
    if differing:
        rows = [{**row_of(after), "of_task": after.id} for _, after in changes]
        await _settle_task(tuple(name for name in _CHANGING if name in differing)).many(connection, rows)


def _settle(table: Table, names: str) -> Any:
    return (
        update(table)
        .where(table.c.id == bindparam("of_row"), table.c.attempts == bindparam("of_attempt"))
        .values({name: bindparam(name) for name in names.split()})
    )


_SETTLE_CALLBACKS = Prepared(
    _settle(callbacks, "decision detail decided_at due_at upstream").where(callbacks.c.decision.is_(None))
)
_SETTLE_MESSAGES = Prepared(
    _settle(webhook_messages, "state delivered_at last_status last_error due_at schedule_from").where(
        webhook_messages.c.state == "pending"
    )
)
_CLAIM_ERASURES = (
    update(erasures)
    .where(erasures.c.request_id == bindparam("of_request"), erasures.c.due_at <= bindparam("now"))
    .values(due_at=bindparam("until"), attempts=erasures.c.attempts + 1)
    .returning(*erasures.c)
)
_HASTEN_ERASURES = (
    update(erasures)
    .where(erasures.c.request_id == bindparam("of_request"), erasures.c.due_at > bindparam("now"))
    .values(due_at=bindparam("now"))
)


async def claim_erasures_of(
    connection: AsyncConnection, request_id: UUID, *, now: datetime, until: datetime
) -> Sequence[Row[Any]]:
    """Claim the erasures of one request that are due, until a time."""
    given = {"of_request": request_id, "now": now, "until": until}
    return (await connection.execute(_CLAIM_ERASURES, given)).all()


async def hasten_erasures(connection: AsyncConnection, request_id: UUID, *, now: datetime) -> None:
    """Make the unfinished erasures of a request due now."""
    await connection.execute(_HASTEN_ERASURES, {"of_request": request_id, "now": now})


_SETTLE_ERASURES = _settle(erasures, "erased_at provider error due_at")


async def settle_erasures(connection: AsyncConnection, settled: Sequence[dict[str, Any]]) -> None:
    """Write how far erasures have come, unless another claim has been made since."""
    if settled:
        await connection.execute(_SETTLE_ERASURES, list(settled))


_SETTLE_ASSET = _settle(
    assets, "state object size sha256 media_type marked expires_at settled_at gone_since last_error due_at"
).returning(assets.c.id)


async def settle_asset(connection: AsyncConnection, settled: dict[str, Any]) -> bool:
    """Write what became of a copy; return False where another claim has been made since."""
    return (await connection.execute(_SETTLE_ASSET, settled)).first() is not None


async def settle_callbacks(connection: AsyncConnection, settled: Sequence[dict[str, Any]]) -> None:
    """Write the decisions on callbacks, unless another claim has been made since."""
    if settled:
        await _SETTLE_CALLBACKS.many(connection, settled)


async def rerun_callbacks(connection: AsyncConnection, ids: Collection[UUID], *, now: datetime) -> int:
    """Make decided callbacks due again, as if they had just come; return how many there were."""
    decided = update(callbacks).where(callbacks.c.id.in_(sorted(ids)), callbacks.c.decision.is_not(None))
    again = decided.values(decision=None, detail=None, decided_at=None, due_at=now, attempts=0)
    return int((await connection.execute(again)).rowcount)


async def settle_messages(connection: AsyncConnection, settled: Sequence[dict[str, Any]]) -> None:
    """Write the outcomes of delivery attempts, unless another claim has been made since."""
    if settled:
        await _SETTLE_MESSAGES.many(connection, settled)


_DISCARD = (
    update(webhook_messages)
    .where(webhook_messages.c.id.in_(bindparam("ids", expanding=True)), webhook_messages.c.state == "pending")
    .values(state="discarded", due_at=None, last_error=bindparam("reason"))
)


async def discard(connection: AsyncConnection, ids: Sequence[UUID], *, reason: str) -> None:
    """Discard messages that are pending."""
    if ids:
        await connection.execute(_DISCARD, {"ids": list(ids), "reason": reason})


_AGAIN = (
    update(webhook_messages)
    .where(webhook_messages.c.id.in_(bindparam("ids", expanding=True)), webhook_messages.c.state != "pending")
    .values(
        state="pending",
        due_at=bindparam("now"),
        replayed_at=bindparam("now"),
        delivered_at=None,
        schedule_from=webhook_messages.c.attempts,
    )
)
_HASTEN_MESSAGES = (
    update(webhook_messages)
    .where(webhook_messages.c.id.in_(bindparam("ids", expanding=True)))
    .where(webhook_messages.c.state == "pending", webhook_messages.c.due_at > bindparam("now"))
    .values(due_at=bindparam("now"))
)


async def replay(connection: AsyncConnection, ids: Sequence[UUID], *, now: datetime) -> None:
    """Make messages due now. Settled ones are pending again and begin their schedule anew."""
    if ids:
        await connection.execute(_HASTEN_MESSAGES, {"ids": list(ids), "now": now})
        await connection.execute(_AGAIN, {"ids": list(ids), "now": now})


async def release_leases(connection: AsyncConnection, *, now: datetime) -> None:
    """End the leases of a dead process.

    Only for the one process of a SQLite database, at its start: no other process can hold a lease. On PostgreSQL leases
    run out by themselves. A row that is due within a lease anyway becomes due a little early, which is harmless.
    """
    soon = now + timedelta(seconds=LEASE)
    await connection.execute(
        update(tasks).where(tasks.c.state == str(State.SUBMITTING), tasks.c.due_at > now).values(due_at=now)
    )
    for table in (tasks, callbacks, webhook_messages, submissions, erasures, assets):
        claimed = (table.c.attempts > 0, table.c.due_at > now, table.c.due_at <= soon)
        await connection.execute(update(table).where(*claimed).values(due_at=now))


_WATCH_JOB = (
    update(submissions).where(submissions.c.id == bindparam("of_submission")).values(due_at=bindparam("due_at"))
)


async def watch_jobs(connection: AsyncConnection, extra: Sequence[Submission]) -> None:
    """Write when duplicate jobs are checked next."""
    if extra:
        await connection.execute(_WATCH_JOB, [{"of_submission": each.id, "due_at": each.due_at} for each in extra])


_WATCH_AGAIN = (
    update(submissions)
    .where(submissions.c.task_id == bindparam("of_task"), submissions.c.outcome == "taken")
    .where(submissions.c.job_state.is_not(None), submissions.c.external_id.is_not(None))
    .values(due_at=bindparam("now"))
)


async def watch_jobs_again(connection: AsyncConnection, ids: Iterable[UUID], *, now: datetime) -> None:
    """Make the duplicate jobs of tasks due now, also those that have ended."""
    if wanted := [{"of_task": task_id, "now": now} for task_id in sorted(ids)]:
        await connection.execute(_WATCH_AGAIN, wanted)


_RELEASE_UNKNOWN = (
    update(tasks)
    .where(WAITING, tasks.c.waits_for.not_in(bindparam("known", expanding=True)))
    .values(due_at=bindparam("now"), waits_for=None)
)


async def release_unknown_waits(connection: AsyncConnection, known: Sequence[str], *, now: datetime) -> None:
    """Make tasks due now that wait for an upstream that is no longer configured."""
    await connection.execute(_RELEASE_UNKNOWN, {"known": list(known), "now": now})


_HASTEN = (
    update(tasks)
    .where(tasks.c.id == bindparam("of_task"), tasks.c.due_at > bindparam("now"))
    .where(DUE_POLL)
    .values(due_at=bindparam("now"))
)


async def hasten(connection: AsyncConnection, ids: Sequence[UUID], *, now: datetime) -> None:
    """Make the next poll of submitted tasks due now."""
    if ids:
        await connection.execute(_HASTEN, [{"of_task": of_task, "now": now} for of_task in ids])
