"""SQL for the feed of client events, in one order in which nothing appears behind a reader.

On PostgreSQL several processes write events at the same time, and numbers become visible in another order than that of
their assignment: see docs/decisions/0008.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, Select, Table, Text, bindparam, case, cast, func, select, text, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.task import State, Task
from service.store.tables import ANNOUNCED, events, feeds, insert_for, secrets, tasks
from service.store.tasks import task_of

MAX_FIELD: Final = 20_000
"""Characters of JSON above which a field of a task is not read: an input may hold whole pictures."""

_EMPTY: Final[dict[str, Any]] = {"input": {}, "options": {}, "results": [], "next_actions": []}
"""Fields that may be large, and their values where they are not read."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FeedItem:
    """One entry of a feed: an event that is announced, with its task."""

    id: int
    """Its position in the one order of all items."""
    type: str
    at: datetime
    sequence: int
    task: Task
    """As it is now, without large fields."""
    truncated: bool
    """Whether a large field was left out."""


def _unless_large(name: str) -> Any:
    column = tasks.c[name]
    if name not in _EMPTY:
        return column
    return case((func.length(cast(column, Text)) <= MAX_FIELD, column), else_=None).label(name)


_ALL_ITEMS = select(
    events.c.id.label("item_id"),
    events.c.message.label("item_type"),
    events.c.at.label("item_at"),
    events.c.sequence.label("item_sequence"),
    *(_unless_large(column.name) for column in tasks.columns),
).join(tasks, tasks.c.id == events.c.task_id)
_ITEMS = (
    _ALL_ITEMS.where(events.c.message.is_not(None), events.c.id > bindparam("after"))
    .order_by(events.c.id)
    .limit(bindparam("most"))
)
_ITEMS_OF_CLIENT = _ITEMS.where(events.c.client == bindparam("of_client"))
_ITEMS_OF_TASK = _ITEMS.where(events.c.task_id == bindparam("of_task"))


def _item_of(row: Row[Any]) -> FeedItem:
    kept = dict(row._mapping)  # noqa: SLF001 - the documented way to a row's names
    own = {name: kept.pop(f"item_{name}") for name in ("id", "type", "at", "sequence")}
    left_out = [name for name in _EMPTY if kept[name] is None]
    task = task_of({**kept, **{name: _EMPTY[name] for name in left_out}})
    return FeedItem(**own, task=task, truncated=bool(left_out))


async def of_client(
    connection: AsyncConnection, client: str, *, after: int, most: int, types: Sequence[str] = ()
) -> list[FeedItem]:
    """Read the items of a client, oldest first. They are complete up to :func:`horizon`, when it was read before."""
    given: dict[str, Any] = {"of_client": client, "after": after, "most": most}
    statement = _of_types(types) if types else _ITEMS_OF_CLIENT
    return [_item_of(row) for row in await connection.execute(statement, given)]


def _of_types(types: Sequence[str]) -> Select[Any]:
    """Select the items of some types: a page of each, merged, so that an index serves every one."""
    of_client = select(events.c.id).where(ANNOUNCED, events.c.client == bindparam("of_client"))
    of_client = of_client.where(events.c.id > bindparam("after")).order_by(events.c.id).limit(bindparam("most"))
    pages = [of_client.where(events.c.message == kind).subquery() for kind in sorted(set(types))]
    either = union_all(*(select(each) for each in pages)).subquery()
    first = select(either.c.id).order_by(either.c.id).limit(bindparam("most")).subquery()
    return _ALL_ITEMS.where(events.c.id.in_(select(first.c.id))).order_by(events.c.id)


async def of_task(connection: AsyncConnection, task_id: UUID, *, after: int, most: int) -> list[FeedItem]:
    """Read the items of a task, oldest first. They are complete: a writer holds the row of the task until the commit."""
    rows = await connection.execute(_ITEMS_OF_TASK, {"of_task": task_id, "after": after, "most": most})
    return [_item_of(row) for row in rows]


HISTORY: Final = "feed_history"
"""The name under which the database keeps the epochs of its cursors."""
_KEPT_HISTORY = select(secrets.c.value).where(secrets.c.name == HISTORY).scalar_subquery()
_STATE = select(tasks.c.state, tasks.c.client, _KEPT_HISTORY.label("history")).where(tasks.c.id == bindparam("of_task"))


@dataclasses.dataclass(frozen=True, slots=True)
class TaskFeed:
    """A task, for the readers of its feed."""

    state: State
    client: str
    history: str | None
    """The epochs of the cursors; None where there are none yet."""


async def about_task(connection: AsyncConnection, task_id: UUID, client: str | None) -> TaskFeed | None:
    """Read the state and the client of a task; None if there is none, or if it belongs to another client."""
    row = (await connection.execute(_STATE, {"of_task": task_id})).first()
    return (
        None if row is None or client not in {None, row.client} else TaskFeed(State(row.state), row.client, row.history)
    )


_NEWEST_OF_CLIENT = select(func.max(events.c.id)).where(
    events.c.message.is_not(None), events.c.client == bindparam("of_client"), events.c.id <= bindparam("until")
)


async def newest_of_client(connection: AsyncConnection, client: str, *, until: int) -> int:
    """Return the number of a client's newest item up to a number, also of a removed one; 0 where it has none."""
    kept = int(await connection.scalar(_NEWEST_OF_CLIENT, {"of_client": client, "until": until}) or 0)
    return kept or await pruned_to(connection, client)


_PRUNED_TO = select(feeds.c.pruned_to).where(feeds.c.client == bindparam("of_client"))


async def pruned_to(connection: AsyncConnection, client: str) -> int:
    """Return the number of a client's newest item that was removed; 0 where none was.

    Items that were read before this are complete after a position only where the position is not below this number.
    """
    return int(await connection.scalar(_PRUNED_TO, {"of_client": client}) or 0)


def _pruning(insert: Callable[[Table], Any]) -> Any:
    statement = insert(feeds)
    new = statement.excluded.pruned_to
    higher = case((new > feeds.c.pruned_to, new), else_=feeds.c.pruned_to)
    return statement.on_conflict_do_update(index_elements=["client"], set_={"pruned_to": higher})


_SET_PRUNED = insert_for(_pruning)


async def set_pruned(connection: AsyncConnection, numbers: Mapping[str, int]) -> None:
    """Set the numbers of the newest removed items, by client."""
    if numbers:
        rows = [{"client": client, "pruned_to": number} for client, number in sorted(numbers.items())]
        await connection.execute(_SET_PRUNED[connection.dialect.name], rows)


_HAS_ITEMS = select(events.c.id).where(events.c.task_id == bindparam("of_task"), events.c.message.is_not(None)).limit(1)


async def has_items(connection: AsyncConnection, task_id: UUID) -> bool:
    """Return whether any item of a task is kept."""
    return (await connection.execute(_HAS_ITEMS, {"of_task": task_id})).first() is not None


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """The task and the client of an event in the feed."""

    task_id: UUID
    client: str


_CHANGES = (
    select(events.c.task_id, events.c.client)
    .where(events.c.message.is_not(None), events.c.id > bindparam("after"))
    .order_by(events.c.id)
    .limit(bindparam("most"))
)


async def changes(connection: AsyncConnection, *, after: int, most: int) -> list[Change]:
    """Read the tasks and clients of the newest events."""
    rows = await connection.execute(_CHANGES, {"after": after, "most": most})
    return [Change(row.task_id, row.client) for row in rows]


# ── order ──────────────────────────────────────────────────────────────────────────────────────────────────────

_MARK = 0x0D0E
"""Distinguishes these advisory locks from others: the upper 16 bits of a lock's number."""
_MARKING = text(
    f"SELECT pg_advisory_xact_lock_shared(({_MARK}::bigint << 48) | CASE WHEN is_called THEN last_value ELSE 0 END) "  # noqa: S608 - a number of ours
    "FROM events_id_seq"
)
_HISTORY = f"(SELECT value FROM secrets WHERE name = '{HISTORY}') AS history"  # noqa: S608 - a name of ours
# The locks must be read after the number: the condition on `given.out` keeps any plan from reversing that.
_HORIZON = {
    "sqlite": text(f"SELECT (SELECT coalesce(max(id), 0) FROM events) AS until, {_HISTORY}"),  # noqa: S608 - a name of ours
    "postgresql": text(
        f"""
        SELECT coalesce(
            (SELECT min(((classid::bigint & 65535) << 32) | objid::bigint)
               FROM pg_locks
              WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >> 16 = {_MARK}
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND (((classid::bigint & 65535) << 32) | objid::bigint) <= given.out),
            given.out) AS until, {_HISTORY}
        FROM (SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS out FROM events_id_seq) AS given
        """  # noqa: S608 - a number and a name of ours
    ),
}


async def mark(connection: AsyncConnection) -> None:
    """Mark this transaction as one that writes feed events, with numbers above the last one assigned.

    Until it ends, :func:`horizon` stays below them. The lock is shared and is only read, so nothing waits for it.
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(_MARKING)


async def horizon(connection: AsyncConnection) -> int:
    """Return the number up to which the feed is complete for later statements: nothing will appear at or below it."""
    until, _ = await horizon_and_history(connection)
    return until


async def horizon_and_history(connection: AsyncConnection) -> tuple[int, str | None]:
    """Return the horizon, and the epochs of the cursors; None where there are none yet."""
    row = (await connection.execute(_HORIZON[connection.dialect.name])).one()
    return int(row.until or 0), row.history


_NEWEST = {
    "sqlite": text("SELECT coalesce(max(id), 0) FROM events"),
    "postgresql": text("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM events_id_seq"),
}


async def newest(connection: AsyncConnection) -> int:
    """Return the highest number that an event may have."""
    return int(await connection.scalar(_NEWEST[connection.dialect.name]) or 0)
