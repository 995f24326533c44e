"""A statement on SQLite takes one step in the connection's thread, and gives what aiosqlite gives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from service.store.database import Database
from service.store.sqlite_connection import Connection


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the names of the functions that connections call in their threads."""
    seen: list[str] = []
    execute = Connection._execute

    async def counted(self: Connection, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        seen.append(function.__name__)
        return await execute(self, function, *arguments, **named)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(Connection, "_execute", counted)
    return seen


async def test_statement_takes_one_step(tmp_path: Path, steps: list[str]) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    async with database.writing() as connection:
        await connection.execute(text("CREATE TABLE a (id INTEGER PRIMARY KEY, name TEXT UNIQUE)"))
        steps.clear()
        await connection.execute(text("INSERT INTO a (name) VALUES (:name)"), [{"name": "x"}, {"name": "y"}])
        assert (await connection.execute(text("SELECT id, name FROM a ORDER BY id"))).all() == [(1, "x"), (2, "y")]
        changed = await connection.execute(text("UPDATE a SET name = 'z' WHERE id = 2 RETURNING name"))
        assert changed.scalars().all() == ["z"]
        assert steps == ["_executemany", "_execute", "_execute"]
    await database.close()


async def test_rows_that_are_written_are_counted(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    async with database.writing() as connection:
        await connection.execute(text("CREATE TABLE a (id INTEGER PRIMARY KEY)"))
        assert (await connection.execute(text("INSERT INTO a VALUES (1), (2)"))).rowcount == 2
        assert (await connection.execute(text("DELETE FROM a WHERE id = 3"))).rowcount == 0
    await database.close()


async def _insert(database: Database, *ids: int) -> None:
    async with database.writing() as connection:
        for each in ids:
            await connection.execute(text("INSERT INTO a VALUES (:id)"), {"id": each})


async def test_refused_statement_leaves_the_connection_usable(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    async with database.writing() as connection:
        await connection.execute(text("CREATE TABLE a (id INTEGER PRIMARY KEY)"))
    await _insert(database, 1)
    with pytest.raises(IntegrityError):
        await _insert(database, 2, 1)
    async with database.reading() as connection:
        assert (await connection.execute(text("SELECT id FROM a"))).scalars().all() == [1]
    await database.close()
