"""``dovecote backup``, ``restored`` and ``callbacks`` on a database of their own."""

import asyncio
import json
import sqlite3
import threading
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from service.cli import exits, main
from service.domain.task import State
from service.store import callbacks as callback_store
from service.store.database import Database
from tests.support.values import NOW, a_callback, a_task, keep, opened


def run(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), env={"DOVECOTE_DATABASE_URL": url})


async def run_beside(url: str, *arguments: str) -> Result:
    return await asyncio.to_thread(run, url, *arguments)


async def receive(database: Database, received: callback_store.Received) -> None:
    async with database.writing() as connection:
        await callback_store.receive(connection, [received])


async def test_backup_is_one_complete_file_for_the_owner_alone(sqlite_url: str, tmp_path: Path) -> None:
    task = a_task()
    copy = tmp_path / "copy.db"
    async with opened(sqlite_url) as database:
        await keep(database, task)
        result = await run_beside(sqlite_url, "backup", str(copy))
    assert (result.exit_code, result.stderr) == (0, "")
    assert copy.stat().st_mode & 0o777 == 0o600
    assert not copy.with_name("copy.db.partial").exists()
    rows = sqlite3.connect(f"file:{copy}?mode=ro", uri=True).execute("SELECT count(*) FROM tasks").fetchall()
    assert rows == [(1,)]


async def test_backup_while_another_process_writes_is_consistent(sqlite_url: str, tmp_path: Path) -> None:
    """Two tables are always written together: a copy has the same number of rows of both."""
    live = sqlite3.connect(tmp_path / "dovecote.db", isolation_level=None, check_same_thread=False)
    live.execute("CREATE TABLE a (n)")
    live.execute("CREATE TABLE b (n)")
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            live.executescript("BEGIN IMMEDIATE; INSERT INTO a VALUES (1); INSERT INTO b VALUES (1); COMMIT")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            copy = tmp_path / f"copy-{number}"
            assert (await run_beside(sqlite_url, "backup", str(copy))).exit_code == 0
            found = (
                sqlite3.connect(copy).execute("SELECT (SELECT count(*) FROM a) - (SELECT count(*) FROM b)").fetchone()
            )
            assert found == (0,)
    finally:
        stop.set()
        writer.join()


def test_backup_overwrites_a_file_only_by_force(sqlite_url: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_text("precious")
    result = run(sqlite_url, "backup", str(copy))
    assert (result.exit_code, copy.read_text()) == (exits.USAGE, "precious")
    assert "--force" in result.stderr
    assert run(sqlite_url, "backup", "--force", str(copy)).exit_code == 0
    assert copy.read_bytes().startswith(b"SQLite format 3")


@pytest.mark.parametrize("database", ["missing", "nonsense"])
def test_backup_of_no_database_leaves_no_file(tmp_path: Path, database: str) -> None:
    if database == "nonsense":
        (tmp_path / "nonsense").write_text("no database" * 100)
    copy = tmp_path / "copy.db"
    result = run(f"sqlite:///{tmp_path / database}", "backup", str(copy))
    assert result.exit_code == exits.UNAVAILABLE
    assert not isinstance(result.exception, sqlite3.Error)
    assert not copy.exists()
    assert not list(tmp_path.glob("*.partial"))


def test_backup_to_a_missing_folder_is_refused_with_the_reason(sqlite_url: str, tmp_path: Path) -> None:
    result = run(sqlite_url, "backup", str(tmp_path / "missing" / "copy.db"))
    assert result.exit_code == exits.UNAVAILABLE
    assert "cannot be copied" in result.stderr


def test_backup_of_postgresql_prints_the_command_and_fails() -> None:
    url = "postgresql://me:hunter2@db.internal:5433/dove%20cote"
    result = run(url, "backup", "out file.dump")
    assert result.exit_code == exits.USAGE
    assert result.stdout.startswith("pg_dump --format=custom --file='out file.dump' ")
    assert "db.internal:5433" in result.stdout
    assert "hunter2" not in result.output


async def test_restored_leaves_unsent_tasks_unconfirmed_and_counts_unknown_callbacks(database_url: str) -> None:
    async with opened(database_url) as database:
        await keep(database, a_task(), a_task(state=State.SUBMITTING), a_task(state=State.RUNNING))
        await receive(database, a_callback(decision="unmatched", decided_at=NOW, due_at=None))
    result = await run_beside(database_url, "restored", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"unconfirmed": 2, "unmatched_callbacks": 1})
    again = await run_beside(database_url, "restored")
    assert again.stdout.startswith("0 tasks")
    assert "dovecote callbacks stored" in again.stdout


async def test_callbacks_command_shows_callbacks_of_unknown_submissions(database_url: str) -> None:
    unknown = uuid4()
    decided = {"decision": "unmatched", "decided_at": NOW, "due_at": None}
    kept = a_callback(submission_id=unknown, body=b'{"task_id":\n"job-7"}', detail="no such submission", **decided)
    async with opened(database_url) as database:
        await receive(database, kept)
    [shown] = json.loads((await run_beside(database_url, "callbacks", "stored", "--json")).stdout)["callbacks"]
    assert (shown["submission_id"], shown["body"]) == (str(unknown), '{"task_id":\n"job-7"}')
    table = (await run_beside(database_url, "callbacks", "stored")).stdout
    assert str(unknown) in table
    assert json.loads(
        (await run_beside(database_url, "callbacks", "stored", "--json", "--decision", "forged")).stdout
    ) == {"callbacks": []}
