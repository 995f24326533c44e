"""Dovecote behind PgBouncer, as a real process, in both of its modes: the same journeys, and no session state is relied on."""

import asyncio
import contextlib
import os
import pwd
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import text

from service.domain.task import State
from service.flows.signals.postgres import has_channel
from service.store.database import Database, StoreLocked, StoreUnavailable
from tests.support.processes import free_ports
from tests.support.world import World

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed")


def configure(url: str, mode: str, port: int, folder: Path, more: str = "") -> list[str]:
    """Write the configuration, and return the command that runs PgBouncer with it."""
    parts = urlsplit(url)
    socket_folder = Path(parse_qs(parts.query)["host"][0])
    config = folder / "pgbouncer.ini"
    config.write_text(
        f"[databases]\ndovecote = host={socket_folder} dbname=dovecote user={parts.username}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"pool_mode = {mode}\ndefault_pool_size = {3 if mode == 'transaction' else 30}\nmax_client_conn = 100\n{more}\n"
    )
    command = [str(PGBOUNCER)]
    if os.geteuid() == 0:  # PgBouncer refuses to run as root, and needs the socket of the server's user
        folder.chmod(0o755)
        owner = pwd.getpwuid(socket_folder.stat().st_uid).pw_name
        command += ["-u", owner if owner != "root" else "nobody"]
    return [*command, str(config)]


@contextlib.asynccontextmanager
async def pgbouncer(url: str, mode: str, more: str = "") -> AsyncIterator[str]:
    """Run PgBouncer before a PostgreSQL, with fewer sessions than clients, and yield its URL."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="dovecote-pgbouncer-") as folder:
        command = configure(url, mode, port, Path(folder), more)
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            await _until_open(port)
            yield f"postgresql://{urlsplit(url).username}@127.0.0.1:{port}/dovecote"
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _until_open(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_journeys_run_behind_pgbouncer(postgresql_url: str, mode: str) -> None:
    async with pgbouncer(postgresql_url, mode) as url, World.opened(url) as world:
        tasks = await asyncio.gather(*(world.submit(f"dove {number}") for number in range(20)))
        await world.work()
        await world.pass_time(15)
        assert {(await world.task(task)).state for task in tasks} == {State.SUCCEEDED}
        assert world.context.database.pooled
        assert not has_channel(world.context)
        assert world.sandbox.ledger.paid() == 20


async def test_lock_is_met_for_a_bounded_time_behind_pgbouncer(postgresql_url: str) -> None:
    async with pgbouncer(postgresql_url, "transaction") as url, World.opened(url) as world:
        task = await world.submit()
        statement = text("SELECT 1 FROM tasks FOR UPDATE")
        other = Database(postgresql_url)
        async with other.writing() as holder:
            await holder.execute(statement)
            with pytest.raises(StoreLocked):
                async with world.context.database.writing() as connection:
                    await connection.execute(statement)
        await other.close()
        await world.work()
        assert (await world.task(task)).state is State.SUBMITTED


async def test_database_itself_is_not_taken_for_a_pooler(postgresql_url: str) -> None:
    async with World.opened(postgresql_url) as world:
        await world.context.database.ping()
        assert world.context.database.pooled is False
        assert has_channel(world.context)


@pytest.mark.parametrize(
    ("mode", "more", "database", "sentence"),
    [
        ("statement", "", "dovecote", "a pooler is in statement mode"),
        ("transaction", "", "another", "the pooler does not know the database or the user"),
        ("transaction", "max_client_conn = 0", "dovecote", "the pooler has too many connections"),
        ("transaction", "", "dovecote?options=-c%20geqo%3Doff", "a pooler refuses a parameter"),
        (
            "session",
            "query_wait_timeout = 1\n[databases]\ngone = host=/nowhere user=postgres",
            "gone",
            "the pooler has no free connection",
        ),
    ],
    ids=["statement mode", "unknown database", "too many connections", "options", "the database is down"],
)
async def test_refusal_of_pgbouncer_is_told_as_what_it_is(
    postgresql_url: str, mode: str, more: str, database: str, sentence: str
) -> None:
    async with pgbouncer(postgresql_url, mode, f"{more}\n") as url:
        store = Database(url.replace("/dovecote", f"/{database}"))
        with pytest.raises(StoreUnavailable, match=sentence):
            async with store.writing() as connection:
                await connection.execute(text("SELECT 1"))
        await store.close()
