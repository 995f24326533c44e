"""The due work of a database, read in one query. A journey without due work is not run, because it costs a write."""

import dataclasses
import datetime as dt
from collections.abc import Mapping

from sqlalchemy import exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store import tables

_QUEUES = {
    "submit": (tables.tasks.c.due_at, tables.DUE_SUBMIT),
    "poll": (tables.tasks.c.due_at, tables.DUE_POLL),
    "webhooks": (tables.webhook_messages.c.due_at, tables.DUE),
    "erasures": (tables.erasures.c.due_at, tables.DUE),
    "duplicates": (tables.submissions.c.due_at, tables.DUE),
    "callbacks": (tables.callbacks.c.due_at, tables.DUE),
    "results": (tables.assets.c.due_at, tables.DUE),
}
"""By journey: when its rows are due, and which rows are in its queue."""
_READ = select(
    *(select(func.min(due_at)).where(rows).scalar_subquery().label(name) for name, (due_at, rows) in _QUEUES.items()),
    exists().where(tables.WAITING).select_from(tables.tasks).label("waiting"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Due:
    """When each journey has something to do next."""

    at: Mapping[str, dt.datetime | None]
    """By journey, in the order in which they run."""
    waiting: bool
    """Whether tasks wait for an upstream."""

    def journeys(self, now: dt.datetime) -> list[str]:
        """Return the journeys that could find something now."""
        due = [name for name, at in self.at.items() if at is not None and at <= now]
        return due if not self.waiting or "submit" in due else ["submit", *due]

    def moments(self) -> list[dt.datetime]:
        """Return when a task, a callback or a message is due next."""
        return [at for name, at in self.at.items() if at is not None and name != "duplicates"]


async def read_due(connection: AsyncConnection) -> Due:
    row = (await connection.execute(_READ)).one()
    return Due({name: getattr(row, name) for name in _QUEUES}, bool(row.waiting))
