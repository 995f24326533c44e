"""A database restored from a backup pays nothing twice. The policy of each task decides whether it is submitted again."""

import shutil
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from service.cli.backup import copy_sqlite
from service.domain.task import State, Task
from service.flows.submission.restored import settle_if_restored, settle_restored
from service.sandbox import Faults
from service.store import callbacks as callback_store
from service.store import restoration
from service.store.database import Database
from service.store.restoration import Mark
from tests.conftest import migrated, run_sql
from tests.support.world import World

ALONE = {"DOVECOTE_ROUTES__RUNWAY": "elkapi"}
POLICIES = ["hold", "fail", "resubmit_once"]


class Installation:
    """A database with backups. It is opened anew after each restore."""

    def __init__(self, url: str, back_up: Callable[[], Any], restore: Callable[[], Any]) -> None:
        self.url, self.back_up, self.restore = url, back_up, restore


@pytest.fixture(params=["sqlite", "postgresql"])
async def installation(
    request: pytest.FixtureRequest, sqlite_url: str, tmp_path: Path, postgresql: Callable[[str], str]
) -> AsyncIterator[Installation]:
    if request.param == "sqlite":
        url = sqlite_url
        live, copy = tmp_path / "dovecote.db", tmp_path / "backup"

        async def copy_away() -> None:
            copy_sqlite(live, copy)

        async def copy_back() -> None:
            for suffix in ("-wal", "-shm"):
                live.with_name(live.name + suffix).unlink(missing_ok=True)
            shutil.copy(copy, live)

        yield Installation(url, copy_away, copy_back)
        return
    name = f"restored_{uuid.uuid4().hex}"
    await run_sql(postgresql("postgres"), f"CREATE DATABASE {name}")
    await migrated(postgresql(name))

    async def dump() -> None:
        await run_sql(postgresql("postgres"), f"CREATE DATABASE {name}_copy TEMPLATE {name}")

    async def put_back() -> None:
        await run_sql(postgresql("postgres"), f"DROP DATABASE {name} WITH (FORCE)")
        await run_sql(postgresql("postgres"), f"ALTER DATABASE {name}_copy RENAME TO {name}")

    yield Installation(postgresql(name), dump, put_back)
    await run_sql(postgresql("postgres"), f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    await run_sql(postgresql("postgres"), f"DROP DATABASE IF EXISTS {name}_copy WITH (FORCE)")


def with_mark(world: World) -> World:
    database = world.context.database
    world.context.mark = Mark(database.url.database or "") if database.sqlite else None
    return world


async def accepted_in_backup(installation: Installation) -> list[Task]:
    """Accept a task of every policy, back up, submit them all, and restore the backup."""
    async with World.opened(installation.url, **ALONE) as world:
        with_mark(world)
        assert await settle_if_restored(world.context) == 0
        tasks = [await world.submit(on_uncertain=policy) for policy in POLICIES]
        if not world.context.database.sqlite:
            await world.context.database.close()  # a template may not be in use
        await installation.back_up()
        await world.work()
        assert len(world.sandbox.ledger.jobs) == len(POLICIES)
    await installation.restore()
    return tasks


async def test_restore_is_detected_and_nothing_is_paid_twice_by_itself(installation: Installation) -> None:
    tasks = await accepted_in_backup(installation)
    async with World.opened(installation.url, **ALONE) as world:
        with_mark(world)
        assert await settle_if_restored(world.context) == len(POLICIES)
        assert {(await world.task(task)).state for task in tasks} == {State.UNCONFIRMED}
        shown = (await world.client.get(f"/v1/tasks/{tasks[0].id}")).json()
        assert "restored from a backup" in shown["explanation"]
        await world.until(60)
        hold, fail, again = [await world.task(task) for task in tasks]
        assert (hold.state, fail.state, again.state) == (State.UNCONFIRMED, State.FAILED, State.SUCCEEDED)
        assert len(world.sandbox.ledger.jobs) == 1, "the client of resubmit_once accepts a second charge"
        await world.until(4000)
        expired = await world.task(tasks[0])
        assert expired.state is State.EXPIRED
        shown = (await world.client.get(f"/v1/tasks/{tasks[0].id}")).json()
        assert "may have been submitted and paid for" in shown["explanation"]
        assert len(world.sandbox.ledger.jobs) == 1


async def test_restore_is_settled_once(installation: Installation) -> None:
    await accepted_in_backup(installation)
    async with World.opened(installation.url, **ALONE) as world:
        with_mark(world)
        assert await settle_if_restored(world.context) == len(POLICIES)
        later = await world.submit()
        assert await settle_if_restored(world.context) == 0
        assert (await world.task(later)).state is State.QUEUED


async def test_feed_cursor_issued_after_the_backup_is_refused_after_the_restore(installation: Installation) -> None:
    async with World.opened(installation.url, **ALONE) as world:
        with_mark(world)
        assert await settle_if_restored(world.context) == 0
        await world.submit()
        await world.work()
        kept = (await world.client.get("/v1/events")).json()["next"]
        if not world.context.database.sqlite:
            await world.context.database.close()  # a template may not be in use
        await installation.back_up()
        await world.submit()
        await world.work()
        lost = (await world.client.get("/v1/events", params={"after": kept})).json()["next"]
        assert lost != kept
    await installation.restore()
    async with World.opened(installation.url, **ALONE) as world:
        with_mark(world)
        await settle_if_restored(world.context)
        for _ in range(3):
            await world.submit()
        await world.until(60)
        assert (await world.client.get("/v1/events", params={"after": lost})).status_code == 409
        page = (await world.client.get("/v1/events", params={"after": kept})).json()
        assert len(page["events"]) >= 3


async def test_operator_can_submit_a_restored_task_again(installation: Installation) -> None:
    tasks = await accepted_in_backup(installation)
    async with World.opened(installation.url, **ALONE) as world:
        with_mark(world)
        await settle_if_restored(world.context)
        answer = await world.client.post(f"/v1/tasks/{tasks[0].id}/retry", json={"confirm_double_payment": True})
        assert answer.status_code == 202
        await world.until(60)
        assert (await world.task(tasks[0])).state is State.SUCCEEDED


async def test_restored_task_can_be_cancelled(installation: Installation) -> None:
    tasks = await accepted_in_backup(installation)
    async with World.opened(installation.url, **ALONE) as world:
        with_mark(world)
        await settle_if_restored(world.context)
        assert (await world.client.post(f"/v1/tasks/{tasks[2].id}/cancel")).status_code == 202
        await world.until(60)
        assert (await world.task(tasks[2])).state is State.CANCELLED
        assert world.sandbox.ledger.jobs == []


async def test_callback_of_a_job_that_the_backup_does_not_know_is_kept_and_logged(
    installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    unknown = uuid.uuid4()
    async with World.opened(installation.url, **ALONE) as world:
        path = f"/callbacks/{world.context.tokens.make(unknown)}"
        assert (await world.client.post(path, json={"task_id": "job-7"})).status_code == 200
        await world.work()
        async with world.context.database.reading() as connection:
            [kept] = await callback_store.decided(connection, "unmatched", most=10)
        assert (kept.submission_id, kept.body) == (unknown, b'{"task_id":"job-7"}')
    assert f"callback of an unknown submission kept callback={kept.id} submission={unknown}" in caplog.messages


async def test_submission_in_flight_in_the_backup_is_settled_and_its_callback_still_counts(database_url: str) -> None:
    async with World.opened(database_url, faults=Faults.named(["cut"]), **ALONE) as world:
        task = await world.submit()
        async with world.context.database.writing() as connection:
            await connection.execute(text("UPDATE tasks SET state = 'queued'"))
        await world.work()
        async with world.context.database.writing() as connection:
            await connection.execute(text("UPDATE tasks SET state = 'submitting', unconfirmed_since = NULL"))
            await connection.execute(
                text("UPDATE submissions SET outcome = 'sending', settled_at = NULL, code = NULL, message = NULL")
            )
        assert await settle_restored(world.context) == 1
        [submission] = await world.submissions(task)
        assert submission.outcome == "uncertain"
        await world.until(60)
        assert (await world.task(task)).state is State.SUCCEEDED
        assert len(world.sandbox.ledger.jobs) == 1


async def test_resubmission_that_may_have_happened_since_the_backup_does_not_happen_again(database_url: str) -> None:
    async with World.opened(database_url, faults=Faults.named(["cut", "drop"]), **ALONE) as world:
        task = await world.submit(on_uncertain="resubmit_once")
        await world.work()
        assert (await world.task(task)).state is State.UNCONFIRMED
        queued = await world.submit(on_uncertain="resubmit_once")
        assert await settle_restored(world.context) == 2
        assert [(await world.task(each)).on_uncertain for each in (task, queued)] == ["hold", "resubmit_once"]
        await world.until(600)
        assert (await world.task(task)).state is State.UNCONFIRMED
        assert len(world.sandbox.ledger.jobs) == 2


async def test_many_tasks_are_settled(database_url: str) -> None:
    async with World.opened(database_url, **ALONE) as world:
        tasks = [await world.submit() for _ in range(3)]
        assert await settle_restored(world.context) == 3
        assert {(await world.task(each)).state for each in tasks} == {State.UNCONFIRMED}


# ── the mark ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_mark_only_advances(tmp_path: Path) -> None:
    mark = Mark(str(tmp_path / "dovecote.db"))
    assert mark.read() is None
    older, newer = uuid.UUID(int=5), uuid.UUID(int=7)
    mark.note(newer)
    mark.note(older)
    assert mark.read() == newer
    assert (tmp_path / "dovecote.db-newest").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "nonsense", "ä" * 40, "0" * 31])
def test_unreadable_mark_is_no_mark(tmp_path: Path, content: str) -> None:
    (tmp_path / "dovecote.db-newest").write_text(content)
    assert Mark(str(tmp_path / "dovecote.db")).read() is None


def test_mark_that_cannot_be_written_is_left_behind(tmp_path: Path) -> None:
    mark = Mark(str(tmp_path / "missing" / "dovecote.db"))
    mark.note(uuid.UUID(int=7))
    assert mark.read() is None


async def test_role_without_privileges_can_read_the_location_of_the_database(
    postgresql: Callable[[str], str], postgresql_url: str
) -> None:
    role = f"plain_{uuid.uuid4().hex}"
    await run_sql(postgresql_url, f"CREATE ROLE {role}")
    database = Database(postgresql_url)
    try:
        async with database.reading() as connection:
            privileged = await restoration.location(connection)
            await connection.execute(text(f"SET LOCAL ROLE {role}"))
            assert await restoration.location(connection) == privileged
        assert privileged is not None
        assert privileged.count("/") == 3
    finally:
        await database.close()
        await run_sql(postgresql("postgres"), f"DROP ROLE {role}")


async def test_location_that_may_not_be_read_is_unknown(postgresql: Callable[[str], str], postgresql_url: str) -> None:
    role = f"plain_{uuid.uuid4().hex}"
    await run_sql(postgresql_url, f"CREATE ROLE {role}; REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    database = Database(postgresql_url)
    try:
        async with database.reading() as connection:
            await connection.execute(text(f"SET LOCAL ROLE {role}"))
            assert await restoration.location(connection) is None
    finally:
        await database.close()
        restore = f"GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC; DROP ROLE {role}"
        await run_sql(postgresql_url, restore)
