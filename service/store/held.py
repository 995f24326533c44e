"""SQL for upstreams that an operator holds: all processes give them no task."""

import dataclasses
from datetime import datetime
from typing import Literal

from sqlalchemy import bindparam, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.prepared import Prepared
from service.store.rows import row_of_value
from service.store.tables import held_upstreams, insert_for

Mode = Literal["paused", "draining"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An upstream that gets no tasks until an operator resumes it."""

    name: str
    mode: Mode
    """``paused``: tasks wait for it. ``draining``: the next upstream of their route serves them, where there is one."""
    by: str
    """The client whose key did it."""
    since: datetime


_HOLD = insert_for(
    lambda insert: insert(held_upstreams).on_conflict_do_update(
        index_elements=["name"],
        set_={name: insert(held_upstreams).excluded[name] for name in ("mode", "by", "since")},
    )
)
_RELEASE = delete(held_upstreams).where(held_upstreams.c.name == bindparam("of_upstream"))
_ALL = Prepared(select(held_upstreams))


async def all_held(connection: AsyncConnection) -> dict[str, Held]:
    """Read every upstream that is held."""
    return {row.name: Held(**row._mapping) for row in await _ALL.rows(connection, {})}  # noqa: SLF001 - the documented way to a row's names


async def hold(connection: AsyncConnection, held: Held) -> None:
    """Hold an upstream, or change how it is held."""
    await connection.execute(_HOLD[connection.dialect.name], row_of_value(held))


async def release(connection: AsyncConnection, name: str) -> None:
    """Stop holding an upstream."""
    await connection.execute(_RELEASE, {"of_upstream": name})
