"""Secrets that Dovecote makes for itself and must find again: the callback key and the webhook signing secret."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.tables import secrets


async def keep(connection: AsyncConnection, name: str, value: str, *, now: datetime) -> str:
    """Keep a secret under a name unless there is one, and give the one that is kept."""
    insert = insert_sqlite if connection.dialect.name == "sqlite" else insert_postgresql
    await connection.execute(
        insert(secrets).values(name=name, value=value, created_at=now).on_conflict_do_nothing(index_elements=["name"])
    )
    kept: str = (await connection.execute(select(secrets.c.value).where(secrets.c.name == name))).scalar_one()
    return kept


async def find(connection: AsyncConnection, name: str) -> str | None:
    """Give the secret that is kept under a name, if there is one."""
    kept: str | None = (await connection.execute(select(secrets.c.value).where(secrets.c.name == name))).scalar()
    return kept
