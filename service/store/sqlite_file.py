"""The file of a SQLite database: created for its owner only, and locked by itself."""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger("dovecote")


def create(path: Path) -> bool:
    """Create an empty database file that only its owner may read, and return whether it was missing.

    SQLite gives its other files (``-wal``, ``-shm``) the same permissions.

    :raises OSError: when the folder does not exist or may not be written
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    return True


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int | None]:
    """Lock a database file for the length of a ``with``; yield None when another process has the lock.

    The lock is on the file itself, so it holds for every name of it: a symbolic link, a hard link, a relative path.
    SQLite's own locks are of another kind (POSIX records) and are not touched.

    :raises OSError: when the folder does not exist or the file cannot be opened
    """
    created = create(path)
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        if created:
            log.warning("database created file=%s", path.resolve())
        yield descriptor
    finally:
        # Nothing of this process may have the database open now: closing any descriptor ends SQLite's record locks.
        os.close(descriptor)
