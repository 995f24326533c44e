"""Leases by name: work that one process of several does at a time, such as retention.

A lease is short and is renewed with each step. A process that dies or is paused loses it, and another one goes on. A step
that must not run twice renews its lease in its own transaction: the row of the lease is locked until the commit.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Table, bindparam, delete, or_
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.tables import insert_for, leases


def _acquiring(insert: Callable[[Table], Any]) -> Any:
    statement = insert(leases)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["name"],
        set_={"holder": new.holder, "until": new.until},
        where=or_(leases.c.holder == new.holder, leases.c.until <= bindparam("now")),
    ).returning(leases.c.name)


_ACQUIRE = insert_for(_acquiring)
_RELEASE = delete(leases).where(leases.c.name == bindparam("of_name"), leases.c.holder == bindparam("of_holder"))


async def acquire(connection: AsyncConnection, name: str, holder: str, *, now: datetime, seconds: float) -> bool:
    """Acquire or renew a lease; return False while another process holds it.

    :param holder: the process; see ``Context.process``
    :param seconds: for how long it is held, unless it is renewed
    """
    row = {"name": name, "holder": holder, "until": now + timedelta(seconds=seconds), "now": now}
    return (await connection.execute(_ACQUIRE[connection.dialect.name], row)).first() is not None


async def release(connection: AsyncConnection, name: str, holder: str) -> None:
    """Release a lease that a process holds, so that another one need not wait for its end."""
    await connection.execute(_RELEASE, {"of_name": name, "of_holder": holder})
