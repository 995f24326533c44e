"""Connections to SQLite that take a whole statement to their thread at once.

aiosqlite goes to the thread and back for each step of a statement: the cursor, the execution, the rows and the end of it.
Each step costs more than SQLite needs for a typical statement. Here one step does them all, and every row is read.
"""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Self

import aiosqlite

_END: Final = object()
"""The result of the last function of a thread."""


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
    """A connection with a thread of its own, which ends once and answers no closed event loop."""

    _is_stopped = False
    _end: asyncio.Future[Any] | None = None
    """Done once the thread has closed the database."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        """Prepare the thread, which starts when the connection is awaited.

        :param connector: opens the database
        """
        super().__init__(connector, iter_chunk_size=64)
        self._thread = threading.Thread(target=_serve, args=(self._tx,), daemon=True)

    def stop(self) -> asyncio.Future[Any] | None:
        """End the thread after the queued statements, once it has closed the database.

        A second call queues nothing: after its end the thread answers nothing, and a caller would wait for ever.
        """
        if not self._is_stopped:
            self._is_stopped, self._running = True, False
            with contextlib.suppress(RuntimeError):  # no event loop is running: nobody can wait for the end
                self._end = asyncio.get_running_loop().create_future()
            self._tx.put_nowait((self._end, self._finish))
        return self._end

    async def close(self) -> None:
        """Close the database, also where that was begun before, or was cancelled meanwhile."""
        if self._connection is None:
            return
        end = self.stop()
        if end is not None and end.get_loop() is asyncio.get_running_loop():
            await asyncio.shield(end)

    def _finish(self) -> object:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        return _END

    async def in_thread(self, function: Any, *arguments: Any) -> None:
        """Call a function in the thread, with the database and the arguments."""
        await self._execute(function, self._conn, *arguments)  # type: ignore[no-untyped-call]

    def fetch(self, statement: str, parameters: Sequence[Sequence[Any]]) -> list[Any]:
        """Execute a short statement for each set of parameters in the caller's thread, and return the rows of all.

        The caller's transaction is open, so no lock is waited for; and the thread of the connection is idle meanwhile.
        """
        rows: list[Any] = []
        for each in parameters:
            rows += self._conn.execute(statement, each)
        return rows

    def execute_each(self, statement: str, parameters: Sequence[Sequence[Any]]) -> None:
        """Execute a short statement for each set of parameters as :meth:`fetch` does, without rows."""
        self._conn.executemany(statement, parameters)

    def cursor(self) -> Cursor:  # type: ignore[override]  # SQLAlchemy enters it, and needs no more of it
        """Return a cursor."""
        return Cursor(self)


def _serve(queue: Any) -> None:
    """Call the queued functions, until one of them ends the connection."""
    while True:
        future, function = queue.get()
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            _answer(future, "set_exception", error)
        else:
            _answer(future, "set_result", result)
            if result is _END:
                return


def _answer(future: asyncio.Future[Any] | None, how: str, value: object) -> None:
    """Set the result of a future. The loop of a cancelled caller may be closed: its result is dropped."""
    if future is not None:
        with contextlib.suppress(RuntimeError):
            future.get_loop().call_soon_threadsafe(_settle, future, how, value)


def _settle(future: asyncio.Future[Any], how: str, value: object) -> None:
    if not future.done():
        getattr(future, how)(value)


def connect(database: str, **options: Any) -> Connection:
    """Return a connection that is opened when it is awaited.

    :param options: as of :func:`sqlite3.connect`
    """
    return Connection(lambda: sqlite3.connect(database, **{**options, "check_same_thread": False}))
