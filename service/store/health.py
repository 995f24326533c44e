"""Statements that only want to know whether the database could be worked with."""

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from service.store.database import Database

_NO_ROW = text("UPDATE secrets SET value = value WHERE name = ''")


async def why_not_writable(database: Database) -> str | None:
    """Try to change nothing; None when that could have been a change, else the database's reason."""
    try:
        async with database.writer.connect() as connection:
            await connection.execute(_NO_ROW)
            await connection.rollback()
    except (DBAPIError, OSError, TimeoutError) as error:
        return reason_of(error)
    return None


def reason_of(error: BaseException) -> str:
    """Return the database's own error text, on one line."""
    reason = getattr(error, "orig", None)
    words = str(error) if reason is None else f"{type(reason).__name__}: {reason}"
    return words.partition("\n")[0][:200]
