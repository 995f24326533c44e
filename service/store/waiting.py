"""SQL for queued tasks that wait for an upstream: their order and reasons, and the clients that each upstream serves now."""

import functools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Integer, Select, Table, bindparam, cast, func, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.prepared import Prepared
from service.store.tables import OCCUPIES_SLOT, WAITING, insert_for, served_clients, tasks


@functools.lru_cache(maxsize=64)
def _awaited(keys: tuple[str, ...]) -> Prepared:
    """Select those of some keys that a task waits for. The keys are those of the configured upstreams, always the same."""
    return Prepared(union_all(*map(_key_if_awaited, keys)))


def _key_if_awaited(key: str) -> Select[Any]:
    # Not "exists": PostgreSQL would read the table for it, through all that has ended, sure to find one soon.
    first = select(func.min(tasks.c.client)).where(tasks.c.waits_for == key, WAITING)
    return select(literal(key).label("key")).where(first.scalar_subquery().is_not(None))


async def awaited(connection: AsyncConnection, keys: Iterable[str]) -> set[str]:
    """Return those of the keys that some task waits for."""
    asked = tuple(keys)
    if not asked:
        return set()
    return {row.key for row in await _awaited(asked).rows(connection, {})}


_FIRST_CLIENT = select(func.min(tasks.c.client).label("client")).where(tasks.c.waits_for == bindparam("key"), WAITING)
_CLIENTS = _FIRST_CLIENT.cte("clients", recursive=True)
_NEXT_CLIENT = (
    select(func.min(tasks.c.client))
    .where(tasks.c.waits_for == bindparam("key"), WAITING, tasks.c.client > _CLIENTS.c.client)
    .correlate(_CLIENTS)
    .scalar_subquery()
)
# Step from one client to the next in the index, independent of the number of waiting tasks.
_CLIENTS = _CLIENTS.union_all(select(_NEXT_CLIENT).where(_CLIENTS.c.client.is_not(None)))
_ALL_CLIENTS = select(_CLIENTS.c.client).where(_CLIENTS.c.client.is_not(None))
_FIRST_OF_CLIENT = (
    select(tasks.c.id)
    .where(tasks.c.waits_for == bindparam("key"), WAITING, tasks.c.client == bindparam("of_client"))
    .order_by(tasks.c.id)
    .limit(bindparam("most"))
)
_NTH_OF_CLIENT = _FIRST_OF_CLIENT.with_only_columns(tasks.c.id).limit(1).offset(bindparam("before"))
_WAITING_BY_CLIENT = (
    select(tasks.c.client, func.count()).where(tasks.c.waits_for == bindparam("key"), WAITING).group_by(tasks.c.client)
)
_BEFORE = select(func.count()).where(
    tasks.c.waits_for == bindparam("key"),
    WAITING,
    tasks.c.client == bindparam("of_client"),
    tasks.c.id < bindparam("task_id"),
)


async def first_of_each_client(connection: AsyncConnection, key: str, *, most: int) -> dict[str, list[UUID]]:
    """Read the first waiting tasks of every client, oldest first."""
    clients = (await connection.scalars(_ALL_CLIENTS, {"key": key})).all()
    return {
        client: list(
            (await connection.scalars(_FIRST_OF_CLIENT, {"key": key, "of_client": client, "most": most})).all()
        )
        for client in clients
    }


async def nth_of_client(connection: AsyncConnection, key: str, client: str, before: int) -> UUID | None:
    """Read the waiting task of a client that has so many of its own before it."""
    found: UUID | None = await connection.scalar(_NTH_OF_CLIENT, {"key": key, "of_client": client, "before": before})
    return found


async def count_by_client(connection: AsyncConnection, key: str) -> dict[str, int]:
    """Count the waiting tasks of each client."""
    return {row[0]: row[1] for row in await connection.execute(_WAITING_BY_CLIENT, {"key": key})}


async def count_before(connection: AsyncConnection, key: str, client: str, task_id: UUID) -> int:
    """Count the client's own tasks that wait before one."""
    where = {"key": key, "of_client": client, "task_id": task_id}
    return int(await connection.scalar(_BEFORE, where) or 0)


_SERVED = (
    select(tasks.c.upstream, tasks.c.client, cast(func.count(), Integer))
    .where(OCCUPIES_SLOT, tasks.c.upstream.in_(bindparam("names", expanding=True)))
    .group_by(tasks.c.upstream, tasks.c.client)
)


_SERVED_AT = select(served_clients.c.client, served_clients.c.served_at).where(
    served_clients.c.upstream == bindparam("of_upstream"),
    served_clients.c.client.in_(bindparam("clients", expanding=True)),
)


def _recording(insert: Callable[[Table], Any]) -> Any:
    statement = insert(served_clients)
    new = statement.excluded.served_at
    return statement.on_conflict_do_update(index_elements=["upstream", "client"], set_={"served_at": new})


_RECORD = insert_for(_recording)


async def served_at(connection: AsyncConnection, upstream: str, clients: Collection[str]) -> dict[str, datetime]:
    """Return when some clients were served last by an upstream; a client without a record is left out."""
    if not clients:
        return {}
    rows = await connection.execute(_SERVED_AT, {"of_upstream": upstream, "clients": sorted(clients)})
    return {row.client: row.served_at for row in rows}


async def record_served(connection: AsyncConnection, clients: Collection[tuple[str, str]], *, at: datetime) -> None:
    """Write that clients were served by upstreams, whose rows the caller has locked."""
    if clients:
        rows = [{"upstream": upstream, "client": client, "served_at": at} for upstream, client in sorted(clients)]
        await connection.execute(_RECORD[connection.dialect.name], rows)


async def served_by_client(connection: AsyncConnection, names: Collection[str]) -> dict[str, dict[str, int]]:
    """Count the tasks that occupy a slot, by upstream and client."""
    counted: dict[str, dict[str, int]] = defaultdict(dict)
    if names:
        for upstream, client, count in await connection.execute(_SERVED, {"names": sorted(names)}):
            counted[upstream][client] = count
    return counted
