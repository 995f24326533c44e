"""Databases that are cheap to open and to ask: SQL is compiled once for each test process, and SQLite stays in the loop's thread."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Generator, Iterator, MutableMapping
from typing import Any, Self

from sqlalchemy import event

from service.store.database import BUSY_TIMEOUT, Database
from service.store.sqlite_connection import Connection


class _Compiled(MutableMapping[Any, Any]):
    """Compiled statements by their own key. SQLAlchemy's key starts with a dialect, and every engine has its own."""

    def __init__(self) -> None:
        self._by_key: dict[Any, Any] = {}

    def __getitem__(self, key: Any) -> Any:
        return self._by_key[key[1:]]

    def __setitem__(self, key: Any, compiled: Any) -> None:
        self._by_key[key[1:]] = compiled

    def __delitem__(self, key: Any) -> None:
        del self._by_key[key[1:]]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._by_key)

    def __len__(self) -> int:
        return len(self._by_key)


_SHARED = {True: _Compiled(), False: _Compiled()}
"""For SQLite, and for PostgreSQL."""


class _Immediately:
    """Stands in for the queue to a connection's thread: calls each function at once, and answers in the next round of the loop.

    The step into a thread and back takes several times as long as a statement of a test. A lock that another connection of
    this loop holds is waited for outside of SQLite.
    """

    def put_nowait(self, item: tuple[asyncio.Future[Any] | None, Callable[[], Any]]) -> None:
        self._call(*item, time.monotonic() + BUSY_TIMEOUT)

    def _call(self, future: asyncio.Future[Any] | None, function: Callable[[], Any], waited_until: float) -> None:
        how: Callable[[Any], None] | None = None if future is None else future.set_result
        try:
            result = function()
        except sqlite3.OperationalError as error:
            is_locked = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if future is not None and is_locked and time.monotonic() < waited_until:
                future.get_loop().call_later(0.001, self._call, future, function, waited_until)
                return
            how, result = None if future is None else future.set_exception, error
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            how, result = None if future is None else future.set_exception, error
        if future is not None and how is not None:
            future.get_loop().call_soon(_settle, future, how, result)


def _settle(future: asyncio.Future[Any], how: Callable[[Any], None], result: Any) -> None:
    if not future.done():
        how(result)


class _InLoop(Connection):
    """A connection without a thread."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector)
        self._tx = _Immediately()

    def __await__(self) -> Generator[Any, None, Self]:
        return self._connect().__await__()


def cheap(database: Database) -> Database:
    """Make a database share compiled statements with all others of this process, and keep SQLite from threads and from the disk."""
    for engine in {database.writer, database.reader}:
        engine.sync_engine.update_execution_options(compiled_cache=_SHARED[database.sqlite])
        if database.sqlite:
            event.listen(engine.sync_engine, "do_connect", _connect_in_loop)
            event.listen(engine.sync_engine, "connect", _commit_without_sync)
    return database


def _connect_in_loop(_: Any, __: Any, ___: Any, options: dict[str, Any]) -> None:
    options["async_creator_fn"] = _connection_in_loop


def _connection_in_loop(database: str, **options: Any) -> _InLoop:
    return _InLoop(lambda: sqlite3.connect(database, **{**options, "timeout": 0, "check_same_thread": False}))


def _commit_without_sync(connection: Any, _: Any) -> None:
    """Leave the disk alone: no test pulls the plug of this machine."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=OFF")
    cursor.close()
