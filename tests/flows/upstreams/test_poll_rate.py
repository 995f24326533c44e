"""Requests to poll now respect the rate of the upstream, and no client uses more than its share."""

from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest

from service.domain.task import Task
from service.flows import polling
from service.flows.concurrency import TaskPool
from service.flows.upstreams.poll_rate import CLIENT_RATE, PolledTooOften
from tests.support.world import World


def limit(per_second: str) -> dict[str, str]:
    return {"DOVECOTE_UPSTREAMS__ELKAPI__POLLS_PER_SECOND": per_second} if per_second else {}


@pytest.fixture
async def limited(database_url: str) -> AsyncIterator[World]:
    async with World.opened(database_url, **limit("4")) as world:
        yield world


async def running(world: World, client: str = "ada") -> Task:
    task = await world.submit_as(client, "[drop][stuck] a dove", callback_url=None)
    await world.work()
    return await world.task(task)


async def polls(world: World, task: Task, client: str, times: int) -> Counter[bool]:
    """Refresh several times at one moment. Return the numbers of queries and of refusals."""
    asked: Counter[bool] = Counter()
    waits: list[float] = []
    for _ in range(times):
        before = len(world.edge.requests)
        try:
            await polling.poll_now(world.context, task, client=client)
        except PolledTooOften as error:
            waits.append(error.wait)
        asked[len(world.edge.requests) > before] += 1
    assert len(waits) == asked[False]
    assert all(0 < wait <= 1 for wait in waits)
    return asked


async def test_client_uses_half_of_the_rate(limited: World) -> None:
    task = await running(limited)
    limited.clock.forward(10)
    assert await polls(limited, task, "ada", 10) == {True: 2, False: 8}
    assert await polls(limited, task, "ben", 10) == {True: 2, False: 8}
    assert await polls(limited, task, "zoe", 10) == {False: 10}, "the rate of the upstream is used up"
    limited.clock.forward(1)
    assert await polls(limited, task, "ada", 10) == {True: 2, False: 8}


async def test_polls_by_schedule_and_on_request_share_the_rate(database_url: str) -> None:
    async with World.opened(database_url, **limit("1")) as world:
        task = await running(world)
        world.clock.forward(30)
        assert await polls(world, task, "ada", 1) == {True: 1}
        before = len(world.edge.requests)
        await world.work()
        assert len(world.edge.requests) == before


async def test_client_has_a_share_also_without_a_rate(database_url: str) -> None:
    async with World.opened(database_url) as world:
        task = await running(world)
        assert await polls(world, task, "ada", 20) == {True: CLIENT_RATE, False: 20 - CLIENT_RATE}
        assert (await polls(world, task, "ben", 1)) == {True: 1}


async def test_too_many_requests_are_answered_429_with_a_wait(limited: World) -> None:
    task = await running(limited, "default")
    answers: list[httpx.Response] = [await limited.client.post(f"/v1/tasks/{task.id}/refresh") for _ in range(5)]
    assert [each.status_code for each in answers] == [200, 200, 429, 429, 429]
    assert answers[-1].json()["code"] == "rate_limited"
    assert "elkapi is polled as often as it may be" in answers[-1].json()["detail"]
    assert int(answers[-1].headers["Retry-After"]) >= 1


async def test_request_finds_no_free_slot_where_polls_hang(limited: World) -> None:
    task = await running(limited)
    limited.context.upstreams["elkapi"].polls.free = 0
    with pytest.raises(PolledTooOften):
        await polling.poll_now(limited.context, task, client="ada")


async def test_tasks_without_a_free_slot_are_due_one_after_another(world: World) -> None:
    """While an upstream hangs, every task of it is claimed and put off again and again: that may not use the process up."""
    tasks = [await running(world) for _ in range(4)]
    world.context.upstreams["elkapi"].polls.free = 0
    world.clock.forward(400)
    pool = TaskPool(100)
    assert await polling.run_due(world.context, pool) == 4
    await pool.finish()
    due = [(await world.task(each)).due_at for each in tasks]
    waits = sorted((at - world.clock.now).total_seconds() for at in due if at is not None)
    assert waits == pytest.approx([2.0, 2.01, 2.02, 2.03], abs=0.005)


async def test_task_of_a_removed_upstream_is_not_asked_about(limited: World) -> None:
    task = await running(limited)
    limited.context.upstreams = {}
    applied = await polling.poll_now(limited.context, task, client="ada")
    assert applied.decision == "ignored"
