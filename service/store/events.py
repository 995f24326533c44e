"""SQL for events: the history of a task."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.events import Event
from service.domain.task import Source
from service.store import feed
from service.store.prepared import Prepared
from service.store.rows import row_of_value
from service.store.tables import events

_RECORD = Prepared(events.insert())
_OF_TASK = (
    select(events)
    .where(events.c.task_id == bindparam("of_task"), events.c.sequence > bindparam("after"))
    .order_by(events.c.sequence)
    .limit(bindparam("most"))
)


async def record(connection: AsyncConnection, happened: Sequence[Event]) -> None:
    """Append events."""
    if any(event.message is not None for event in happened):
        await feed.mark(connection)
    if happened:
        await _RECORD.many(connection, [{**row_of_value(event), "source": str(event.source)} for event in happened])


async def of_task(connection: AsyncConnection, task_id: UUID, *, after: int = 0, most: int = 1000) -> list[Event]:
    """Read a task's history, oldest first."""
    rows = await connection.execute(_OF_TASK, {"of_task": task_id, "after": after, "most": most})
    return [
        Event(
            task_id=row.task_id,
            client=row.client,
            sequence=row.sequence,
            type=row.type,
            message=row.message,
            source=Source(row.source),
            at=row.at,
            data=row.data,
        )
        for row in rows
    ]
