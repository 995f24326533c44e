"""SQL for secrets that Dovecote generates: the callback key and the webhook signing secret."""

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.tables import insert_for, secrets

_ADD = insert_for(lambda insert: insert(secrets).on_conflict_do_nothing(index_elements=["name"]))


async def keep(connection: AsyncConnection, name: str, value: str, *, now: datetime) -> str:
    """Store a secret under a name unless one is stored, and return the stored one."""
    await connection.execute(_ADD[connection.dialect.name], {"name": name, "value": value, "created_at": now})
    kept: str = (await connection.execute(select(secrets.c.value).where(secrets.c.name == name))).scalar_one()
    return kept


async def replace(connection: AsyncConnection, name: str, value: str, *, now: datetime) -> None:
    """Keep another value under a name."""
    await keep(connection, name, value, now=now)
    await connection.execute(update(secrets).where(secrets.c.name == name).values(value=value, created_at=now))


async def find(connection: AsyncConnection, name: str) -> str | None:
    """Return the secret that is stored under a name, if any."""
    kept: str | None = (await connection.execute(select(secrets.c.value).where(secrets.c.name == name))).scalar()
    return kept
