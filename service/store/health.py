"""Queries that check whether the database can be used."""

from sqlalchemy import text

from service.store import faults
from service.store.database import Database, StoreUnavailable

_NO_ROW = text("UPDATE secrets SET value = value WHERE name = ''")


async def why_not_writable(database: Database) -> str | None:
    """Update no row and roll back; return None if a write is possible, else the reason."""
    try:
        async with database.writing() as connection:
            await connection.execute(_NO_ROW)
            await connection.rollback()
    except StoreUnavailable as error:
        return str(error)
    return None


def reason_of(error: BaseException) -> str:
    """Return in one sentence what went wrong with the database."""
    return str(error) if isinstance(error, StoreUnavailable) else faults.explain(error).sentence
