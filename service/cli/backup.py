"""``dovecote backup``, ``restored`` and ``callbacks stored``: copy the database, and what to do after a copy was put back."""

import asyncio
import contextlib
import os
import shlex
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from service.cli import exits
from service.cli.layout import plain_table, shown
from service.cli.options import AS_JSON, CONFIG
from service.cli.printing import print_json, print_out

if TYPE_CHECKING:
    from service.settings.model import Settings
    from service.store.callbacks import Received

_BODY_SHOWN: Final = 80
"""Characters of a callback's body in the table."""
_DECISIONS: Final = ("unmatched", "unreadable", "forged", "parked", "late", "stale")


@click.command()
@CONFIG
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Overwrite FILE.")
def backup(config: Path | None, file: Path, *, force: bool) -> None:
    """Copy the database to FILE while the server runs.

    SQLite is copied as of one moment; a plain copy of the file is not. For PostgreSQL the command prints the `pg_dump`
    line to use, and ends with an error, since it has copied nothing.
    """
    from service.cli.installation import give_up, has_database, read_settings
    from service.store.database import parse_url

    settings = read_settings(config)
    url = parse_url(settings.database_url)
    if url.get_backend_name() != "sqlite":
        click.echo(_pg_dump(settings, file))
        give_up("PostgreSQL is backed up with its own tools: run the line above", exits.USAGE)
    if not has_database(settings):
        give_up("there is no database yet: the first start of `dovecote serve` creates it")
    if file.exists() and not force:
        give_up(f"{file} exists: name another file, or give --force", exits.USAGE)
    try:
        copy_sqlite(Path(url.database or ""), file)
    except (sqlite3.Error, OSError) as error:
        give_up(f"the database cannot be copied to {file}: {error}")
    click.echo(f"copied to {file} ({file.stat().st_size} bytes). Keep it as secret as the database itself.")


def copy_sqlite(source: Path, file: Path) -> None:
    """Copy a SQLite database as of one moment, check the copy, and put it in place as a whole."""
    partial = file.with_name(f"{file.name}.partial")
    partial.unlink(missing_ok=True)
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # for the owner alone, from the beginning
    try:
        with (
            contextlib.closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as database,
            contextlib.closing(sqlite3.connect(partial)) as copy,
        ):
            database.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
            found = copy.execute("PRAGMA quick_check").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(f"the copy is damaged: {str(found)[:80]}")
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def _pg_dump(settings: "Settings", file: Path) -> str:
    from service.cli.installation import shown_database

    return f"pg_dump --format=custom --file={shlex.quote(str(file))} {shlex.quote(shown_database(settings))}"


@click.command()
@CONFIG
@AS_JSON
def restored(config: Path | None, *, as_json: bool) -> None:
    """Protect a restored database from second payments. Run it before the server starts again.

    Every queued and submitting task of the backup may have been submitted since. The command leaves them unconfirmed, so that Dovecote pays for none twice by itself; the policy `on_uncertain` of each decides. `dovecote tasks retry` submits one again.
    """
    from service.cli.installation import give_up, read_settings
    from service.store.database import AlreadyRunning, StoreUnavailable

    settings = read_settings(config)
    try:
        settled, unmatched = asyncio.run(_settle(settings))
    except (AlreadyRunning, StoreUnavailable) as error:
        give_up(str(error))
    if as_json:
        print_json({"unconfirmed": settled, "unmatched_callbacks": unmatched})
        return
    click.echo(f"{settled} tasks may have been submitted since the backup and are unconfirmed now")
    if unmatched:
        click.echo(f"{unmatched} callbacks of submissions that this database does not know: dovecote callbacks stored")


async def _settle(settings: "Settings") -> tuple[int, int]:
    from service.app import opened
    from service.flows.submission.restored import settle_restored
    from service.store import callbacks as callback_store

    async with opened(settings) as context:
        settled = await settle_restored(context)
        async with context.database.reading() as connection:
            return settled, len(await callback_store.decided(connection, "unmatched", most=10_000))


@click.command("stored")
@CONFIG
@click.option(
    "--decision",
    type=click.Choice(_DECISIONS),
    default="unmatched",
    show_default=True,
    help="Only callbacks with this decision.",
)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many to show.")
@AS_JSON
def callbacks(config: Path | None, decision: str, limit: int, *, as_json: bool) -> None:
    """Show stored callbacks that changed no task, newest first.

    An unmatched callback names a submission that this database does not have, usually since a restore: a job exists, and
    is probably paid for. The command only reads the database: the server may run meanwhile.
    """
    from service.cli.installation import give_up, read_settings

    try:
        found = asyncio.run(_find(read_settings(config), decision, limit))
    except LookupError as error:
        give_up(str(error.args[0]))
    rows = [_row(each) for each in found]
    if as_json:
        print_json({"callbacks": rows})
        return
    table = plain_table("received", "submission", "copies", "detail", "body")
    for row in rows:
        body = " ".join(row["body"].split())[:_BODY_SHOWN]
        table.add_row(
            *map(shown, (row["received_at"], row["submission_id"], row["copies"], row["detail"] or "–", body))
        )
    print_out(table)


async def _find(settings: "Settings", decision: str, limit: int) -> list["Received"]:
    from service.cli.installation import read_connection
    from service.store import callbacks as callback_store

    async with read_connection(settings) as connection:
        return await callback_store.decided(connection, decision, most=limit)


def _row(received: "Received") -> dict[str, Any]:
    return {
        "id": str(received.id),
        "submission_id": str(received.submission_id),
        "received_at": received.received_at.isoformat(timespec="seconds"),
        "copies": received.copies,
        "decision": received.decision,
        "detail": received.detail,
        "body": received.body.decode("utf-8", "replace"),
    }
