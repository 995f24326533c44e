"""``dovecote prune``: what it counts is what it removes, beside a server and without one."""

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import insert, select, text

from service.cli import exits, main
from service.store import postgresql_space, tables
from service.store.database import Database
from tests.support.retention import DAY, ended, newest
from tests.support.world import World


async def prune(url: str, *arguments: str, **settings: str) -> Result:
    environment = {"DOVECOTE_DATABASE_URL": url, **settings}
    return await asyncio.to_thread(CliRunner().invoke, main, ["prune", *arguments], env=environment)


async def documents(url: str, *arguments: str, **settings: str) -> dict[str, Any]:
    result = await prune(url, *arguments, "--json", **settings)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return dict(json.loads(result.stdout))


@pytest.fixture
async def old(database_url: str) -> str:
    """Return a database with three tasks, which ended 100 days ago; one has a pending message."""
    async with World.opened(database_url) as world:
        world.clock.forward(-100 * DAY)
        await ended(world, callback_url=None)
        world.edge.down.add("receiver.test")
        await ended(world)
        await newest(world)
    return database_url


async def test_dry_run_counts_what_prune_removes(old: str) -> None:
    counted = await documents(old, "--dry-run")
    assert counted["tasks"] == {
        "kept_for": "90d",
        "rows": 1,
        "size": counted["tasks"]["size"],
        "kept": {"a message is pending": 1, "it has the newest submission": 1, "it has the newest event": 1},
    }
    assert counted["inputs"]["rows"] == 3
    assert counted["inputs"]["size"] > 50
    assert counted["ledger"] == {"kept_for": "forever"}
    removed = (await documents(old))["removed"]
    assert removed["tasks"] == 1
    assert removed["inputs"] == 2  # of the tasks that are kept
    left = await documents(old, "--dry-run")
    assert {each["rows"] for each in left.values() if "rows" in each} == {0}
    assert (await documents(old))["removed"] == {}


async def test_prune_writes_sentences(old: str) -> None:
    counted = await prune(old, "--dry-run")
    assert "1 old task is kept: a message is pending" in counted.stderr + counted.stdout
    removed = await prune(old)
    assert "tasks: 1 removed" in removed.stderr + removed.stdout
    again = await prune(old)
    assert "Nothing is older than the settings allow." in again.stderr + again.stdout


async def test_settings_decide_what_goes(old: str) -> None:
    assert (await documents(old, DOVECOTE_RETENTION__TASKS="1y", DOVECOTE_RETENTION__EVENTS="forever"))[
        "removed"
    ].keys() == {
        "callbacks",
        "inputs",
        "results",
    }


async def test_compact_leaves_no_free_page(old: str) -> None:
    result = await prune(old, "--compact")
    assert result.exit_code == 0, result.output
    database = Database(old)
    if database.sqlite:
        async with database.reading() as connection:
            assert await connection.scalar(text("SELECT freelist_count FROM pragma_freelist_count")) == 0
    await database.close()


async def test_compact_gives_the_space_of_removed_rows_back(old: str) -> None:
    size = "SELECT pg_relation_size('callbacks') + pg_indexes_size('callbacks')"
    database = Database(old)
    if database.sqlite:
        pytest.skip("the test above is about SQLite")
    async with database.writing() as connection:
        row = (await connection.execute(select(tables.callbacks).limit(1))).one()
        keys = (
            {"id": UUID(int=number), "submission_id": uuid4(), "dedupe_key": uuid4().bytes, "due_at": None}
            for number in range(500)
        )
        await connection.execute(
            insert(tables.callbacks), [{**row._mapping, **each, "body": bytes(999)} for each in keys]
        )
        before = await connection.scalar(text(size))
    result = await prune(old, "--compact")
    assert result.exit_code == 0, result.output
    async with database.reading() as connection:
        assert await connection.scalar(text(size)) < before / 4
    await database.close()


async def test_table_in_use_is_not_compacted(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_space, "LOCK_TIMEOUT", 0.1)
    database = Database(old)
    if database.sqlite:
        pytest.skip("a SQLite file in use is refused before")
    async with database.reading() as connection:
        await connection.execute(text("SELECT 1 FROM webhook_endpoints"))
        result = await prune(old, "--compact")
    assert result.exit_code == exits.UNAVAILABLE, result.output
    assert "webhook_endpoints is in use: stop the server" in result.stderr
    await database.close()


async def test_dry_run_does_not_compact(database_url: str) -> None:
    result = await prune(database_url, "--dry-run", "--compact")
    assert result.exit_code == exits.USAGE
