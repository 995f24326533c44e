"""Rounds of a journey: they follow each other at an interval, and what comes meanwhile shares the next one."""

import asyncio

import pytest

from service import worker
from service.domain.flows import FLOWS, Flow
from service.flows.metrics.process import Metrics
from tests.support.world import World


async def test_wakes_between_two_rounds_share_one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds, paused, go_on, stopping = 0, asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> int:
        nonlocal rounds
        rounds += 1
        return 0

    async def pause(seconds: float) -> None:
        assert seconds <= worker.ROUND_EVERY
        paused.set()
        await go_on.wait()
        go_on.clear()

    journey = worker._Journey("submit", asyncio.Event(), work, metrics=Metrics())
    monkeypatch.setattr(worker.asyncio, "sleep", pause)
    running = asyncio.create_task(journey.run(stopping))
    for expected in (1, 2):
        for _ in range(3):
            journey.wake.set()
        await paused.wait()
        paused.clear()
        assert rounds == expected
        journey.wake.set()
        go_on.set()
    await paused.wait()
    assert rounds == 3  # the wake of the last pause
    stopping.set()
    go_on.set()
    await running


@pytest.mark.parametrize(
    ("flows", "expected"),
    [
        (["poll"], {"poll", "learn"}),
        (["money", "results"], {"money", "charge log", "balances", "sums", "results", "sweep", "uploads", "learn"}),
    ],
)
async def test_worker_runs_the_journeys_of_its_flows_only(
    sqlite_url: str, flows: list[Flow], expected: set[str]
) -> None:
    async with World.opened(sqlite_url) as world:
        assert {each.name for each in worker.Worker(world.context, flows)._journeys} == expected
        whole = {each.name for each in worker.Worker(world.context)._journeys}
        parts = [{each.name for each in worker.Worker(world.context, [flow])._journeys} for flow in FLOWS]
        assert set().union(*parts) == whole, "a journey belongs to no flow"
        assert all(part > {"learn"} for part in parts), "a flow has no journey"


async def test_round_that_found_work_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    left, stopping = [2, 1, 0], asyncio.Event()

    async def work() -> int:
        if len(left) == 1:
            stopping.set()
        return left.pop(0)

    async def no_pause(_: float) -> None:
        return

    monkeypatch.setattr(worker.asyncio, "sleep", no_pause)
    journey = worker._Journey("submit", asyncio.Event(), work, metrics=Metrics())
    journey.wake.set()
    await journey.run(stopping)
    assert left == []
