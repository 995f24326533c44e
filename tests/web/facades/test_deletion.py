"""Deleting at a door, as OpenAI's API does: the content is erased, and the id is not found any more."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.clients import ALICE, BOB, bearer
from tests.support.doors import upstreams
from tests.support.world import World

VIDEOS, RESPONSES = "/openai/v1/videos", "/openai/v1/responses"
BODIES: dict[str, dict[str, Any]] = {
    VIDEOS: {"model": "sora-2", "prompt": "a dove", "seconds": "8"},
    RESPONSES: {"model": "gpt-6-luna", "input": "Name three colours.", "background": True},
}


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    keys = {"DOVECOTE_API_KEYS": f"alice={ALICE},bob={BOB}", "DOVECOTE_DOORS__OPENAI": "true"}
    async with World.opened(database_url, **keys, **upstreams("http://sandbox.test")) as opened:
        opened.client.headers.update(bearer(ALICE))
        yield opened


async def created(world: World, path: str, **more: Any) -> tuple[str, str]:
    """Return the id at the door, and the task's id."""
    answer = await world.client.post(path, json=BODIES[path] | more)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"], answer.headers["dovecote-task"]


async def statuses(world: World, path: str) -> dict[str, int]:
    """Return the status of each call that names an id."""
    calls = [("GET", path), ("DELETE", path)]
    calls += [("GET", f"{path}/content"), ("POST", f"{path}/remix")] if VIDEOS in path else [("POST", f"{path}/cancel")]
    return {f"{method} {each}": (await world.client.request(method, each)).status_code for method, each in calls}


@pytest.mark.parametrize("path", [VIDEOS, RESPONSES])
async def test_finished_one_is_erased_and_not_found(world: World, path: str) -> None:
    named, task_id = await created(world, path)
    kept, _ = await created(world, path, seed=2)
    await world.pass_time(120, step=10)
    assert (await world.client.get(f"{path}/{named}")).json()["status"] == "completed"
    deleted = await world.client.delete(f"{path}/{named}")
    assert (deleted.status_code, deleted.json()["id"], deleted.json()["deleted"]) == (200, named, True)
    assert set((await statuses(world, f"{path}/{named}")).values()) == {404}
    task = (await world.client.get(f"/v1/tasks/{task_id}")).json()
    assert (task["erased_at"] is not None, task["results"], task["input"]) == (True, [], {})
    assert (await world.client.get(f"{path}/{kept}")).json()["status"] == "completed"
    if path == VIDEOS:
        assert [each["id"] for each in (await world.client.get(path)).json()["data"]] == [kept]


@pytest.mark.parametrize("path", [VIDEOS, RESPONSES])
async def test_running_one_is_cancelled_and_not_found_at_once(world: World, path: str) -> None:
    named, task_id = await created(world, path)
    await world.work()
    assert (await world.client.delete(f"{path}/{named}")).status_code == 200
    assert (await world.client.get(f"{path}/{named}")).status_code == 404
    if path == VIDEOS:
        assert (await world.client.get(path)).json()["data"] == []
    await world.pass_time(600, step=30)
    task = (await world.client.get(f"/v1/tasks/{task_id}")).json()
    assert (task["erased_at"] is not None, task["results"]) == (True, [])


async def test_one_that_is_only_cancelled_stays(world: World) -> None:
    named, task_id = await created(world, VIDEOS)
    await world.work()
    await world.client.post(f"/v1/tasks/{task_id}/cancel")
    assert (await world.client.get(f"{VIDEOS}/{named}")).status_code == 200
    assert [each["id"] for each in (await world.client.get(VIDEOS)).json()["data"]] == [named]


@pytest.mark.parametrize("path", [VIDEOS, RESPONSES])
async def test_one_of_another_client_is_not_deleted(world: World, path: str) -> None:
    named, _ = await created(world, path)
    other = await world.client.delete(f"{path}/{named}", headers=bearer(BOB))
    assert other.status_code == 404
    assert (await world.client.get(f"{path}/{named}")).status_code == 200
