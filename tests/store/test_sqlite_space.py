"""A SQLite file gives free pages back, and keeps no removed words, neither in the file nor in its log."""

from pathlib import Path

import pytest
from sqlalchemy import text

from service.store import sqlite_space
from service.store.database import Database
from service.store.migrate import migrate
from tests.support.values import opened

WORDS = "words that nobody may find any more"


async def fill(database: Database, rows: int) -> None:
    async with database.writing() as connection:
        await connection.execute(text("CREATE TABLE bodies (id INTEGER PRIMARY KEY, body TEXT)"))
        await connection.execute(
            text("INSERT INTO bodies VALUES (:id, :body)"),
            [{"id": number, "body": WORDS * 100} for number in range(rows)],
        )


async def pages(database: Database) -> tuple[int, int]:
    async with database.reading() as connection:
        free = await connection.scalar(text("SELECT freelist_count FROM pragma_freelist_count"))
        return int(await connection.scalar(text("SELECT page_count FROM pragma_page_count")) or 0), int(free or 0)


async def test_free_pages_are_given_back_down_to_a_spare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_space, "SPARE", 50)
    async with opened(f"sqlite:///{tmp_path / 'new.db'}") as database:
        await migrate(database)
        await fill(database, 600)
        before, _ = await pages(database)
        async with database.writing() as connection:
            await connection.execute(text("DELETE FROM bodies"))
        steps = 0
        while True:
            async with database.writing() as connection:
                if not await sqlite_space.give_back(connection, 200, seconds=60):
                    break
            steps += 1
        after, free = await pages(database)
    assert steps > 1
    assert free <= 50
    assert after < before / 2


async def test_file_without_incremental_vacuum_is_left_alone_until_it_is_compacted(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    async with opened(f"sqlite:///{path}") as database:
        async with database.writing() as connection:
            await connection.execute(text("CREATE TABLE t (a)"))
        await fill(database, 600)
        before, _ = await pages(database)
        async with database.writing() as connection:
            await connection.execute(text("DELETE FROM bodies"))
        await sqlite_space.compact(database)
        after, free = await pages(database)
    assert (after < before / 10, free) == (True, 0)


def files_with_words(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir() if WORDS.encode() in each.read_bytes()]


async def test_removed_words_are_neither_in_the_file_nor_in_the_log(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    async with opened(f"sqlite:///{path}") as database:
        await fill(database, 40)
        assert await sqlite_space.empty_log(database)
        assert files_with_words(tmp_path) == ["new.db"]
        async with database.writing() as connection:
            await connection.execute(text("UPDATE bodies SET body = '' WHERE id % 2"))
            await connection.execute(text("DELETE FROM bodies WHERE NOT id % 2"))
        assert await sqlite_space.empty_log(database)
        found = files_with_words(tmp_path)
    assert found == []


async def test_log_that_a_reader_uses_is_not_emptied_and_nobody_waits(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path / 'new.db'}") as database:
        await fill(database, 3)
        async with database.reading() as reader:
            await reader.execute(text("SELECT * FROM bodies"))
            async with database.writing() as connection:
                await connection.execute(text("DELETE FROM bodies"))
            assert not await sqlite_space.empty_log(database)
        assert await sqlite_space.empty_log(database)


async def test_step_gives_back_one_page_when_its_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_space, "SPARE", 50)
    async with opened(f"sqlite:///{tmp_path / 'new.db'}") as database:
        await migrate(database)
        await fill(database, 600)
        async with database.writing() as connection:
            await connection.execute(text("DELETE FROM bodies"))
        _, before = await pages(database)
        async with database.writing() as connection:
            assert await sqlite_space.give_back(connection, 200, seconds=0) == 1
        _, after = await pages(database)
    assert after == before - 1
