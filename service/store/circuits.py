"""SQL for circuits: the circuit breaker's state for each upstream and dialect, shared by all processes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.circuit_breaker import Circuit
from service.store.prepared import Prepared
from service.store.tables import circuits, insert_for

Key = tuple[str, str]
"""An upstream and a dialect."""

_ADD = insert_for(lambda insert: insert(circuits).on_conflict_do_nothing())
_ALL = Prepared(select(circuits))
_ONE = (
    select(circuits)
    .where(circuits.c.upstream == bindparam("of_upstream"), circuits.c.dialect == bindparam("in_dialect"))
    .with_for_update()
)
_SAVE = (
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


async def all_known(connection: AsyncConnection) -> dict[Key, Circuit]:
    """Read every circuit that has counted a failure."""
    return {(row.upstream, row.dialect): _circuit(row) for row in await _ALL.rows(connection, {})}


def _circuit(row: Any) -> Circuit:
    kept = dict(row._mapping)  # noqa: SLF001 - the documented way to a row's names
    return Circuit(**{**kept, "failures": tuple(kept["failures"])})


async def record_failures(connection: AsyncConnection, failed: Sequence[tuple[str, str, datetime]]) -> list[bool]:
    """Count failures; return for each whether it has opened the circuit."""
    opened: list[bool] = []
    for upstream, dialect, at in failed:
        where = {"of_upstream": upstream, "in_dialect": dialect}
        row = {"upstream": upstream, "dialect": dialect, "failures": []}
        await connection.execute(_ADD[connection.dialect.name], [row])
        before = _circuit((await connection.execute(_ONE, where)).one())
        after = before.failed(at)
        kept = {name: getattr(after, name) for name in ("opened_at", "open_until", "probe_until")}
        await connection.execute(_SAVE, {**where, **kept, "failures": list(after.failures)})
        opened.append(before.open_until is None and after.open_until is not None)
    return opened


async def close(connection: AsyncConnection, answered: Sequence[Key]) -> list[None]:
    """Close circuits whose probe was answered."""
    for upstream, dialect in answered:
        await connection.execute(_CLOSE, {"of_upstream": upstream, "in_dialect": dialect})
    return [None] * len(answered)


async def claim_probe(connection: AsyncConnection, circuit: Circuit, *, now: datetime, until: datetime) -> bool:
    """Claim the probe of an open circuit; return whether this process has got it."""
    where = {"of_upstream": circuit.upstream, "in_dialect": circuit.dialect, "now": now, "until": until}
    return (await connection.execute(_PROBE, where)).first() is not None
