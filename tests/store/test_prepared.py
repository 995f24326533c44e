"""Prepared statements: they write and read what SQLAlchemy would, and fail as SQLAlchemy's do."""

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import bindparam, event, select, text, update
from sqlalchemy.exc import IntegrityError

from service.store import tasks as task_store
from service.store.database import Database, StoreUnavailable
from service.store.prepared import MAX_LIST, Prepared
from service.store.tables import submissions, tasks
from tests.support.values import a_task, opened

READ = select(tasks).where(tasks.c.id.in_(bindparam("ids", expanding=True))).order_by(tasks.c.id)
RENAME = update(tasks).where(tasks.c.id == bindparam("of_task")).values(client=bindparam("new_client"))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as found:
        yield found


async def accepted(database: Database, count: int) -> list[Any]:
    made = [
        dataclasses.replace(a_task(), input={"prompt": f"a dove {number}"}, labels={"n": str(number)}, cost=1.5)
        for number in range(count)
    ]
    async with database.writing() as connection:
        await task_store.accept(connection, made)
    return sorted(task.id for task in made)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, MAX_LIST + 1])
async def test_rows_are_those_that_sqlalchemy_reads(database: Database, count: int) -> None:
    ids = await accepted(database, min(count, 8))
    wanted = {"ids": ids + ids[:1] * (count - len(ids))}
    async with database.writing() as connection:
        expected = [row._mapping for row in await connection.execute(READ, wanted)]
        found = [row._mapping for row in await Prepared(READ).rows(connection, wanted)]
    assert [dict(row) for row in found] == [dict(row) for row in expected]
    assert len(found) == len(ids)


async def test_read_outside_of_a_transaction_is_left_to_sqlalchemy(database: Database) -> None:
    ids = await accepted(database, 2)
    async with database.reading() as connection:
        assert [row.id for row in await Prepared(READ).rows(connection, {"ids": ids})] == ids


async def test_listener_hears_the_statement(database: Database) -> None:
    heard: list[str] = []
    event.listen(database.writer.sync_engine, "before_cursor_execute", lambda *given: heard.append(given[2]))
    async with database.writing() as connection:
        await Prepared(READ).rows(connection, {"ids": [a_task().id]})
    assert any("FROM tasks" in statement for statement in heard)


async def write(database: Database, statement: Prepared, *rows: dict[str, Any]) -> None:
    async with database.writing() as connection:
        await statement.many(connection, rows)


async def test_writes_of_a_transaction_that_fails_are_rolled_back(database: Database) -> None:
    ids = await accepted(database, 2)

    async def fail() -> None:
        async with database.writing() as connection:
            await Prepared(RENAME).many(connection, [{"of_task": each, "new_client": "other"} for each in ids])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with database.reading() as connection:
        assert {row.client for row in (await connection.execute(READ, {"ids": ids})).all()} == {a_task().client}


async def test_violation_is_raised_without_the_values_of_the_row(database: Database) -> None:
    task = a_task()
    row = {"id": task.id, "task_id": task.id, "upstream": "secret-name", "dialect": "x", "outcome": "no"}
    with pytest.raises(IntegrityError) as raised:
        await write(database, Prepared(submissions.insert()), {**row, "sent_at": task.created_at, "attempts": 0})
    assert "secret-name" not in str(raised.value)
    await write(database, Prepared(RENAME), {"of_task": task.id, "new_client": "other"})


async def test_missing_value_is_an_error(database: Database) -> None:
    with pytest.raises(KeyError):
        await write(database, Prepared(RENAME), {"of_task": a_task().id})


async def test_lost_connection_is_reported_and_replaced(postgresql_url: str) -> None:
    async def lose(database: Database) -> None:
        other = await asyncpg.connect(postgresql_url)
        async with database.writing() as connection:
            pid = await connection.scalar(text("SELECT pg_backend_pid()"))
            assert await other.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
            await other.close()
            await Prepared(READ).rows(connection, {"ids": [a_task().id]})

    async with opened(postgresql_url) as database:
        with pytest.raises(StoreUnavailable):
            await lose(database)
        async with database.writing() as connection:
            assert await Prepared(READ).rows(connection, {"ids": [a_task().id]}) == []
