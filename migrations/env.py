"""Alembic's entry: a connection handed over by ``dovecote migrate``, or one to DOVECOTE_DATABASE_URL for the tool itself."""

import asyncio
import os
from typing import Any, Literal

from alembic import context
from sqlalchemy import Connection

from service.store.database import Database
from service.store.tables import Nanos, UtcTime, metadata


def written(kind: str, item: Any, autogen: Any) -> str | Literal[False]:
    """Return a type of ours as a new migration has it: in SQLAlchemy's own types, since a migration imports nothing of Dovecote."""
    if kind == "type" and isinstance(item, UtcTime):
        autogen.imports.add("from sqlalchemy.dialects import postgresql")
        return 'sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")'
    if kind == "type" and isinstance(item, Nanos):
        return "sa.BigInteger()"
    return False


def migrate(connection: Connection) -> None:
    """Run the migrations on an open connection."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        render_as_batch=True,
        render_item=written,
    )
    with context.begin_transaction():
        context.run_migrations()


async def connect_and_migrate() -> None:
    """Open a connection of our own."""
    database = Database(os.environ.get("DOVECOTE_DATABASE_URL", "sqlite:///dovecote.db"))
    try:
        async with database.writing() as connection:
            await connection.run_sync(migrate)
    finally:
        await database.close()


handed_over = context.config.attributes.get("connection")
if handed_over is None:
    asyncio.run(connect_and_migrate())
else:
    migrate(handed_over)
