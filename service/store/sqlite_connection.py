"""Connections to SQLite that take a whole statement to their thread at once.

aiosqlite goes to the thread and back for each step of a statement: the cursor, the execution, the rows and the end of it.
Each step costs more than SQLite needs for a typical statement. Here one step does them all, and every row is read.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any, Self

import aiosqlite


class Cursor:
    """A cursor for one statement at a time, as SQLAlchemy's adapter expects it."""

    arraysize = 1
    lastrowid: int | None = None

    def __init__(self, connection: "Connection") -> None:
        """Prepare; SQLite's own cursor exists only while a statement is executed."""
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1

    async def __aenter__(self) -> Self:
        """Return the cursor."""
        return self

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Self:
        """Execute a statement and keep its rows."""
        await self._connection.in_thread(self._execute, statement, parameters)
        return self

    async def executemany(self, statement: str, parameters: Sequence[Sequence[Any]]) -> Self:
        """Execute a statement once for each set of parameters."""
        await self._connection.in_thread(self._executemany, statement, parameters)
        return self

    async def fetchall(self) -> list[Any]:
        """Return the rows of the last statement."""
        return self._rows

    async def close(self) -> None:
        """Do nothing: SQLite's own cursor has been closed."""

    def _execute(self, database: sqlite3.Connection, statement: str, parameters: Sequence[Any]) -> None:
        self._keep(database.execute(statement, parameters))

    def _executemany(self, database: sqlite3.Connection, statement: str, parameters: Sequence[Sequence[Any]]) -> None:
        self._keep(database.executemany(statement, parameters))

    def _keep(self, cursor: sqlite3.Cursor) -> None:
        self.description, self.rowcount, self.lastrowid = cursor.description, cursor.rowcount, cursor.lastrowid
        self._rows = cursor.fetchall() if cursor.description else []
        cursor.close()


class Connection(aiosqlite.Connection):
    """A connection with a thread of its own."""

    async def in_thread(self, function: Any, *arguments: Any) -> None:
        """Call a function in the thread, with the database and the arguments."""
        await self._execute(function, self._conn, *arguments)  # type: ignore[no-untyped-call]

    def cursor(self) -> Cursor:  # type: ignore[override]  # SQLAlchemy enters it, and needs no more of it
        """Return a cursor."""
        return Cursor(self)


def connect(database: str, **options: Any) -> Connection:
    """Return a connection that is opened when it is awaited.

    :param options: as of :func:`sqlite3.connect`
    """
    connection = Connection(lambda: sqlite3.connect(database, **options), iter_chunk_size=64)
    connection._thread.daemon = True  # noqa: SLF001 - as SQLAlchemy sets it for the connections that it opens itself
    return connection
