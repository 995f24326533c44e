"""SQL for provider callbacks, stored as they came before they are read."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Table, bindparam, case, func, literal, null, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.prepared import Prepared
from service.store.rows import row_of_value
from service.store.tables import callbacks, insert_for


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A callback as it was received, and the decision on it."""

    id: UUID
    submission_id: UUID
    headers: Mapping[str, str]
    body: bytes
    dedupe_key: bytes
    """Equal for equal bodies: a copy raises ``copies`` and makes no second row."""
    copies: int = 1
    received_at: datetime
    decision: str | None = None
    detail: str | None = None
    decided_at: datetime | None = None
    upstream: str | None = None
    """That of its submission, written with the decision; empty where the submission is not known."""
    due_at: datetime | None
    attempts: int = 0


_NOT_USED = ("forged", "unreadable", "unmatched", "parked")
"""Decisions that a later copy may change: with a fresh signature, or after an update of Dovecote."""


def _receiving(insert: Callable[[Table], Any]) -> Any:
    statement = insert(callbacks)
    new = statement.excluded
    # An OR chain: SQLAlchemy refuses an expanding list where many rows are written at once.
    again = or_(*(callbacks.c.decision == decision for decision in _NOT_USED))
    renewed = {
        "headers": new.headers,  # with them the signature
        "received_at": new.received_at,
        "due_at": new.received_at,  # the due time of a new row may be the lease of its first claim
        "decision": null(),
        "decided_at": null(),
        "attempts": literal(0),
    }
    return statement.on_conflict_do_update(
        index_elements=["submission_id", "dedupe_key"],
        set_={
            "copies": callbacks.c.copies + new.copies,
            **{name: case((again, value), else_=callbacks.c[name]) for name, value in renewed.items()},
        },
    ).returning(callbacks.c.id)


_RECEIVE = Prepared(insert_for(_receiving))


async def receive(connection: AsyncConnection, received: Sequence[Received]) -> list[bool]:
    """Insert callbacks; return for each whether it is new. A copy is counted; it is processed again if the first one was not used."""
    rows: dict[tuple[UUID, bytes], dict[str, Any]] = {}
    for callback in received:
        key = (callback.submission_id, callback.dedupe_key)
        if key in rows:
            rows[key]["copies"] += callback.copies
        else:
            rows[key] = row_of_value(callback)
    stored = {row.id for row in await _RECEIVE.rows_of_many(connection, list(rows.values()))}
    return [callback.id in stored for callback in received]


async def decided(connection: AsyncConnection, decision: str, *, most: int) -> list[Received]:
    """Read the last callbacks with a decision, newest first. It reads the whole table: for operators."""
    rows = await connection.execute(
        select(callbacks).where(callbacks.c.decision == decision).order_by(callbacks.c.id.desc()).limit(most)
    )
    return [Received(**row._mapping) for row in rows]  # noqa: SLF001 - the documented way to a row's names


async def of_submissions(connection: AsyncConnection, ids: Sequence[UUID]) -> list[Received]:
    """Read the callbacks of some submissions, oldest first."""
    rows = await connection.execute(
        select(callbacks).where(callbacks.c.submission_id.in_(list(ids))).order_by(callbacks.c.id)
    )
    return [Received(**row._mapping) for row in rows]  # noqa: SLF001 - the documented way to a row's names


_STORED = select(func.count(), func.coalesce(func.sum(func.length(callbacks.c.body)), 0)).where(
    callbacks.c.submission_id == bindparam("of_submission")
)


async def stored_for(connection: AsyncConnection, submission_id: UUID) -> tuple[int, int]:
    """Return the number of callbacks that are stored for a submission, and the bytes of their bodies."""
    count, size = (await connection.execute(_STORED, {"of_submission": submission_id})).one()
    return int(count), int(size)
