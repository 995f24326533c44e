"""Queries that check whether the database can be used, and which processes use it."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final, Literal

from sqlalchemy import bindparam, delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.flows import Flow, last_seen, stored
from service.store import faults
from service.store.database import Database, StoreUnavailable
from service.store.tables import (
    DUE,
    DUE_POLL,
    DUE_SUBMIT,
    assets,
    callbacks,
    insert_for,
    processes,
    submissions,
    tasks,
    webhook_messages,
)

FORGET_AFTER: Final = timedelta(days=1)
"""How long the row of a process is kept after its last heartbeat."""

MAX_QUEUE_AGE: Final = 60.0
"""Seconds for which a row may be due before a warning says so."""

_NO_ROW = text("UPDATE secrets SET value = value WHERE name = ''")


async def why_not_writable(database: Database) -> str | None:
    """Update no row and roll back; return None if a write is possible, else the reason."""
    try:
        async with database.writing() as connection:
            await connection.execute(_NO_ROW)
            await connection.rollback()
    except StoreUnavailable as error:
        return str(error)
    return None


def reason_of(error: BaseException) -> str:
    """Return in one sentence what went wrong with the database."""
    return str(error) if isinstance(error, StoreUnavailable) else faults.explain(error).sentence


_BEAT = insert_for(
    lambda insert: insert(processes).on_conflict_do_update(
        index_elements=["name"],
        set_={"seen_at": insert(processes).excluded.seen_at, "flows": insert(processes).excluded.flows},
    )
)
_FORGET = delete(processes).where(processes.c.seen_at < bindparam("before"))
_LAST_WORKER = select(func.max(processes.c.seen_at)).where(processes.c.role == "worker")
_WORKERS = (
    select(processes.c.flows, func.max(processes.c.seen_at))
    .where(processes.c.role == "worker")
    .group_by(processes.c.flows)
)


async def beat(
    connection: AsyncConnection,
    name: str,
    role: Literal["web", "worker"],
    *,
    now: datetime,
    flows: Collection[Flow] | None = None,
) -> None:
    """Write that a process is alive. This is a real write: it fails when the disk is full.

    :param flows: those of a worker; None: all
    """
    row = {"name": name, "role": role, "seen_at": now, "flows": None if flows is None else stored(flows)}
    await connection.execute(_BEAT[connection.dialect.name], row)
    await connection.execute(_FORGET, {"before": now - FORGET_AFTER})


async def last_worker(connection: AsyncConnection) -> datetime | None:
    """Return when a worker was last alive; None if there was none."""
    seen: datetime | None = await connection.scalar(_LAST_WORKER)
    return seen


async def last_workers(connection: AsyncConnection) -> dict[Flow, datetime]:
    """Return when a worker of each flow was last alive; a flow without any worker is missing."""
    return last_seen((row[0], row[1]) for row in await connection.execute(_WORKERS))


_OLDEST = select(
    *(
        select(func.min(table.c.due_at)).where(which).scalar_subquery().label(name)
        for name, table, which in (
            ("submissions", tasks, DUE_SUBMIT),
            ("polls", tasks, DUE_POLL),
            ("callbacks", callbacks, DUE),
            ("webhooks", webhook_messages, DUE),
            ("duplicates", submissions, DUE),
            ("results", assets, DUE),
        )
    )
)


async def queue_ages(connection: AsyncConnection, *, now: datetime) -> dict[str, float]:
    """Return for how many seconds the oldest row of each queue has been due; 0 where none is."""
    row = (await connection.execute(_OLDEST)).one()
    ages = {name: 0.0 if due is None else (now - due).total_seconds() for name, due in row._asdict().items()}
    return {name: max(age, 0.0) for name, age in ages.items()}


def queue_warnings(ages: Mapping[str, float]) -> list[str]:
    """Return a sentence about each queue whose oldest row has been due for too long."""
    late = {name: age for name, age in ages.items() if age > MAX_QUEUE_AGE}
    return [f"the oldest of the due {name} has waited for {age:.0f} s" for name, age in late.items()]
