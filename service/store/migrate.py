"""Migrate a database to the schema of this version. Two processes at once are safe: one migrates, the other waits."""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from service.store.database import Database

_HERE = Path(__file__).resolve().parent.parent
# In a checkout the migrations are beside the package, in an installed package inside it.
SCRIPTS = next(path for path in (_HERE / "migrations", _HERE.parent / "migrations") if path.is_dir())
_LOCK = 0x0D0_7EC07E
"""Number of the advisory lock on PostgreSQL. SQLite has a lock file beside the database."""
_RETRY = 0.05


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config


class NewerSchema(Exception):
    """The database was migrated by a newer version, which this one cannot read."""


def check_known(found: str | None) -> None:
    """Refuse a revision that is unknown to this version.

    :raises NewerSchema: with a sentence that contains the remedy
    """
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found is not None and found not in known:
        raise NewerSchema(
            f"the database has schema {found[:40]}, which this version does not know (it needs {newest()}): a newer version "
            "has migrated it. Run that version, or restore the backup from before its migration"
        )


async def migrate(database: Database) -> tuple[str | None, str]:
    """Upgrade to the newest schema and return the revision before and after.

    :raises StoreUnavailable: when the database is out of reach
    :raises NewerSchema: when a newer version has migrated it
    """
    async with _one_at_a_time(database), database.writing(lock_timeout=0) as connection:
        if not database.sqlite:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
        return await connection.run_sync(_upgrade)


@contextlib.asynccontextmanager
async def _one_at_a_time(database: Database) -> AsyncIterator[None]:
    """Keep two processes from switching the same SQLite file to WAL: SQLite's own time-out does not cover that."""
    if not database.sqlite:
        yield
        return
    path = f"{database.file}.migrate.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _locked(descriptor):  # noqa: ASYNC110 - the other process sends no event
            await asyncio.sleep(_RETRY)
        yield
    finally:
        os.close(descriptor)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _upgrade(connection: Connection) -> tuple[str | None, str]:
    config = _config()
    config.attributes["connection"] = connection
    before = MigrationContext.configure(connection).get_current_revision()
    check_known(before)
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
