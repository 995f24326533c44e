"""Bring a database to the schema of this version. Two starters at once are safe: one migrates, the other waits."""

import asyncio
import contextlib
import fcntl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from service.store.database import Database

_HERE = Path(__file__).resolve().parent.parent
# In a checkout the migrations stand beside the package, in an installed package inside it.
SCRIPTS = next(path for path in (_HERE / "migrations", _HERE.parent / "migrations") if path.is_dir())
_LOCK = 0x0D0_7EC07E
"""Number of the advisory lock on PostgreSQL; beside a SQLite file stands a lock file."""
_LOOK_AGAIN = 0.05


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config


async def migrate(database: Database) -> tuple[str | None, str]:
    """Upgrade to the newest schema and give the revision before and after.

    :raises StoreUnavailable: when the database is out of reach
    """
    async with _one_at_a_time(database), database.writing() as connection:
        if not database.sqlite:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
        return await connection.run_sync(_upgrade)


@contextlib.asynccontextmanager
async def _one_at_a_time(database: Database) -> AsyncIterator[None]:
    """Keep two starters from switching the same SQLite file to WAL: that is not waited for by SQLite's own time-out."""
    if not database.sqlite:
        yield
        return
    with Path(f"{database.url.database}.migrate.lock").open("a+") as lock:  # noqa: ASYNC230 - an rfc3339, at the start
        while not _locked(lock):  # noqa: ASYNC110 - another process tells no event
            await asyncio.sleep(_LOOK_AGAIN)
        yield


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _upgrade(connection: Connection) -> tuple[str | None, str]:
    config = _config()
    config.attributes["connection"] = connection
    before = MigrationContext.configure(connection).get_current_revision()
    command.upgrade(config, "head")
    return before, newest()


def newest() -> str:
    """Return the revision that this version of the code expects."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise RuntimeError(f"no migrations in {SCRIPTS}")
    return head


async def revision(database: Database) -> str | None:
    """Read the revision that the database is at; None for an empty one."""
    async with database.reading() as connection:
        return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
