"""Migrate a database to the schema of this version. Two processes at once are safe: one migrates, the other waits."""

import asyncio
import contextlib
import fcntl
import functools
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from service.store.database import Database
from service.store.tables import metadata

_HERE = Path(__file__).resolve().parent.parent
# In a checkout the migrations are beside the package, in an installed package inside it.
SCRIPTS = next(path for path in (_HERE / "migrations", _HERE.parent / "migrations") if path.is_dir())
_LOCK = 0x0D0_7EC07E
"""Number of the advisory lock on PostgreSQL. SQLite has a lock file beside the database."""
_RETRY = 0.05


class NewerSchema(Exception):
    """The database was migrated by a newer version, which this one cannot read."""


class ForeignDatabase(NewerSchema):
    """The database belongs to another program."""


_GIVE_ANOTHER = "It belongs to another program: give Dovecote a database of its own in DOVECOTE_DATABASE_URL"
_OWN_REVISION = re.compile(r"\d{4}(_\w+)?", re.ASCII)


def check_known(found: str | None) -> None:
    """Refuse a revision that is unknown to this version.

    :raises NewerSchema: with a sentence that contains the remedy
    """
    if found is not None and _OWN_REVISION.fullmatch(found) is None:
        raise ForeignDatabase(
            f"the database has schema {found[:40]!r} of Alembic, which is not Dovecote's. {_GIVE_ANOTHER}"
        )
    if found is not None and found not in revisions():
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
    before = read_revision(connection)
    check_known(before)
    if before is None:
        _check_empty(connection)
    if before != newest():
        _run_alembic(connection)
    return before, newest()


def _check_empty(connection: Connection) -> None:
    """Refuse a database with tables of another program. On PostgreSQL other tables may be beside ours, unless they have our names.

    :raises ForeignDatabase: with a sentence that contains the remedy
    """
    found = set(inspect(connection).get_table_names()) - {"alembic_version"}
    foreign = found if connection.dialect.name == "sqlite" else found & metadata.tables.keys()
    if foreign:
        raise ForeignDatabase(
            f"the database has a table {min(foreign)[:40]!r}, which Dovecote did not make. {_GIVE_ANOTHER}"
        )


def _run_alembic(connection: Connection) -> None:
    # Imported here, because a process that finds its schema starts faster without it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


_OWN_NAME = re.compile(r'^revision\b.*?= "(.+)"$', re.MULTILINE)


@functools.cache
def revisions() -> tuple[str, ...]:
    """Return the revisions that this version knows, oldest first: their files are numbered."""
    paths = sorted((SCRIPTS / "versions").glob("[0-9]*.py"))
    named = [_OWN_NAME.search(path.read_text(encoding="utf-8")) for path in paths]
    return tuple(found[1] for found in named if found)


def newest() -> str:
    """Return the revision that this version of the code expects."""
    return revisions()[-1]


def named(found: str | None) -> str:
    """Return the schema of a database in words."""
    return "no tables of Dovecote" if found is None else f"schema {found[:40]}"


def read_revision(connection: Connection) -> str | None:
    """Read the revision that a database is at; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(_REVISION)
    return found


_REVISION = text("SELECT version_num FROM alembic_version")


async def revision(database: Database) -> str | None:
    """Read the revision that the database is at; None for an empty one."""
    async with database.reading() as connection:
        return await connection.run_sync(read_revision)
