"""Reads of ended tasks: what they cost does not grow with the callbacks of other tasks."""

import datetime as dt
from pathlib import Path

from bench.growth.plans import plans_of, statements_of
from service.store import endings
from service.store.database import Database
from service.store.migrate import migrate


async def test_statistics_read_the_callbacks_of_each_task_by_its_submissions(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'dovecote.db'}")
    await migrate(database)
    since = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    try:
        async with database.writing() as connection:
            ran = await statements_of(connection, lambda it: endings.recent_endings(it, since=since, most=100))
            plan = await plans_of(connection, ran)
    finally:
        await database.close()
    assert "SEARCH submissions USING" in plan
    assert "ix_callbacks_decision" not in plan, plan
