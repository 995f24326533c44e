"""Find out whether the database was restored from a backup, or otherwise set back, since Dovecote last used it."""

import contextlib
import os
from pathlib import Path
from typing import Final
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.task import TO_SUBMIT, State
from service.store.tables import submissions, tasks

LOCATION: Final = "database_location"
"""The name under which the database keeps where it was when it was last used."""

_TELLS_LOCATION = text(
    "SELECT NOT pg_is_in_recovery() AND has_function_privilege('pg_control_system()', 'EXECUTE')"
    " AND has_function_privilege('pg_walfile_name(pg_lsn)', 'EXECUTE')"
)
_LOCATION = text(
    "SELECT (SELECT system_identifier FROM pg_control_system())"
    " || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
    " || '/' || (SELECT oid FROM pg_database WHERE datname = current_database())"
    " || '/' || 'submissions'::regclass::oid"
)


class Mark:
    """A file beside a SQLite database with the id of the newest submission that was written.

    A database whose newest submission is older than its mark was set back.
    """

    def __init__(self, database: str) -> None:
        """Return the file; nothing is written yet.

        :param database: path of the database file
        """
        path = Path(database).resolve()
        self._path = path.with_name(f"{path.name}-newest")
        self._newest: UUID | None = None

    def read(self) -> UUID | None:
        """Return the newest submission that the mark knows; None where there is no readable mark."""
        with contextlib.suppress(OSError, ValueError):
            return UUID(self._path.read_text("ascii").strip())
        return None

    def note(self, newest: UUID) -> None:
        """Write a newer submission. A mark that cannot be written is left behind: it only makes restores detectable."""
        if self._newest is None or newest > self._newest:
            self.write(newest)

    def write(self, newest: UUID) -> None:
        """Write the newest submission, over any earlier mark."""
        self._newest = newest
        with contextlib.suppress(OSError):
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.pwrite(file, newest.hex.encode(), 0)
            finally:
                os.close(file)


async def newest_submission(connection: AsyncConnection) -> UUID | None:
    """Return the id of the newest submission."""
    newest: UUID | None = await connection.scalar(select(submissions.c.id).order_by(submissions.c.id.desc()).limit(1))
    return newest


async def location(connection: AsyncConnection) -> str | None:
    """Return the location of a PostgreSQL database: cluster, timeline, database and table. A restore changes one of them.

    None if the server does not report it, or on SQLite.
    """
    if connection.dialect.name != "postgresql" or not await connection.scalar(_TELLS_LOCATION):
        return None
    found: str | None = await connection.scalar(_LOCATION)
    return found


_UNSENT = (
    select(tasks.c.id).where(tasks.c.state.in_(sorted(map(str, TO_SUBMIT)))).order_by(tasks.c.id).with_for_update()
)
_RESUBMITTABLE = (
    select(tasks.c.id)
    .where(tasks.c.state == str(State.UNCONFIRMED), tasks.c.on_uncertain == "resubmit_once")
    .order_by(tasks.c.id)
    .with_for_update()
)


async def to_submit(connection: AsyncConnection, *, most: int) -> list[UUID]:
    """Return and lock tasks that are queued or being submitted, oldest first."""
    return list((await connection.scalars(_UNSENT.limit(most))).all())


async def resubmittable(connection: AsyncConnection, *, most: int) -> list[UUID]:
    """Return and lock unconfirmed tasks whose policy allows one resubmission, oldest first."""
    return list((await connection.scalars(_RESUBMITTABLE.limit(most))).all())
