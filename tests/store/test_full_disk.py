"""A disk that SQLite's own log fills: the log goes into the file, and writes succeed again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store import sqlite_space
from service.store.database import Database, StoreUnavailable
from service.store.writer import Writers
from tests.chaos.installation import Disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = Disk(folder, "16m")
    if not disk.mounted:
        pytest.skip("a small file system cannot be mounted: that needs root")
    try:
        yield disk
    finally:
        disk.close()


async def make(connection: AsyncConnection) -> None:
    await connection.execute(text("CREATE TABLE bodies (id INTEGER PRIMARY KEY, body BLOB)"))
    await connection.execute(
        text(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30) INSERT INTO bodies SELECT i, zeroblob(100000) FROM n"
        )
    )


async def change(connection: AsyncConnection) -> None:
    await connection.execute(text("UPDATE bodies SET body = randomblob(100000)"))


async def write_until_it_fails(writers: Writers) -> None:
    while True:
        await writers.journeys.run(change)


async def test_log_that_filled_the_disk_while_a_reader_held_it_is_emptied(disk: Disk) -> None:
    database = Database(f"sqlite:///{disk.folder / 'dovecote.db'}")
    try:
        async with Writers(database).running() as writers:
            await writers.journeys.run(make)
            assert await sqlite_space.empty_log(database)
            async with database.reading() as reader:
                await reader.execute(text("SELECT count(*) FROM bodies"))
                with pytest.raises(StoreUnavailable, match="disk with the database is full"):
                    await write_until_it_fails(writers)
            with pytest.raises(StoreUnavailable, match="disk with the database is full"):
                await writers.journeys.run(change)
            await writers.journeys.run(change)
    finally:
        await database.close()
