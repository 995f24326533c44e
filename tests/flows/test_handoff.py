"""Rows that a process claims as it writes them: it goes on with them without a claim, and their lease brings back those it forgets."""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest
from sqlalchemy import select

from service.domain.destination_slots import PER_DESTINATION, Destination
from service.domain.explanation import explain
from service.domain.schedules import LEASE
from service.domain.task import State, Task
from service.flows.callbacks import process
from service.flows.callbacks.receive import MAX_HANDED, store_callback
from service.flows.concurrency import TaskPool
from service.flows.signals.handoff import CLAIM_EVERY, FRESH, Handoff
from service.flows.submission import run as submission_run
from service.flows.webhooks import dispatch
from service.flows.webhooks.claimed import Claimed
from service.store import queue, tables
from service.store.webhooks.claim import destination_of
from service.worker import Worker
from tests.support.world import JOB_SECONDS, World

PROGRESS = b'{"task_id":"unknown","status":"PROCESSING"}'


async def submit_handed(world: World) -> None:
    pool = TaskPool(100)
    await submission_run.run_due(world.context, pool)
    await pool.finish()


async def process_handed(world: World) -> None:
    await process.run_due(world.context)


async def deliver_handed(world: World) -> None:
    pool = TaskPool(100)
    await dispatch.run_due(world.context, pool)
    await pool.finish()


async def call_back(world: World) -> None:
    world.clock.forward(JOB_SECONDS + 1)
    await world.sandbox.deliver_due()


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the claims that are made."""
    made: list[str] = []

    def noted(name: str, claim: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def claimed(*arguments: object, **options: object) -> object:
            made.append(name)
            return await claim(*arguments, **options)

        return claimed

    for name in ("claim_tasks", "claim_rows", "claim_messages"):
        monkeypatch.setattr(queue, name, noted(name, getattr(queue, name)))
    return made


async def test_journey_needs_no_claim_where_its_rows_are_handed_over(world: World, claims: list[str]) -> None:
    world.hand_over()
    task = await world.submit("a dove")
    await submit_handed(world)
    assert (await world.task(task)).state is State.SUBMITTED
    await call_back(world)
    await process_handed(world)
    await deliver_handed(world)
    assert claims == []
    assert (await world.task(task)).state is State.SUCCEEDED
    [message] = await world.messages(task)
    assert (message.state, message.attempts) == ("delivered", 1)
    assert len(world.sandbox.ledger.jobs) == 1
    assert [each.decision for each in await world.callbacks(task)][-1] == "applied"


STEPS: dict[str, int] = {"task": 0, "callback": 1, "message": 2}


@pytest.mark.parametrize("forgotten", STEPS)
async def test_row_that_a_process_forgets_is_claimed_after_its_lease(world: World, forgotten: str) -> None:
    world.hand_over()
    task = await world.submit("a dove")
    if STEPS[forgotten] > 0:
        await submit_handed(world)
        await call_back(world)
    if STEPS[forgotten] > 1:
        await process_handed(world)
    for handoff in (world.context.handed_tasks, world.context.handed_callbacks, world.context.handed_messages):
        handoff.stop()
        handoff.take(1000)
    await world.until(2 * LEASE + 2 * JOB_SECONDS)
    assert (await world.task(task)).state is State.SUCCEEDED
    assert len(world.sandbox.ledger.jobs) == 1
    assert [each.state for each in await world.messages(task)] == ["delivered"]
    assert len(world.receiver.received) == 1


async def test_accepted_task_shows_no_lease(world: World) -> None:
    world.hand_over()
    task = await world.submit("a dove")
    assert (task.due_at, task.attempts) == (task.created_at, 0)
    written = await world.task(task)
    assert (written.due_at, written.attempts) == (task.created_at + dt.timedelta(seconds=LEASE), 1)
    assert explain(written, now=world.clock()) == explain(task, now=world.clock())


async def test_repeated_request_is_handed_over_once(world: World) -> None:
    world.hand_over()
    headers = {"Idempotency-Key": "one"}
    document = {"family": "runway", "operation": "text_to_video", "input": {"prompt": "a dove"}}
    for _ in range(2):
        assert (await world.client.post("/v1/tasks", json=document, headers=headers)).status_code in {200, 202}
    assert len(world.context.handed_tasks.waiting()) == 1


async def test_copy_of_a_callback_is_handed_over_once(world: World) -> None:
    world.hand_over()
    submission = uuid4()
    for _ in range(2):
        await store_callback(world.context, "token", submission, {}, PROGRESS)
    assert len(world.context.handed_callbacks.waiting()) == 1


async def test_copy_of_a_callback_that_was_not_used_is_due_at_once(world: World) -> None:
    world.hand_over()
    submission = uuid4()
    await store_callback(world.context, "token", submission, {}, PROGRESS)
    await process_handed(world)  # no such submission
    world.clock.forward(1)
    await store_callback(world.context, "token", submission, {}, PROGRESS)
    assert world.context.handed_callbacks.waiting() == []
    async with world.context.database.reading() as connection:
        [row] = (await connection.execute(select(tables.callbacks))).all()
    assert (row.decision, row.due_at, row.attempts) == (None, world.clock(), 0)


async def test_large_callback_does_not_wait_in_memory(world: World) -> None:
    world.hand_over()
    await store_callback(world.context, "token", uuid4(), {}, b"x" * (MAX_HANDED + 1))
    assert world.context.handed_callbacks.waiting() == []
    assert await process.run_due(world.context) == 1


async def test_callback_is_processed_once_more_without_effect_after_an_unsure_commit(world: World) -> None:
    world.hand_over()
    task = await world.submit("a dove")
    await submit_handed(world)
    await call_back(world)
    handed = world.context.handed_callbacks.take(10)
    world.context.handed_callbacks.put_back(handed)
    await process_handed(world)
    world.context.handed_callbacks.put_back(handed)
    await process_handed(world)
    assert [each.decision for each in await world.callbacks(task)][-1] == "applied"
    assert len(await world.messages(task)) == 1


async def test_message_is_left_to_a_claim_while_its_destination_is_busy(world: World) -> None:
    world.hand_over()
    task = await world.submit("a dove")
    await submit_handed(world)
    await call_back(world)
    destination = _destination(task)
    for _ in range(PER_DESTINATION // 2):
        world.context.destination_slots.acquire(destination)
    await process_handed(world)
    [message] = await world.messages(task)
    assert (message.due_at, message.attempts) == (world.clock(), 0)
    assert world.context.handed_messages.waiting() == []


def _destination(task: Task) -> Destination:
    return Destination(task.client, "http://receiver.test", "receiver.test")


async def test_handed_message_without_a_free_slot_is_due_again_at_once(world: World) -> None:
    world.hand_over()
    task = await world.submit("a dove")
    await submit_handed(world)
    await call_back(world)
    await process_handed(world)
    [claimed] = world.context.handed_messages.waiting()
    assert isinstance(claimed, Claimed)
    destination = destination_of(claimed.message)
    for _ in range(PER_DESTINATION):
        world.context.destination_slots.acquire(destination)
    await deliver_handed(world)
    assert world.context.handed_messages.waiting() == []
    [message] = await world.messages(task)
    assert (message.state, message.due_at, message.attempts) == ("pending", world.clock(), 0)
    world.context.destination_slots.release(destination)
    await world.until(1)
    assert [each.state for each in await world.messages(task)] == ["delivered"]
    assert len(world.receiver.received) == 1


async def test_stop_makes_rows_due_that_no_round_has_taken(world: World) -> None:
    world.hand_over()
    task = await world.submit("a dove")
    await store_callback(world.context, "token", uuid4(), {}, PROGRESS)
    await Worker(world.context).finish(within=1)
    written = await world.task(task)
    assert (written.due_at, written.attempts) == (world.clock(), 0)
    async with world.context.database.reading() as connection:
        [row] = (await connection.execute(select(tables.callbacks))).all()
    assert (row.due_at, row.attempts) == (world.clock(), 0)
    assert not world.context.handed_tasks.admits()


class Seconds:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def a_handoff(limit: int = 2) -> tuple[Handoff[int], Seconds]:
    seconds = Seconds()
    return Handoff(limit, asyncio.Event(), monotonic=seconds), seconds


def test_handoff_is_closed_until_a_claim_has_found_every_due_row() -> None:
    handoff, _ = a_handoff()
    assert not handoff.admits()
    handoff.claimed(all_due=True)
    assert not handoff.admits()
    handoff.start()
    handoff.claimed(all_due=False)
    assert not handoff.admits()
    handoff.claimed(all_due=True)
    assert handoff.admits()
    handoff.stop()
    handoff.claimed(all_due=True)
    assert not handoff.admits()


def test_handoff_that_is_full_stays_closed_until_the_queue_is_empty() -> None:
    handoff, _ = a_handoff(limit=2)
    handoff.start()
    handoff.claimed(all_due=True)
    for number in range(2):
        assert handoff.admits()
        handoff.put(number)
    assert not handoff.admits()
    assert [row for _, row in handoff.take(10)] == [0, 1]
    assert not handoff.admits()  # rows that came meanwhile wait in the queue, and are older
    handoff.claimed(all_due=True)
    assert handoff.admits()


def test_row_that_waited_too_long_is_left_to_its_lease() -> None:
    handoff, seconds = a_handoff()
    handoff.start()
    handoff.claimed(all_due=True)
    handoff.put(1)
    seconds.now += FRESH + 1
    handoff.put(2)
    assert [row for _, row in handoff.take(10)] == [2]


def test_round_claims_other_rows_once_a_second() -> None:
    handoff, seconds = a_handoff()
    assert handoff.needs_claim(5)
    handoff.claimed(all_due=True)
    assert not handoff.needs_claim(5)
    assert handoff.needs_claim(0)
    seconds.now += CLAIM_EVERY
    assert handoff.needs_claim(5)
