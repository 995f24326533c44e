"""The schema: created by migrations, equal to the models in every check and index, and safe to create twice at once."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from service.app import WrongSchema, opened
from service.store import faults
from service.store.database import AlreadyRunning, Database, StoreUnavailable
from service.store.migrate import SCRIPTS, ForeignDatabase, NewerSchema, migrate, newest, revision, revisions
from service.store.tables import metadata
from tests.support.values import opened as database_at
from tests.support.waiting import LIMIT
from tests.support.world import JOB_SECONDS, World, settings_for


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return a database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    url: str = request.getfixturevalue("empty_postgresql_url")
    return url


@pytest.fixture
async def empty(empty_url: str) -> AsyncIterator[Database]:
    async with database_at(empty_url) as database:
        yield database


_SQLITE = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'alembic%' AND tbl_name NOT LIKE 'alembic%'"
_POSTGRESQL = """
    SELECT 'column', table_name, column_name, concat_ws(' ', data_type, is_nullable, column_default)
      FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
      FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'function', '', proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace"""


async def schema_of(database: Database) -> set[tuple[str, ...]]:
    """Return the whole schema as the database understands it, without Alembic's own table."""
    async with database.reading() as connection:
        rows = await connection.execute(text(_SQLITE if database.sqlite else _POSTGRESQL))
        found = [tuple(_normal(str(part)) for part in row) for row in rows]
    return {part for row in found if "alembic" not in row[1] for part in _parts(row)}


def _normal(words: str) -> str:
    return " ".join(words.replace('"', "").split())


def _parts(row: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the parts of a CREATE TABLE of SQLite. The order of its columns and constraints has no meaning."""
    if not row[3].startswith("CREATE TABLE"):
        return [row]
    columns, *constraints = row[3].partition("(")[2].rstrip(")").split(", CONSTRAINT")
    return [(*row[:3], part.strip()) for part in [*columns.split(", "), *constraints]]


async def test_upgrade_creates_the_schema_of_the_models(empty: Database) -> None:
    before, after = await migrate(empty)
    assert (before, after) == (None, newest())
    assert await revision(empty) == newest()
    migrated = await schema_of(empty)
    async with empty.writing() as connection:
        differences = await connection.run_sync(_compare)
        await connection.run_sync(metadata.drop_all)
        await connection.run_sync(metadata.create_all)
    assert differences == []
    assert await schema_of(empty) == migrated
    assert len(migrated) > 60


def _compare(connection: Connection) -> list[Any]:
    return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata))


async def test_downgrade_removes_all_and_upgrade_recreates_the_same(empty: Database) -> None:
    await migrate(empty)
    first = await schema_of(empty)
    async with empty.writing() as connection:
        await connection.run_sync(_downgrade)
    assert await schema_of(empty) == set()
    assert await revision(empty) is None
    await migrate(empty)
    assert await schema_of(empty) == first


async def test_migrations_in_both_directions_keep_the_rows_of_other_tables(world: World) -> None:
    await world.submit("a dove", labels={"user": "42"})
    await world.until(JOB_SECONDS * 4)
    names = ("tasks", "task_labels", "submissions", "events", "callbacks", "webhook_messages", "webhook_attempts")

    async def counts() -> dict[str, int]:
        async with world.context.database.reading() as connection:
            return {name: await connection.scalar(text(f"SELECT count(*) FROM {name}")) or 0 for name in names}  # noqa: S608

    before = await counts()
    assert all(before.values()), before
    async with world.context.database.writing() as connection:
        await connection.run_sync(_downgrade, "0001")
    assert await counts() == before
    await migrate(world.context.database)
    assert await counts() == before


def test_revisions_are_those_of_alembic_in_its_order() -> None:
    walked = ScriptDirectory.from_config(_config()).walk_revisions()
    assert revisions() == tuple(script.revision for script in walked)[::-1]
    assert newest() == ScriptDirectory.from_config(_config()).get_current_head()


async def test_process_that_finds_its_schema_does_not_load_alembic(sqlite_url: str) -> None:
    code = (
        "import asyncio, sys; from service.store.database import Database; from service.store.migrate import migrate\n"
        f"before, after = asyncio.run(migrate(Database({sqlite_url!r})))\n"
        "assert before == after; assert 'alembic' not in sys.modules"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await asyncio.wait_for(process.wait(), LIMIT) == 0


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config


def _downgrade(connection: Connection, to: str = "base") -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.downgrade(config, to)


async def test_concurrent_migrations_are_safe(empty: Database, empty_url: str) -> None:
    async with database_at(empty_url) as other:
        outcomes = await asyncio.gather(migrate(empty), migrate(other))
    assert sorted(before is None for before, _ in outcomes) == [False, True]
    assert {after for _, after in outcomes} == {newest()}


async def test_migration_of_a_current_database_changes_nothing(empty: Database) -> None:
    await migrate(empty)
    assert await migrate(empty) == (newest(), newest())


async def test_unmigrated_postgresql_is_refused(empty_postgresql_url: str) -> None:
    with pytest.raises(WrongSchema, match="dovecote migrate"):
        async with opened(settings_for(empty_postgresql_url)):
            pytest.fail("it must not open")


def permissions(folder: Path) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in folder.iterdir() if path.is_file()}


def remove_lock_files(folder: Path) -> None:
    for lock in folder.glob("*.lock"):
        lock.unlink()


async def test_sqlite_database_is_created_for_its_owner_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(settings_for(f"sqlite:///{tmp_path / 'dovecote.db'}")) as context:
        assert await revision(context.database) == newest()
        assert permissions(tmp_path) == {0o600}
    assert f"database created file={tmp_path / 'dovecote.db'}" in caplog.messages


async def test_folder_that_does_not_exist_is_an_error_and_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="folder or socket of the database does not exist") as found:
        async with opened(settings_for(f"sqlite:///{tmp_path / 'none' / 'dovecote.db'}")):
            pass
    assert found.value.fault.exit_code == faults.MISCONFIGURED
    assert permissions(tmp_path) == set()


@pytest.mark.parametrize("name", ["symbolic", "hard", "no lock file"])
async def test_second_process_is_refused_by_any_name_of_the_file(tmp_path: Path, name: str) -> None:
    file, other = tmp_path / "dovecote.db", tmp_path / "other.db"
    async with opened(settings_for(f"sqlite:///{file}")):
        match name:
            case "symbolic":
                other.symlink_to(file)
            case "hard":
                other.hardlink_to(file)
            case _:
                other = file
                remove_lock_files(tmp_path)
        with pytest.raises(AlreadyRunning):
            async with opened(settings_for(f"sqlite:///{other}")):
                pass


async def test_schema_of_a_newer_version_is_named_and_not_touched(empty: Database) -> None:
    await migrate(empty)
    async with empty.writing() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(NewerSchema, match="schema 9999, which this version does not know"):
        await migrate(empty)
    assert await revision(empty) == "9999"


@pytest.mark.parametrize("made", ["its revision", "its table"])
async def test_database_of_another_program_is_refused_and_left_as_it_is(empty: Database, made: str) -> None:
    async with empty.writing() as connection:
        if made == "its revision":
            await connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
            await connection.execute(text("INSERT INTO alembic_version VALUES ('ae1027a6acf2')"))
        else:
            await connection.execute(text("CREATE TABLE tasks (number INTEGER)"))
    with pytest.raises(ForeignDatabase, match=r"belongs to another program: give Dovecote a database of its own"):
        await migrate(empty)
    async with empty.reading() as connection:
        names = await connection.run_sync(lambda given: inspect(given).get_table_names())
    assert names == (["alembic_version"] if made == "its revision" else ["tasks"])


async def test_missing_schema_is_reported_with_the_remedy(empty_postgresql_url: str) -> None:
    async with database_at(f"{empty_postgresql_url}&options=-csearch_path%3Dnothing") as database:
        with pytest.raises(StoreUnavailable) as found:
            await migrate(database)
    assert str(found.value.fault).startswith("the schema does not exist")


async def test_other_tables_on_postgresql_may_be_beside_ours(empty_postgresql_url: str) -> None:
    async with database_at(empty_postgresql_url) as database:
        async with database.writing() as connection:
            await connection.execute(text("CREATE TABLE users (number INTEGER)"))
        assert (await migrate(database))[0] is None


_HOLD = "import sys; from service.store.database import Database\nwith Database(sys.argv[1]).held(): print('held', flush=True); sys.stdin.read()"


@pytest.mark.long
async def test_second_process_on_sqlite_is_refused_with_advice(sqlite_url: str, tmp_path: Path) -> None:
    pipe = asyncio.subprocess.PIPE
    first = await asyncio.create_subprocess_exec(sys.executable, "-c", _HOLD, sqlite_url, stdin=pipe, stdout=pipe)
    assert first.stdin is not None
    assert first.stdout is not None
    try:
        assert await first.stdout.readline() == b"held\n"
        second = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service.cli", "serve"),
            env={"DOVECOTE_DATABASE_URL": sqlite_url, "DOVECOTE_PORT": "0", "PATH": ""},
            stdout=pipe,
            stderr=pipe,
        )
        _, complaint = await asyncio.wait_for(second.communicate(), LIMIT)
        assert second.returncode == 69
        said = complaint.decode()
        assert str(tmp_path / "dovecote.db") in said
        assert "SQLite is for one process" in said
        assert "DOVECOTE_DATABASE_URL=postgresql://" in said
        assert "Traceback" not in said
    finally:
        first.stdin.close()
        assert await first.wait() == 0
    with Database(sqlite_url).held():  # the lock went with its holder
        pass
    with Database(sqlite_url).held(), pytest.raises(AlreadyRunning), Database(sqlite_url).held():
        pytest.fail("two in one process are two as well")
