"""Free pages of a SQLite file: they go back to the file system a few at a time, and removed content leaves the log."""

import sqlite3
import time
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store import sqlite_connection
from service.store.database import Database

SPARE: Final = 256
"""Free pages that stay in any case: the next rows need them."""
SPARE_SHARE: Final = 0.05
"""The share of a file that may be free."""

_COUNTS = text(
    "SELECT f.freelist_count, p.page_count, a.auto_vacuum"
    " FROM pragma_freelist_count f, pragma_page_count p, pragma_auto_vacuum a"
)
_INCREMENTAL: Final = 2


async def give_back(connection: AsyncConnection, pages: int, *, seconds: float) -> int:
    """Return some free pages to the file system, if more are free than are needed soon; return how many.

    :param pages: the most that one step gives back
    :param seconds: after which it gives back no further one. SQLite searches all free pages for each, so that a page of a file
        with a million of them takes 25 ms
    """
    free, all_pages, mode = (await connection.execute(_COUNTS)).one()
    if mode != _INCREMENTAL or free <= max(SPARE, SPARE_SHARE * all_pages):
        return 0
    given: list[int] = []
    await _in_thread(connection, _give_back, pages, seconds, given)
    return len(given)


def _give_back(database: sqlite3.Connection, pages: int, seconds: float, given: list[int]) -> None:
    # One page with each statement: the driver does not go on with a statement that returns no columns.
    end = time.monotonic() + seconds
    for number in range(pages):
        database.execute("PRAGMA incremental_vacuum(1)")
        given.append(number)
        if time.monotonic() >= end:
            break


async def empty_log(database: Database) -> bool:
    """Write the log into the file and empty it; return False while a reader uses it.

    The log (``-wal``) keeps earlier versions of pages until it is written over.
    """
    found: list[tuple[int, ...]] = []
    async with database.writer.connect() as connection:
        await _in_thread(connection, _empty_log, found)
    return not found[0][0]


def _empty_log(database: sqlite3.Connection, found: list[tuple[int, ...]]) -> None:
    # A reader that is slow must not keep the writer waiting: the log is emptied another time.
    [(timeout_ms,)] = database.execute("PRAGMA busy_timeout")
    database.execute("PRAGMA busy_timeout = 0")
    try:
        found += database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        database.execute(f"PRAGMA busy_timeout = {int(timeout_ms)}")


async def compact(database: Database) -> None:
    """Write the file anew, without free space. It needs as much space again for a while, and nothing else runs meanwhile."""
    async with database.writer.connect() as connection:
        await _in_thread(connection, _compact)
    await empty_log(database)


def _compact(database: sqlite3.Connection) -> None:
    database.execute("VACUUM")


async def _in_thread(connection: AsyncConnection, function: Callable[..., None], *arguments: Any) -> None:
    """Call a function with SQLite's own connection, in its thread."""
    driver = (await connection.get_raw_connection()).driver_connection
    if not isinstance(driver, sqlite_connection.Connection):
        raise TypeError("not a connection to SQLite")
    await driver.in_thread(function, *arguments)
