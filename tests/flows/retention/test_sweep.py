"""Retention removes what is old and nothing that is still needed, on both databases."""

import dataclasses
import datetime as dt
from typing import Any

import pytest
from sqlalchemy import func, select

from service.domain.task import State, Task
from service.flows.retention import erase
from service.flows.retention import sweep as retention
from service.flows.retention.sweep import Sweep, run_due, run_to_the_end
from service.store import leases, tables
from service.store.retention import STEPS, Step
from tests.support.retention import DAY, accounts, count, ended, is_kept, keep, newest, sweep
from tests.support.world import JOB_SECONDS, World

ALL_TABLES = ("tasks", "submissions", "events", "callbacks", "webhook_messages", "webhook_attempts", "task_labels")


async def counts(world: World) -> dict[str, int]:
    return {name: await count(world, getattr(tables, name)) for name in ALL_TABLES}


async def test_old_task_goes_with_everything_that_belongs_to_it(world: World) -> None:
    old = await ended(world)
    before = await counts(world)
    assert all(before.values()), before
    world.clock.forward(91 * DAY)
    kept = await newest(world)
    removed = await sweep(world)
    assert removed["tasks"] == 1
    assert not await is_kept(world, old)
    assert await is_kept(world, kept)
    for name in ALL_TABLES:
        table = getattr(tables, name)
        if "task_id" in table.c:
            assert await count(world, table, table.c.task_id != kept.id) == 0, name
    assert await count(world, tables.callbacks) == len(await world.callbacks(kept))
    assert await count(world, tables.webhook_attempts) == 0


async def test_young_task_stays(world: World) -> None:
    await ended(world)
    world.clock.forward(89 * DAY)
    await newest(world)
    before = await counts(world)
    assert await sweep(world) == {}
    assert await counts(world) == before


async def test_ledger_is_the_same_after_its_tasks_are_removed(world: World) -> None:
    for prompt in ("a dove", "[fail] a dove", "[fail=moderated] a dove"):
        await ended(world, prompt)
    world.clock.forward(91 * DAY)
    await newest(world)
    before = await accounts(world)
    removed = await sweep(world)
    assert removed["tasks"] == 3
    assert await accounts(world) == before
    assert before[1]["submissions"] == 4


async def test_entries_of_the_ledger_go_after_their_own_time(world: World) -> None:
    await ended(world)
    world.clock.forward(91 * DAY)
    await newest(world)
    await sweep(world)
    assert await count(world, tables.ledger_entries) == 1
    keep(world, ledger="1y")
    world.clock.forward(200 * DAY)
    assert await sweep(world) == {}
    world.clock.forward(100 * DAY)
    assert await sweep(world) == {"ledger": 2}  # the submission, and what it cost
    assert await count(world, tables.money_entries) == 1


async def test_kind_that_cannot_be_removed_holds_up_no_other_kind(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: Any, **__: Any) -> Step:
        raise ValueError("a row that no one can read")

    await ended(world)
    world.clock.forward(91 * DAY)
    await newest(world)
    await sweep(world)
    keep(world, results="90d", ledger="1y")
    world.clock.forward(300 * DAY)
    monkeypatch.setattr(retention, "STEPS", {**STEPS, "results": fails})
    found = Sweep()
    with pytest.raises(ExceptionGroup, match="results"):
        await to_the_end(world, found)
    assert found.removed == {"ledger": 2}
    monkeypatch.undo()
    await to_the_end(world, found)
    assert not found.failed


async def to_the_end(world: World, found: Sweep) -> None:
    while await run_due(world.context, found):
        pass


async def open_task(world: World) -> Task:
    task = await world.submit("[stuck] a dove", deadline=DAY)
    await world.work()
    return task


async def expired_task(world: World) -> Task:
    """Return a task that Dovecote ended, and whose job is still watched."""
    task = await world.submit("[drop] a dove", deadline=JOB_SECONDS)
    await world.work()
    world.edge.down.add("sandbox.test")
    await world.until(JOB_SECONDS * 2)
    assert (await world.task(task)).due_at is not None
    return task


async def with_pending_message(world: World) -> Task:
    world.edge.down.add("receiver.test")
    task = await world.submit("a dove")
    await world.until(JOB_SECONDS * 4)
    return task


async def with_idempotency_key(world: World) -> Task:
    return await ended(world)


async def with_open_child(world: World) -> Task:
    parent = await ended(world)
    child = await open_task(world)
    async with world.context.database.writing() as connection:
        statement = tables.tasks.update().where(tables.tasks.c.id == child.id)
        await connection.execute(statement.values(parent_id=parent.id))
    return parent


async def with_unprocessed_callback(world: World) -> Task:
    task = await ended(world)
    async with world.context.database.writing() as connection:
        statement = tables.callbacks.update().values(decision=None, decided_at=None, due_at=world.clock())
        await connection.execute(statement)
    return task


async def with_watched_duplicate(world: World) -> Task:
    task = await ended(world)
    async with world.context.database.writing() as connection:
        await connection.execute(tables.submissions.update().values(due_at=world.clock()))
    return task


async def with_unbooked_price(world: World) -> Task:
    task = await ended(world)
    [submission] = await world.submissions(task)
    async with world.context.database.writing() as connection:
        await connection.execute(tables.reservations.delete())
        row = {
            "submission_id": submission.id,
            "task_id": task.id,
            "upstream": "elkapi",
            "dialect": task.dialect,
            "quote": {},
        }
        row |= {"holds": [], "reserved_at": world.clock(), "check_at": world.clock()}
        await connection.execute(tables.reservations.insert(), row)
    return task


async def with_unfinished_erasure(world: World) -> Task:
    task = await ended(world)
    await erase.request_one(world.context, task, with_cancel=False)
    return task


@pytest.mark.parametrize(
    "needed",
    [
        open_task,
        with_unbooked_price,
        with_unfinished_erasure,
        expired_task,
        with_pending_message,
        with_open_child,
        with_unprocessed_callback,
        with_watched_duplicate,
    ],
)
async def test_task_that_is_still_needed_stays(world: World, needed: Any) -> None:
    task = await needed(world)
    world.clock.forward(0.5 * DAY)
    ended_later = await newest_row(world)
    keep(world, tasks="1h")
    await sweep(world)
    assert await is_kept(world, task)
    assert await count(world, tables.tasks, tables.tasks.c.id == ended_later) == 1


async def newest_row(world: World) -> Any:
    """Insert an open task with the newest submission and event by itself: nothing is sent."""
    task = dataclasses.replace(await world.submit("later", callback_url=None), state=State.QUEUED)
    async with world.context.database.writing() as connection:
        await connection.execute(
            tables.submissions.insert(),
            {
                "id": world.context.new_id(),
                "task_id": task.id,
                "upstream": "elkapi",
                "dialect": "runway/aggregator",
                "outcome": "unavailable",
                "sent_at": world.clock(),
                "settled_at": world.clock(),
            },
        )
    return task.id


async def test_task_stays_while_its_idempotency_key_is_valid(world: World, api: Any) -> None:
    request = {"family": "runway", "operation": "text_to_video", "input": {"prompt": "a dove"}}
    made = (await api.post("/v1/tasks", json=request, headers={"Idempotency-Key": "mine"})).json()["id"]
    await world.until(JOB_SECONDS * 4)
    keep(world, tasks="1d", idempotency_keys="7d")
    world.clock.forward(6.9 * DAY)
    await newest_row(world)
    assert "tasks" not in await sweep(world)
    again = await api.post("/v1/tasks", json=request, headers={"Idempotency-Key": "mine"})
    assert again.json()["id"] == made
    world.clock.forward(0.2 * DAY)
    assert (await sweep(world))["tasks"] == 1


async def test_newest_submission_and_newest_event_stay(world: World) -> None:
    """By the newest submission a restored backup is detected; SQLite would assign the newest number again."""
    first = await ended(world)
    second = await ended(world)
    async with world.context.database.reading() as connection:
        number = await connection.scalar(select(func.max(tables.events.c.id)))
    world.clock.forward(400 * DAY)
    keep(world, tasks="1d", events="1d")
    await sweep(world)
    assert not await is_kept(world, first)
    assert await count(world, tables.submissions, tables.submissions.c.task_id == second.id) == 1
    assert await count(world, tables.events, tables.events.c.id == number) == 1


async def test_bodies_go_before_rows(world: World) -> None:
    task = await ended(world, options={"model": "gen4", "watermark": False})
    world.clock.forward(10 * DAY)
    await newest(world)
    keep(world, inputs="7d", callbacks="7d", messages="7d")
    removed = await sweep(world)
    assert removed["inputs"] == 1
    found = await world.task(task)
    assert (dict(found.input), dict(found.options)) == ({"model": "gen4"}, {})
    assert found.input_removed_at == world.clock()
    assert found.results
    assert found.results_removed_at is None
    assert await world.callbacks(task) == []
    assert await world.messages(task) == []
    assert await world.events(task)
    assert await sweep(world) == {}


async def test_results_go_from_the_task_and_its_history(world: World) -> None:
    task, failed = await ended(world), await ended(world, "[fail] a dove")
    urls = [result.url or "" for result in task.results]
    assert urls
    assert failed.failure is not None
    world.clock.forward(10 * DAY)
    await newest(world)
    keep(world, results="7d")
    assert (await sweep(world))["results"] == 2
    found = await world.task(task)
    assert (found.results, found.next_actions, found.state) == ((), (), State.SUCCEEDED)
    history = str(await world.events(task))
    assert not any(url in history for url in urls)
    after = (await world.task(failed)).failure
    assert after == dataclasses.replace(failed.failure, message=None)
    assert "succeeded" in [event.data.get("state") for event in await world.events(task)]


async def test_large_input_goes(world: World) -> None:
    task = await ended(world, "a dove " * 9000)
    assert await count(world, tables.large_inputs) == 1
    world.clock.forward(10 * DAY)
    await newest(world)
    keep(world, inputs="7d")
    await sweep(world)
    assert await count(world, tables.large_inputs) == 0
    found = await world.task(task)
    assert (dict(found.input), found.large_input) == ({}, False)


async def test_messages_that_were_replayed_lately_stay(world: World, api: Any) -> None:
    task = await ended(world)
    [message] = await world.messages(task)
    world.clock.forward(10 * DAY)
    await newest(world)
    keep(world, messages="7d")
    assert (await api.post(f"/v1/messages/{message.id}/replay")).status_code == 202
    assert "messages" not in await sweep(world)  # pending
    async with world.context.database.writing() as connection:
        delivered = {"state": "delivered", "delivered_at": world.clock(), "due_at": None}
        await connection.execute(tables.webhook_messages.update().values(delivered))
    assert "messages" not in await sweep(world)  # delivered now
    world.clock.forward(8 * DAY)
    assert (await sweep(world))["messages"] >= 1


async def test_callback_of_an_unknown_submission_goes_after_its_time(world: World) -> None:
    await ended(world)
    async with world.context.database.writing() as connection:
        await connection.execute(tables.callbacks.update().values(submission_id=world.context.new_id()))
    keep(world, callbacks="7d")
    world.clock.forward(6 * DAY)
    assert await sweep(world) == {}
    world.clock.forward(2 * DAY)
    assert (await sweep(world))["callbacks"] >= 1


def steps_of_at_most(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(retention, "FIRST_SIZE", rows)
    monkeypatch.setattr(retention, "MIN_SIZE", 1)
    paces = {sqlite: dataclasses.replace(pace, most=rows) for sqlite, pace in retention.PACES.items()}
    monkeypatch.setattr(retention, "PACES", paces)


async def test_blocked_rows_do_not_hide_those_behind_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    steps_of_at_most(monkeypatch, 1)
    world.edge.down.add("receiver.test")
    for _ in range(3):
        await world.submit("a dove")
    await world.until(JOB_SECONDS * 4)
    behind = await ended(world, callback_url=None)
    world.clock.forward(2 * DAY)
    await newest(world)
    keep(world, tasks="1d")
    assert (await sweep(world))["tasks"] == 1
    assert not await is_kept(world, behind)


async def test_tasks_that_ended_at_one_moment_all_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    steps_of_at_most(monkeypatch, 2)
    for _ in range(5):
        await world.submit("a dove", callback_url=None)
    await world.until(JOB_SECONDS * 4)
    async with world.context.database.writing() as connection:
        await connection.execute(tables.tasks.update().values(finished_at=world.clock()))
    world.clock.forward(91 * DAY)
    await newest(world)
    assert (await sweep(world))["tasks"] == 5


async def test_one_process_sweeps_at_a_time(world: World) -> None:
    await ended(world)
    world.clock.forward(91 * DAY)
    await newest(world)
    async with world.context.database.writing() as connection:
        assert await leases.acquire(connection, "retention", "another", now=world.clock(), seconds=60)
    assert await run_due(world.context, Sweep()) == 0
    with pytest.raises(LookupError, match="another process"):
        await run_to_the_end(world.context)
    world.clock.forward(61)
    assert (await sweep(world))["tasks"] == 1


@pytest.mark.parametrize(
    ("size", "seconds", "expected"),
    [(40, 0.008, 40), (40, 0.016, 20), (40, 0.0001, 80), (400, 0.001, 500), (10, 10.0, 10), (40, 0.0, 80)],
)
def test_size_of_a_step_follows_its_time(size: int, seconds: float, expected: int) -> None:
    pace = retention.Pace(target=0.008, pause=5.0, most=500)
    assert pace.next_size(size, seconds) == expected
    assert pace.pause_after(seconds) == max(5 * seconds, pace.min_pause)


async def test_sweep_beside_which_nothing_runs_takes_no_pauses(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        await ended(world)
    world.clock.forward(91 * DAY)
    await newest(world)
    monkeypatch.setattr(retention, "PACES", {})  # the usual ones are not looked at
    assert (await run_to_the_end(world.context, alone=True)).removed["tasks"] == 3


def test_every_time_of_retention_has_a_step(world: World) -> None:
    names = set(type(world.context.settings.retention).model_fields) - {"idempotency_keys"}
    assert names == set(retention.STEPS)
    assert world.context.settings.retention.age("tasks") == dt.timedelta(days=90)
