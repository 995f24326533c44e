"""Databases that are cheap to open: SQL is compiled once for each test process, and SQLite does not wait for the disk."""

from collections.abc import Iterator, MutableMapping
from typing import Any

from sqlalchemy import event

from service.store.database import Database


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


def cheap(database: Database) -> Database:
    """Make a database share compiled statements with all others of this process, and commit without a sync."""
    for engine in {database.writer, database.reader}:
        engine.sync_engine.update_execution_options(compiled_cache=_SHARED[database.sqlite])
        if database.sqlite:
            event.listen(engine.sync_engine, "connect", _commit_without_sync)
    return database


def _commit_without_sync(connection: Any, _: Any) -> None:
    """Leave the disk alone: no test pulls the plug of this machine."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=OFF")
    cursor.close()
