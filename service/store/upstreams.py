"""Statements on upstreams: what may pass to each, who stands in line, and who is being served."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Integer,
    Select,
    Table,
    bindparam,
    cast,
    delete,
    func,
    literal,
    or_,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.circuit_breaker import Circuit
from service.store.tables import circuits, tasks, upstreams

SERVED = text("state IN ('submitting', 'submitted', 'running')")
WAITING = text("waits_for IS NOT NULL")

Key = tuple[str, str]
"""An upstream and a dialect."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """What all processes share about an upstream."""

    name: str
    submit_slot_at: datetime | None = None
    """When the next submit fits into what it is given in a second."""
    poll_slot_at: datetime | None = None
    credit: float | None = None
    """What was left on the account at ``credit_at``."""
    credit_unit: str | None = None
    credit_error: str | None = None
    """Why the credit could not be asked for."""
    credit_at: datetime | None = None


def _both(statement: Callable[[Callable[[Table], Any]], Any]) -> dict[str, Any]:
    return {"sqlite": statement(insert_sqlite), "postgresql": statement(insert_postgresql)}


_KNOW = _both(lambda insert: insert(upstreams).on_conflict_do_nothing())
_MEET = _both(lambda insert: insert(circuits).on_conflict_do_nothing())
_LOCK = (
    select(upstreams)
    .where(upstreams.c.name.in_(bindparam("names", expanding=True)))
    .order_by(upstreams.c.name)
    .with_for_update()
)
_SLOT = update(upstreams).where(upstreams.c.name == bindparam("of_upstream"))
_SUBMIT_SLOT = _SLOT.values(submit_slot_at=bindparam("slot_at"))
_POLL_SLOT = _SLOT.values(poll_slot_at=bindparam("slot_at"))
_CREDIT = _SLOT.values({name: bindparam(name) for name in ("credit", "credit_unit", "credit_error", "credit_at")})


async def lock(connection: AsyncConnection, names: Collection[str]) -> dict[str, Upstream]:
    """Read upstreams and keep other processes from letting anything pass to them until the transaction ends."""
    if not names:
        return {}
    await connection.execute(_KNOW[connection.dialect.name], [{"name": name} for name in sorted(names)])
    rows = await connection.execute(_LOCK, {"names": sorted(names)})
    return {row.name: Upstream(**row._mapping) for row in rows}  # noqa: SLF001 - the documented way to a row's names


async def all_known(connection: AsyncConnection) -> dict[str, Upstream]:
    """Read every upstream that something is kept about."""
    rows = await connection.execute(select(upstreams))
    return {row.name: Upstream(**row._mapping) for row in rows}  # noqa: SLF001 - the documented way to a row's names


async def move_submit_slot(connection: AsyncConnection, name: str, slot_at: datetime) -> None:
    """Write when the next submit to a locked upstream fits."""
    await connection.execute(_SUBMIT_SLOT, {"of_upstream": name, "slot_at": slot_at})


async def move_poll_slot(connection: AsyncConnection, name: str, slot_at: datetime) -> None:
    """Write when the next poll of a locked upstream fits."""
    await connection.execute(_POLL_SLOT, {"of_upstream": name, "slot_at": slot_at})


_CLAIM_CREDIT = (
    update(upstreams)
    .where(upstreams.c.name == bindparam("of_upstream"))
    .where(or_(upstreams.c.credit_at.is_(None), upstreams.c.credit_at <= bindparam("before")))
    .values(credit_at=bindparam("now"))
    .returning(*upstreams.c)
)


async def claim_credit(
    connection: AsyncConnection, names: Sequence[str], *, now: datetime, before: datetime
) -> list[Upstream]:
    """Take the upstreams that nobody has asked for credit since a time: one process gets each. Give what is known of it."""
    await connection.execute(_KNOW[connection.dialect.name], [{"name": name} for name in sorted(names)])
    claimed: list[Upstream] = []
    for name in sorted(names):  # in the order in which others lock them, so that none deadlocks
        rows = await connection.execute(_CLAIM_CREDIT, {"of_upstream": name, "now": now, "before": before})
        claimed += [Upstream(**row._mapping) for row in rows]  # noqa: SLF001 - the documented way to a row's names
    return claimed


async def keep_credit(connection: AsyncConnection, found: Sequence[Upstream]) -> list[None]:
    """Write what is left on accounts."""
    ordered = sorted(found, key=lambda each: each.name)
    await connection.execute(_KNOW[connection.dialect.name], [{"name": each.name} for each in ordered])
    await connection.execute(
        _CREDIT,
        [
            {
                "of_upstream": each.name,
                "credit": each.credit,
                "credit_unit": each.credit_unit,
                "credit_error": each.credit_error,
                "credit_at": each.credit_at,
            }
            for each in ordered
        ],
    )
    return [None] * len(found)


_ALL_CIRCUITS = select(circuits)
_ONE_CIRCUIT = (
    select(circuits)
    .where(circuits.c.upstream == bindparam("of_upstream"), circuits.c.dialect == bindparam("in_dialect"))
    .with_for_update()
)
_KEEP_CIRCUIT = (
    update(circuits)
    .where(circuits.c.upstream == bindparam("of_upstream"), circuits.c.dialect == bindparam("in_dialect"))
    .values({name: bindparam(name) for name in ("failures", "opened_at", "open_until", "probe_until")})
)
_CLOSE = delete(circuits).where(
    circuits.c.upstream == bindparam("of_upstream"),
    circuits.c.dialect == bindparam("in_dialect"),
    circuits.c.open_until.is_not(None),
)
_PROBE = (
    update(circuits)
    .where(circuits.c.upstream == bindparam("of_upstream"), circuits.c.dialect == bindparam("in_dialect"))
    .where(
        circuits.c.open_until <= bindparam("now"),
        or_(circuits.c.probe_until.is_(None), circuits.c.probe_until <= bindparam("now")),
    )
    .values(probe_until=bindparam("until"))
    .returning(circuits.c.upstream)
)


async def all_circuits(connection: AsyncConnection) -> dict[Key, Circuit]:
    """Read every circuit that has met a failure."""
    return {(row.upstream, row.dialect): _circuit(row) for row in await connection.execute(_ALL_CIRCUITS)}


def _circuit(row: Any) -> Circuit:
    kept = dict(row._mapping)  # noqa: SLF001 - the documented way to a row's names
    return Circuit(**{**kept, "failures": tuple(kept["failures"])})


async def record_failures(connection: AsyncConnection, failed: Sequence[tuple[str, str, datetime]]) -> list[bool]:
    """Count failures; answer for each whether it has opened the circuit."""
    opened: list[bool] = []
    for upstream, dialect, at in failed:
        where = {"of_upstream": upstream, "in_dialect": dialect}
        row = {"upstream": upstream, "dialect": dialect, "failures": []}
        await connection.execute(_MEET[connection.dialect.name], [row])
        before = _circuit((await connection.execute(_ONE_CIRCUIT, where)).one())
        after = before.failed(at)
        kept = {name: getattr(after, name) for name in ("opened_at", "open_until", "probe_until")}
        await connection.execute(_KEEP_CIRCUIT, {**where, **kept, "failures": list(after.failures)})
        opened.append(before.open_until is None and after.open_until is not None)
    return opened


async def close_circuits(connection: AsyncConnection, answered: Sequence[Key]) -> list[None]:
    """Let everything pass again: a probe was answered."""
    for upstream, dialect in answered:
        await connection.execute(_CLOSE, {"of_upstream": upstream, "in_dialect": dialect})
    return [None] * len(answered)


async def claim_probe(connection: AsyncConnection, circuit: Circuit, *, now: datetime, until: datetime) -> bool:
    """Take the right to try an upstream that has been left alone; one process gets it."""
    where = {"of_upstream": circuit.upstream, "in_dialect": circuit.dialect, "now": now, "until": until}
    return (await connection.execute(_PROBE, where)).first() is not None


def _line_check(key: str) -> Select[Any]:
    # Not "exists": PostgreSQL would read the table for it, through all that has ended, sure to find one soon.
    first = select(func.min(tasks.c.client)).where(tasks.c.waits_for == key, WAITING)
    return select(literal(key)).where(first.scalar_subquery().is_not(None))


async def lines(connection: AsyncConnection, keys: Iterable[str]) -> set[str]:
    """Name what somebody stands in line for, out of what can be waited for."""
    asked = list(keys)
    if not asked:
        return set()
    return set((await connection.scalars(union_all(*map(_line_check, asked)))).all())


_FIRST_CLIENT = select(func.min(tasks.c.client).label("client")).where(tasks.c.waits_for == bindparam("key"), WAITING)
_CLIENTS = _FIRST_CLIENT.cte("clients", recursive=True)
_NEXT_CLIENT = (
    select(func.min(tasks.c.client))
    .where(tasks.c.waits_for == bindparam("key"), WAITING, tasks.c.client > _CLIENTS.c.client)
    .correlate(_CLIENTS)
    .scalar_subquery()
)
# From one client to the next by the index, over any number of tasks that wait.
_CLIENTS = _CLIENTS.union_all(select(_NEXT_CLIENT).where(_CLIENTS.c.client.is_not(None)))
_IN_LINE = select(_CLIENTS.c.client).where(_CLIENTS.c.client.is_not(None))
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


async def in_line(connection: AsyncConnection, key: str, *, most: int) -> dict[str, list[UUID]]:
    """Read the first tasks in line of every client, oldest first."""
    clients = (await connection.scalars(_IN_LINE, {"key": key})).all()
    return {
        client: list(
            (await connection.scalars(_FIRST_OF_CLIENT, {"key": key, "of_client": client, "most": most})).all()
        )
        for client in clients
    }


async def nth_in_line(connection: AsyncConnection, key: str, client: str, before: int) -> UUID | None:
    """Read which task of a client stands in a line behind so many of its own."""
    found: UUID | None = await connection.scalar(_NTH_OF_CLIENT, {"key": key, "of_client": client, "before": before})
    return found


async def line_lengths(connection: AsyncConnection, key: str) -> dict[str, int]:
    """Count how many tasks of each client stand in a line."""
    return {row[0]: row[1] for row in await connection.execute(_WAITING_BY_CLIENT, {"key": key})}


async def own_before(connection: AsyncConnection, key: str, client: str, task_id: UUID) -> int:
    """Count the client's own tasks that stand in line before one."""
    where = {"key": key, "of_client": client, "task_id": task_id}
    return int(await connection.scalar(_BEFORE, where) or 0)


_SERVED = (
    select(tasks.c.upstream, tasks.c.client, cast(func.count(), Integer))
    .where(SERVED, tasks.c.upstream.in_(bindparam("names", expanding=True)))
    .group_by(tasks.c.upstream, tasks.c.client)
)


async def served(connection: AsyncConnection, names: Collection[str]) -> dict[str, dict[str, int]]:
    """Count, by upstream and client, the tasks that are being handed over or that an upstream works on."""
    counted: dict[str, dict[str, int]] = defaultdict(dict)
    if names:
        for upstream, client, count in await connection.execute(_SERVED, {"names": sorted(names)}):
            counted[upstream][client] = count
    return counted
