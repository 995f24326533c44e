"""SQL for requests that are repeated without an idempotency key: the tasks of equal requests, and notes on repeats.

The key of such a task is the fingerprint of its request and a number, so its index finds the latest at once, and two
processes never make two tasks of one number.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.repeats import Earlier
from service.domain.task import ENDED
from service.store.tables import insert_for, repeats, tasks

_DIGITS = 8
_LAST = 10**_DIGITS - 1
_MOST = 50


def key_of(fingerprint: str, generation: int) -> str:
    """Return the idempotency key of a task."""
    return f"door {fingerprint} {min(generation, _LAST):0{_DIGITS}d}"


_EQUAL = (
    select(
        tasks.c.id,
        tasks.c.idempotency_key,
        tasks.c.created_at,
        tasks.c.finished_at,
        tasks.c.state,
        repeats.c.seen_at,
        repeats.c.attempt,
        repeats.c.cut_off,
    )
    .outerjoin(repeats, repeats.c.task_id == tasks.c.id)
    .where(
        tasks.c.client == bindparam("client"),
        tasks.c.idempotency_key >= bindparam("first"),
        tasks.c.idempotency_key <= bindparam("last"),
    )
    .order_by(tasks.c.idempotency_key.desc())
    .limit(_MOST)
)


async def of_fingerprint(connection: AsyncConnection, client: str, fingerprint: str) -> list[Earlier]:
    """Read the latest tasks that equal requests of a client have made, newest first."""
    keys = {"client": client, "first": key_of(fingerprint, 0), "last": key_of(fingerprint, _LAST)}
    return [_earlier(row) for row in await connection.execute(_EQUAL, keys)]


def _earlier(row: Any) -> Earlier:
    moments = [each for each in (row.created_at, row.seen_at, row.finished_at) if each is not None]
    return Earlier(
        task_id=row.id,
        generation=int(row.idempotency_key[-_DIGITS:]),
        created_at=row.created_at,
        seen_at=max(moments),
        attempt=row.attempt or 0,
        cut_off=bool(row.cut_off),
        is_open=row.state not in ENDED,
    )


def _upsert(insert: Any) -> Any:
    statement = insert(repeats)
    new = statement.excluded
    highest = func.max if insert.__module__.endswith("sqlite.dml") else func.greatest
    return statement.on_conflict_do_update(
        index_elements=["task_id"],
        set_={"seen_at": new.seen_at, "attempt": highest(repeats.c.attempt, new.attempt), "cut_off": new.cut_off},
    )


_NOTE = insert_for(_upsert)


async def note(
    connection: AsyncConnection, task_id: UUID, *, seen_at: datetime, attempt: int = 0, cut_off: bool = False
) -> None:
    """Write that an equal request got a task, or that the answer to its own was cut off."""
    row = {"task_id": task_id, "seen_at": seen_at, "attempt": attempt, "cut_off": cut_off}
    await connection.execute(_NOTE[connection.dialect.name], row)
