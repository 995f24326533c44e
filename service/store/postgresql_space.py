"""Free space in the files of PostgreSQL's tables: VACUUM makes it available for new rows, and a compaction gives it back."""

from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from service.store.database import Database
from service.store.tables import metadata

LOCK_TIMEOUT = 10.0
"""Seconds that the compaction of a table waits for other transactions. Everything that needs the table waits behind it."""


class TableInUse(Exception):
    """A table cannot be compacted, because other transactions use it."""


async def compact(url: str) -> None:
    """Write every table anew, without free space, one after the other. A table can be neither read nor written meanwhile.

    :raises TableInUse: when other transactions use a table for too long
    """
    database = Database(url, command_timeout=None)  # a large table takes minutes
    try:
        alone = database.writer.execution_options(isolation_level="AUTOCOMMIT")  # VACUUM needs no transaction around it
        async with alone.connect() as connection:
            await connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT * 1000:.0f}ms'"))
            for table in metadata.sorted_tables:
                try:
                    await connection.execute(text(f"VACUUM (FULL, ANALYZE) {table.name}"))
                except DBAPIError as error:
                    if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                        raise
                    raise TableInUse(
                        f"the table {table.name} is in use: stop the server, and repeat the command"
                    ) from None
    finally:
        await database.close()


_LOCK_NOT_AVAILABLE: Final = "55P03"
