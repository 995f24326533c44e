"""Statements on time: the database's clock, and the effect of its jumps on stored times."""

import datetime as dt
from collections.abc import Mapping
from typing import Final

from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.tables import UtcTime, events, secrets

_MARK: Final = "clock_jump"
_SAME_JUMP: Final = dt.timedelta(minutes=5)
"""Processes that notice one jump at different moments store it once."""

LATE_WRITES: Final = dt.timedelta(minutes=2)
"""How far beyond a jump back the old clock's due times lie that work in flight may still write."""

_WAITS: Final[Mapping[str, str]] = {
    "tasks": "due_at",
    "callbacks": "due_at",
    "webhook_messages": "due_at",
    "submissions": "due_at retry_at",
    "assets": "due_at",
    "circuits": "open_until probe_until",
    "upstreams": "submit_slot_at poll_slot_at",
    "leases": "until",
    "erasures": "due_at",
}
"""Times that something waits for."""
_AGES: Final[Mapping[str, tuple[str, str]]] = {
    "tasks": ("deadline_at unconfirmed_since missing_since answered_at", "finished_at IS NULL"),
    "circuits": ("opened_at", "opened_at IS NOT NULL"),
    "assets": ("created_at gone_since", "state = 'pending'"),
    "webhook_endpoints": ("failing_since failed_at", "failing_since IS NOT NULL"),
}
"""Times from which an age is counted, or that were set as an age; and the rows for which they still matter."""

_DATABASE_TIME = text("SELECT extract(epoch FROM clock_timestamp())")
_NEWEST_EVENT = select(events.c.at).order_by(events.c.id.desc()).limit(1)
_READ_MARK = select(secrets.c.created_at).where(secrets.c.name == _MARK)
_WRITE_MARK = insert(secrets)
_WRITE_MARK = _WRITE_MARK.on_conflict_do_update(
    index_elements=["name"], set_={"created_at": _WRITE_MARK.excluded.created_at}
)
_LOCK = text("SELECT pg_advisory_xact_lock(:number)")
_LOCK_NUMBER: Final = 0x0D0_C10C4


async def read_database_time(connection: AsyncConnection) -> float:
    """Return the time of a PostgreSQL server, in seconds since 1970."""
    return float((await connection.execute(_DATABASE_TIME)).scalar_one())


async def read_newest_event_time(connection: AsyncConnection) -> dt.datetime | None:
    """Return the time of the newest event, by which a clock that was set back shows."""
    newest: dt.datetime | None = (await connection.execute(_NEWEST_EVENT)).scalar()
    return newest


async def shift(connection: AsyncConnection, *, before: dt.datetime, after: dt.datetime) -> bool:
    """Move stored times as if the clock had not jumped; return False when another process has already done so.

    A wait keeps its length. A due row stays due. Deadlines of open tasks keep their distance, so that no task expires because
    of a jump.

    :param before: the time by the old clock
    :param after: the same moment by the new clock
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(_LOCK, {"number": _LOCK_NUMBER})
        handled: dt.datetime | None = (await connection.execute(_READ_MARK)).scalar()
        if handled is not None and abs(handled - after) < _SAME_JUMP:
            return False
        row = {"name": _MARK, "value": "", "created_at": after}
        await connection.execute(_WRITE_MARK, row)
    for table, names in _WAITS.items():
        for name in names.split():
            await _shift_waits(connection, table, name, before, after)
    for table, (names, rows) in _AGES.items():
        moved = ", ".join(f"{name} = {_moved(connection.dialect.name, name)}" for name in names.split())
        await connection.execute(text(f"UPDATE {table} SET {moved} WHERE {rows}"), {"by": _by(before, after)})  # noqa: S608 - our own names
    return True


async def pull_back(connection: AsyncConnection, *, before: dt.datetime, after: dt.datetime) -> None:
    """After a jump back, move due times that work in flight has written by the old clock.

    :param before: the time of the jump by the old clock
    :param after: the same moment by the new clock
    """
    for table, names in _WAITS.items():
        for name in names.split():
            statement = f"UPDATE {table} SET {name} = {_moved(connection.dialect.name, name)} WHERE {name} BETWEEN :first AND :last"  # noqa: S608 - our own names
            typed = text(statement).bindparams(bindparam("first", type_=UtcTime), bindparam("last", type_=UtcTime))
            times = {"first": before, "last": before + LATE_WRITES, "by": _by(before, after)}
            await connection.execute(typed, times)


async def _shift_waits(
    connection: AsyncConnection, table: str, name: str, before: dt.datetime, after: dt.datetime
) -> None:
    """Move the times after ``before`` by the jump. After a jump back, make rows due that were due before it."""
    moved = _moved(connection.dialect.name, name)
    if after < before:
        moved = f"CASE WHEN {name} <= :before THEN :after ELSE {moved} END"
    statement = text(f"UPDATE {table} SET {name} = {moved} WHERE {name} > :least").bindparams(  # noqa: S608 - our own names
        *(bindparam(each, type_=UtcTime) for each in (("before", "after", "least") if after < before else ("least",)))
    )
    times = {"before": before, "after": after} if after < before else {}
    await connection.execute(statement, {**times, "least": min(before, after), "by": _by(before, after)})


def _moved(dialect: str, name: str) -> str:
    if dialect == "postgresql":
        return f"{name} + make_interval(secs => :by)"
    return f"{name} + CAST(:by * 1000000 AS INTEGER)"


def _by(before: dt.datetime, after: dt.datetime) -> float:
    return (after - before).total_seconds()
