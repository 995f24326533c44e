"""Retention and erasure reach the kept copies: the storage holds nothing of them afterwards."""

from collections.abc import AsyncIterator

import pytest

from service.flows.retention import erase
from service.flows.retention.sweep import run_to_the_end
from tests.support.kept_results import assets_of, finished, keeping, names
from tests.support.world import World

HOUR = 3600.0


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with keeping(database_url, DOVECOTE_RETENTION__RESULTS="1h", DOVECOTE_RETENTION__TASKS="2h") as opened:
        yield opened


@pytest.mark.parametrize("hours", [1.5, 3.0], ids=["results", "tasks"])
async def test_retention_deletes_the_copies(world: World, hours: float) -> None:
    task = await finished(world)
    assert len(await names(world)) == 6
    world.clock.forward(hours * HOUR)
    await run_to_the_end(world.context)
    await world.work()
    assert await names(world) == []
    assert await assets_of(world, task) == []


async def test_erasure_deletes_the_copies(world: World) -> None:
    task = await finished(world)
    await erase.request_one(world.context, task, with_cancel=False)
    await world.work()
    await world.until(60)
    assert await names(world) == []
    assert await assets_of(world, task) == []


async def test_copy_in_flight_is_dropped_when_its_task_is_erased(world: World) -> None:
    task = await finished(world, "[file503=1]")
    await erase.request_one(world.context, task, with_cancel=False)
    await world.until(HOUR)
    assert await names(world) == []
    assert await assets_of(world, task) == []
