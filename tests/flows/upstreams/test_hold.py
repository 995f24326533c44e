"""Paused and drained upstreams: no task is given to them by any process, open tasks go on, and resuming ends the wait."""

from collections.abc import Sequence

import pytest

from service.domain.task import State
from service.flows.upstreams import hold
from tests.support.world import World

SECOND = {
    "DOVECOTE_UPSTREAMS__OTHER__BASE_URL": "http://sandbox.test",
    "DOVECOTE_UPSTREAMS__OTHER__KEY": "sandbox-key",
    "DOVECOTE_UPSTREAMS__OTHER__DIALECTS": "runway/aggregator",
}


async def test_paused_upstream_is_given_no_task_until_it_is_resumed(world: World) -> None:
    await hold.hold(world.context, "elkapi", "paused", by="ops")
    task = await world.submit("a dove")
    await world.pass_time(30)
    waiting = await world.task(task)
    assert waiting.state is State.QUEUED
    assert await world.submissions(task) == []
    answer = (await world.client.get(f"/v1/tasks/{task.id}")).json()
    assert "an operator has paused elkapi" in answer["explanation"]
    assert "Nothing has been paid" in answer["explanation"]
    await hold.resume(world.context, "elkapi", by="ops")
    await world.pass_time(30)
    assert (await world.task(task)).state is State.SUCCEEDED
    assert len(await world.submissions(task)) == 1


async def test_open_tasks_of_a_held_upstream_are_followed_to_their_end(world: World) -> None:
    task = await world.submit("[drop] a dove")
    await world.work()
    await hold.hold(world.context, "elkapi", "draining", by="ops")
    await world.pass_time(40)
    assert (await world.task(task)).state is State.SUCCEEDED


@pytest.mark.parametrize(("mode", "served_by"), [("paused", []), ("draining", ["other"])])
async def test_drained_upstream_is_replaced_by_the_next_of_the_route(
    database_url: str, mode: hold.Mode, served_by: Sequence[str]
) -> None:
    async with World.opened(database_url, **SECOND) as world:
        await hold.hold(world.context, "elkapi", mode, by="ops")
        task = await world.submit("a dove")
        await world.pass_time(15)
        assert [each.upstream for each in await world.submissions(task)] == served_by


async def test_operator_holds_and_resumes_by_the_api(world: World) -> None:
    for act, mode in (("pause", "paused"), ("drain", "draining"), ("resume", None)):
        answer = await world.client.post(f"/v1/upstreams/elkapi/{act}")
        held = answer.json()["held"]
        assert (held and held["mode"], held and held["by"]) == (mode, mode and "default")
    assert (await world.client.post("/v1/upstreams/nothing/pause")).status_code == 404
