"""Queries that check whether the database can be used, and which processes use it."""

from datetime import datetime, timedelta
from typing import Final, Literal

from sqlalchemy import bindparam, delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store import faults
from service.store.database import Database, StoreUnavailable
from service.store.tables import insert_for, processes

FORGET_AFTER: Final = timedelta(days=1)
"""How long the row of a process is kept after its last heartbeat."""

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
        index_elements=["name"], set_={"seen_at": insert(processes).excluded.seen_at}
    )
)
_FORGET = delete(processes).where(processes.c.seen_at < bindparam("before"))
_LAST_WORKER = select(func.max(processes.c.seen_at)).where(processes.c.role == "worker")


async def beat(connection: AsyncConnection, name: str, role: Literal["web", "worker"], *, now: datetime) -> None:
    """Write that a process is alive. This is a real write: it fails when the disk is full."""
    await connection.execute(_BEAT[connection.dialect.name], {"name": name, "role": role, "seen_at": now})
    await connection.execute(_FORGET, {"before": now - FORGET_AFTER})


async def last_worker(connection: AsyncConnection) -> datetime | None:
    """Return when a worker was last alive; None if there was none."""
    seen: datetime | None = await connection.scalar(_LAST_WORKER)
    return seen
