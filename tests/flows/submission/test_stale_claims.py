"""A process that was paused sends nothing on an expired claim, and returns it to the queue."""

import asyncio
from typing import Any

import httpx
import pytest

from service.domain.task import Outcome, State
from service.flows import polling
from service.flows.callbacks import process
from service.flows.concurrency import TaskPool
from service.flows.submission import duplicates
from service.flows.submission import run as submission_run
from service.flows.submission.send import SEND_WITHIN
from service.sandbox import Faults
from service.store import circuits as circuit_store
from tests.support.routes import three_upstreams
from tests.support.world import World

ALONE = {"DOVECOTE_ROUTES__RUNWAY": "elkapi"}


class Paused:
    """A held monotonic clock. It pauses the process once, between the claim and the call."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self.world, self.seconds, self.elapsed = world, seconds, 1000.0
        self.resumed = asyncio.Event()
        self.waiting = asyncio.Event()
        world.context.monotonic = lambda: self.elapsed
        serve = submission_run.serve

        async def serve_after_pause(context: Any, handover: Any) -> None:
            if not self.resumed.is_set():
                self.waiting.set()
                await self.resumed.wait()
            await serve(context, handover)

        monkeypatch.setattr(submission_run, "serve", serve_after_pause)

    async def claim(self) -> TaskPool:
        """Claim the due rows, and pause before they are sent."""
        pool = TaskPool(10)
        await submission_run.run_due(self.world.context, pool)
        await self.waiting.wait()
        return pool

    def resume(self) -> None:
        self.elapsed += self.seconds
        self.resumed.set()


async def test_submission_of_an_old_claim_is_not_sent_and_its_task_is_submitted_anew(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with World.opened(database_url, **ALONE) as world:
        paused = Paused(world, monkeypatch, SEND_WITHIN + 1)
        task = await world.submit()
        pool = await paused.claim()
        paused.resume()
        await pool.finish()
        assert world.sandbox.ledger.jobs == []
        again = await world.task(task)
        assert (again.state, again.unconfirmed_since) == (State.QUEUED, None)
        assert [each.outcome for each in await world.submissions(task)] == [Outcome.UNAVAILABLE]
        await world.until(60)
        assert (await world.task(task)).state is State.SUCCEEDED
        assert len(world.sandbox.ledger.jobs) == 1


async def test_submission_of_a_young_claim_is_sent(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with World.opened(database_url, **ALONE) as world:
        paused = Paused(world, monkeypatch, SEND_WITHIN - 1)
        task = await world.submit()
        pool = await paused.claim()
        paused.resume()
        await pool.finish()
        assert [each.outcome for each in await world.submissions(task)] == [Outcome.TAKEN]


@pytest.mark.parametrize("policy", ["hold", "fail", "resubmit_once"])
async def test_task_that_another_process_gave_up_is_not_bought_twice(
    database_url: str, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    """While the process is paused, another one finds the submission in flight and applies the policy."""
    async with World.opened(database_url, **ALONE) as world:
        paused = Paused(world, monkeypatch, 600)
        task = await world.submit(on_uncertain=policy)
        pool = await paused.claim()
        world.clock.forward(300)
        other = TaskPool(10)
        await submission_run.run_due(world.context, other)
        assert (await world.task(task)).state is State.UNCONFIRMED
        world.clock.forward(300)
        await polling.run_due(world.context, other)
        await other.finish()
        concluded = (await world.task(task)).state
        assert concluded is {"hold": State.UNCONFIRMED, "fail": State.FAILED}.get(policy, State.QUEUED)
        paused.resume()
        await pool.finish()
        await world.until(120)
        ended = await world.task(task)
        assert ended.state is (State.FAILED if policy == "fail" else State.SUCCEEDED)
        assert len(world.sandbox.ledger.jobs) == (0 if policy == "fail" else 1)
        first, *_ = await world.submissions(task)
        assert first.outcome is Outcome.UNAVAILABLE


async def test_probe_that_was_not_sent_leaves_the_circuit_open(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with World.opened(database_url, **ALONE) as world:
        world.edge.down.add("sandbox.test")
        for _ in range(5):
            await world.submit()
        await world.work()
        world.edge.down.clear()
        world.clock.forward(31)
        paused = Paused(world, monkeypatch, SEND_WITHIN + 1)
        pool = await paused.claim()
        paused.resume()
        await pool.finish()
        async with world.context.database.reading() as connection:
            [circuit] = (await circuit_store.all_known(connection)).values()
        assert circuit.state(world.clock()) == "probing"


async def test_poll_of_an_old_claim_is_not_asked(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with three_upstreams(database_url, **ALONE) as three:
        world = three.world
        three.elk.faults = Faults.named(["drop"])
        await world.submit()
        await world.work()
        world.clock.forward(60)
        asked: list[httpx.Request] = []
        elapsed = iter([0.0])
        world.context.monotonic = lambda: next(elapsed, 100.0)
        world.edge.requests = asked
        pool = TaskPool(10)
        assert await polling.run_due(world.context, pool) == 1
        await pool.finish()
        assert asked == []
        assert await polling.run_due(world.context, pool) == 1


async def test_duplicate_of_an_old_claim_is_not_asked_about(database_url: str) -> None:
    """Its task may have adopted the job meanwhile. A cancel would then destroy a paid result."""
    async with three_upstreams(database_url, DOVECOTE_ROUTES__RUNWAY="elkapi,cometapi") as three:
        world = three.world
        three.elk.faults = Faults.named(["cut", "drop"])
        task = await world.submit(callback_url=None)
        await world.work()
        await world.client.post(f"/v1/tasks/{task.id}/retry", json={"confirm_double_payment": True})
        await world.work()
        first, _ = await world.submissions(task)
        [job] = three.elk.ledger.jobs
        path = f"/callbacks/{world.context.tokens.make(first.id)}"
        await world.client.post(path, json={"task_id": job.id, "status": "1", "msg": "1"})
        await process.run_due(world.context)
        elapsed = iter([0.0])
        world.context.monotonic = lambda: next(elapsed, 100.0)
        asked: list[httpx.Request] = []
        world.edge.requests = asked
        pool = TaskPool(10)
        assert await duplicates.run_due(world.context, pool) == 1
        await pool.finish()
        assert asked == []
        world.clock.forward(61)
        assert await duplicates.run_due(world.context, pool) == 1
        await pool.finish()
        assert asked != [], "the claim after it is young"
