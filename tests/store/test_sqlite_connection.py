"""A statement on SQLite takes one step in the connection's thread, and gives what aiosqlite gives."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from service.store.database import Database
from service.store.sqlite_connection import Connection, connect
from tests.support.waiting import LIMIT


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


async def opened(path: Path) -> Connection:
    return await connect(str(path / "a.db"))


async def test_close_after_a_stop_does_not_wait_for_a_thread_that_has_ended(tmp_path: Path) -> None:
    connection = await opened(tmp_path)
    connection.stop()
    connection._thread.join(LIMIT)
    async with asyncio.timeout(LIMIT):
        await connection.close()
        await connection.close()


async def test_close_that_is_cancelled_can_be_repeated(tmp_path: Path) -> None:
    connection = await opened(tmp_path)
    for _ in range(3):
        closing = asyncio.create_task(connection.close())
        await asyncio.sleep(0)
        closing.cancel()
    async with asyncio.timeout(LIMIT):
        await connection.close()
        with contextlib.suppress(asyncio.CancelledError):
            await closing
    connection._thread.join(LIMIT)
    assert not connection._thread.is_alive()


async def test_queued_statements_are_executed_before_the_end(tmp_path: Path) -> None:
    connection = await opened(tmp_path)
    statement = asyncio.create_task(connection.cursor().execute("SELECT 1"))
    await asyncio.sleep(0)
    await connection.close()
    assert await (await statement).fetchall() == [(1,)]
    with pytest.raises(ValueError, match="no active connection"):
        await connection.cursor().execute("SELECT 1")


def test_statement_of_a_closed_loop_ends_no_thread(tmp_path: Path) -> None:
    started, go_on = threading.Event(), threading.Event()

    def hold(_: Any) -> None:
        started.set()
        go_on.wait(LIMIT)

    async def begin() -> Connection:
        connection = await opened(tmp_path)
        statement = asyncio.create_task(connection.in_thread(hold))
        await asyncio.to_thread(started.wait, LIMIT)
        statement.cancel()
        return connection

    connection = asyncio.run(begin())
    go_on.set()
    connection.stop()
    connection._thread.join(LIMIT)
    assert not connection._thread.is_alive()
