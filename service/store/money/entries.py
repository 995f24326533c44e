"""SQL for the entries of the ledger: settlements and corrections. An entry is written once and never changed."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, and_, bindparam, delete, exists, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.money.amounts import plain
from service.domain.money.settlement import Entry
from service.domain.task import Task
from service.store.money import label_sums
from service.store.prepared import Prepared
from service.store.tables import CURRENT, UtcTime, claims, insert_for, money_entries, tasks

_INSERT = Prepared(insert_for(lambda insert: insert(money_entries).on_conflict_do_nothing(index_elements=["key"])))
_SUPERSEDE = (
    update(money_entries)
    .where(money_entries.c.key == bindparam("of_key"), money_entries.c.superseded_at.is_(None))
    .values(superseded_at=bindparam("at"))
)
_OF_SUBMISSIONS = select(money_entries).where(
    money_entries.c.submission_id.in_(bindparam("ids", expanding=True)), money_entries.c.superseded_at.is_(None)
)
_TASK_IS_KEPT = exists().where(tasks.c.id == money_entries.c.task_id)
_OF_SUBMISSION = or_(
    money_entries.c.key == bindparam("first"),
    and_(money_entries.c.key >= bindparam("from"), money_entries.c.key < bindparam("until")),
)


async def insert(connection: AsyncConnection, booked: Sequence[tuple[Entry, Task]], *, at: datetime) -> None:
    """Insert entries. The entry that one corrects stays, and does not count any more."""
    if not booked:
        return
    for entry, _ in booked:
        if entry.previous is not None:
            await connection.execute(_SUPERSEDE, {"of_key": entry.previous, "at": at})
    await _INSERT.many(connection, [_row(entry, task) for entry, task in booked])


def _row(entry: Entry, task: Task) -> dict[str, Any]:
    settled = entry.settlement
    return {
        "key": entry.key,
        "submission_id": entry.submission_id,
        "task_id": task.id,
        "client": task.client,
        "family": task.family,
        "operation": task.operation,
        "model": task.model,
        "upstream": entry.upstream,
        "dialect": entry.dialect,
        "external_id": task.external_id
        if task.submission_id == entry.submission_id
        else entry.evidence.get("external_id"),
        "labels": dict(task.labels),
        "verdict": settled.verdict,
        "basis": settled.basis,
        "amount": settled.amount,
        "gross": settled.gross,
        "unit": settled.unit,
        "change": entry.change,
        "quoted": entry.quoted,
        "quoted_max": entry.quoted_max,
        "usd": None if entry.usd is None else plain(entry.usd),
        "computed": settled.computed,
        "delivered": settled.delivered,
        "reason": settled.reason,
        "source": entry.source,
        "evidence": dict(entry.evidence),
        "corrects": entry.previous,
        "purchased_at": entry.purchased_at,
        "booked_at": entry.booked_at,
        "superseded_at": None,
    }


async def current(connection: AsyncConnection, submissions: Collection[UUID]) -> dict[UUID, Any]:
    """Read the entries of submissions that count."""
    rows = await connection.execute(_OF_SUBMISSIONS, {"ids": sorted(submissions)})
    return {row.submission_id: row for row in rows}


_OLD = (
    select(
        money_entries.c.purchased_at, money_entries.c.id, money_entries.c.submission_id, _TASK_IS_KEPT.label("is_kept")
    )
    .where(CURRENT, money_entries.c.purchased_at < bindparam("before", type_=UtcTime))
    .where(
        tuple_(money_entries.c.purchased_at, money_entries.c.id)
        > tuple_(bindparam("since", type_=UtcTime), bindparam("last", type_=BigInteger()))
    )
    .order_by(money_entries.c.purchased_at, money_entries.c.id)
    .limit(bindparam("most"))
)
_REMOVE = delete(money_entries).where(_OF_SUBMISSION)
_REMOVE_CLAIMS = delete(claims).where(claims.c.submission_id.in_(bindparam("ids", expanding=True)))
_REMOVE_LABELS = update(money_entries).where(_OF_SUBMISSION).values(labels={})


def _keys(submission_id: UUID) -> dict[str, str]:
    """Return the bounds of the keys of a submission's entries, which begin with its id."""
    return {"first": f"set:{submission_id}", "from": f"cor:{submission_id}:", "until": f"cor:{submission_id};"}


async def remove_old(
    connection: AsyncConnection, *, before: datetime, after: tuple[datetime, int], most: int
) -> tuple[int, int, tuple[datetime, int]]:
    """Remove the entries of some submissions of removed tasks, with those that they corrected and their claims.

    :param after: the position of the last entry that was examined
    :returns: how many were examined, how many submissions were removed, and the next position
    """
    since, last = after
    rows = (await connection.execute(_OLD, {"before": before, "since": since, "last": last, "most": most})).all()
    removed = [row.submission_id for row in rows if not row.is_kept]
    if removed:
        await connection.execute(_REMOVE, [_keys(each) for each in removed])
        await connection.execute(_REMOVE_CLAIMS, {"ids": removed})
    return len(rows), len(removed), (rows[-1].purchased_at, rows[-1].id) if rows else after


async def remove_labels(connection: AsyncConnection, submissions: Collection[UUID]) -> None:
    """Remove the labels from the entries of submissions, and from kept sums. What was paid stays."""
    if submissions:
        await label_sums.remove_of(connection, submissions)
        await connection.execute(_REMOVE_LABELS, [_keys(each) for each in submissions])
