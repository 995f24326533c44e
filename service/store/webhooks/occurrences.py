"""Statements on operator_occurrences: what operators have been told of, so that it is reported once over all processes."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Table, bindparam, delete
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.tables import insert_for, operator_occurrences


def _beginning(insert: Callable[[Table], Any]) -> Any:
    statement = insert(operator_occurrences)
    return statement.on_conflict_do_update(
        index_elements=["type", "subject"],
        set_={"reported_at": statement.excluded.reported_at},
        where=operator_occurrences.c.reported_at <= bindparam("before", type_=operator_occurrences.c.reported_at.type),
    ).returning(operator_occurrences.c.type)


_BEGIN = insert_for(_beginning)
_END = delete(operator_occurrences).where(
    operator_occurrences.c.type == bindparam("of_type"), operator_occurrences.c.subject == bindparam("of_subject")
)
_END_OTHERS = delete(operator_occurrences).where(
    operator_occurrences.c.type == bindparam("of_type"),
    operator_occurrences.c.subject.not_in(bindparam("subjects", expanding=True)),
)
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


async def begin(
    connection: AsyncConnection, kind: str, subject: str, *, now: datetime, again_after: float | None
) -> bool:
    """Note that something has happened; return whether it is to be reported: it is new, or its last report is old.

    :param again_after: seconds; None: it is not reported again until :func:`end`
    """
    before = _NEVER if again_after is None else now - timedelta(seconds=again_after)
    row = {"type": kind, "subject": subject, "reported_at": now, "before": before}
    return (await connection.execute(_BEGIN[connection.dialect.name], row)).first() is not None


async def end(connection: AsyncConnection, kind: str, subject: str) -> bool:
    """Note that it has ended, so that the next time is reported again; return whether it was known."""
    done = await connection.execute(_END, {"of_type": kind, "of_subject": subject})
    return bool(done.rowcount)


async def end_others(connection: AsyncConnection, kind: str, subjects: Collection[str]) -> None:
    """Note that the occurrences of a kind about all other subjects have ended."""
    await connection.execute(_END_OTHERS, {"of_type": kind, "subjects": list(subjects)})
