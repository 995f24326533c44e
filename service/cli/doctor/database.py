"""Check the database: whether it answers and takes writes, its schema, its files, its disk and its clock."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sqlalchemy.exc import DBAPIError

from service.cli.doctor.finding import Finding, error, ok, warning
from service.cli.installation import shown_database
from service.settings.model import Settings
from service.store import faults
from service.store.database import Database, StoreUnavailable, parse_url
from service.store.health import why_not_writable
from service.store.migrate import NewerSchema, check_known, named, newest, revision

LITTLE_SPACE: Final = 1 << 30
NO_SPACE: Final = 100 << 20
_MIB: Final = 1 << 20


async def check_database(settings: Settings) -> tuple[list[Finding], Database | None]:
    """Check the database, and return it open where it can be read.

    A SQLite file that is missing is not created.
    """
    url = parse_url(settings.database_url)
    sqlite = url.get_backend_name() == "sqlite"
    file = Path(url.database or "")
    if sqlite and _is_missing(file):
        return list(_no_file(file)), None
    opened = Database(settings.database_url)
    try:
        found = await revision(opened)
    except (StoreUnavailable, DBAPIError) as problem:
        await opened.close()
        fault = problem.fault if isinstance(problem, StoreUnavailable) else faults.explain(problem)
        return [error("database", f"{shown_database(settings)}: {fault.sentence}", fault.advice)], None
    findings = [_schema(found, sqlite=sqlite), *((*_files(file), *_disk(file)) if sqlite else ())]
    if found != newest():
        await opened.close()
        return findings, None
    reason = await why_not_writable(opened)
    if reason is not None:
        advice = "the server's user must own the file and its folder" if sqlite else "is it a standby?"
        findings.append(error("database", f"cannot be written: {reason}", advice))
    return findings, opened


def _is_missing(file: Path) -> bool:
    return not os.path.lexists(file)


def _no_file(file: Path) -> Iterator[Finding]:
    folder = next(path for path in file.absolute().parents if path.exists())
    if os.access(folder, os.W_OK | os.X_OK):
        yield warning("database", f"{file} does not exist yet", "`dovecote serve` creates it")
    else:
        yield error("database", f"{file} does not exist, and {folder} cannot be written", "choose another folder")
    yield from _disk(folder / "-")


def _schema(found: str | None, *, sqlite: bool) -> Finding:
    if found == newest():
        return ok("database", f"answers, schema {found}")
    try:
        check_known(found)
    except NewerSchema as problem:
        return error("database", str(problem), "run the newer version, or restore the backup from before its migration")
    message = f"has {named(found)}, and this version needs schema {newest()}"
    if sqlite:
        return warning("database", message, "`dovecote serve` migrates it when it starts")
    return error("database", message, "run `dovecote migrate`")


def _files(file: Path) -> Iterator[Finding]:
    """Check that no other user of the machine can read the database, which holds prompts and secrets."""
    readable = [
        each
        for each in (file, *(file.with_name(file.name + end) for end in ("-wal", "-shm")))
        if each.exists() and each.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    ]
    if readable:
        names = ", ".join(each.name for each in readable)
        yield warning("database", f"other users of this machine can read {names}", f"chmod 600 {readable[0]}*")


def _disk(file: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(file.absolute().parent).free
    message = f"{free // _MIB} MiB free beside the database"
    if free < NO_SPACE:
        yield error("disk", message, "make room: without any, callbacks are refused and nothing is submitted")
    elif free < LITTLE_SPACE:
        yield warning("disk", message, "make room")
    else:
        yield ok("disk", message)
