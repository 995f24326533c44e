"""Rounds of submissions that cannot be written in one transaction: each task is submitted by itself, within the same limits."""

import dataclasses

from service.domain.task import Outcome, State, Submission, Task
from service.flows.concurrency import TaskPool
from service.flows.submission import run
from service.store import submissions
from tests.support.world import World


async def break_submission_of(world: World, task: Task) -> None:
    """Write a submission that may have a job, of which its task knows nothing: another one is refused by the database."""
    stray = Submission(
        id=world.context.new_id(),
        task_id=task.id,
        upstream="elkapi",
        dialect="runway/aggregator",
        sent_at=world.clock(),
    )
    uncertain = dataclasses.replace(stray, outcome=Outcome.UNCERTAIN, settled_at=world.clock())
    async with world.context.database.writing() as connection:
        await submissions.begin(connection, [uncertain])


async def test_round_of_single_tasks_keeps_the_concurrency_of_the_upstream(database_url: str) -> None:
    async with World.opened(database_url, DOVECOTE_UPSTREAMS__ELKAPI__CONCURRENCY="2") as world:
        tasks = [await world.submit() for _ in range(5)]
        await break_submission_of(world, tasks[1])
        slots, pool = world.context.upstreams["elkapi"].slots, TaskPool(100)
        await run.run_due(world.context, pool)
        assert slots.free == 0
        await pool.finish()
        assert slots.free == 2
        assert len(world.sandbox.ledger.jobs) == 2
        await world.work()
        assert slots.free == 2
        states = [(await world.task(task)).state for task in tasks]
        assert states == [State.SUBMITTED, State.QUEUED, State.SUBMITTED, State.SUBMITTED, State.SUBMITTED]
