"""Doors show and serve the kept copies of results that the provider has deleted."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.domain.task import Task
from tests.support.doors import upstreams
from tests.support.kept_results import keeping
from tests.support.world import World

RUNWAY = {"upstream": "runway"}
DAY = 86_400.0


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    switches = {f"DOVECOTE_DOORS__{name}": "true" for name in ("RUNWAYML", "OPENAI")}
    switches["DOVECOTE_STORAGE__URL"] = f"file://{tmp_path}"
    async with keeping(database_url, **switches, **upstreams("http://sandbox.test")) as opened:
        yield opened


async def kept(world: World, **fields: str) -> Task:
    """Return a task whose result is kept."""
    task = await world.submit(**fields)
    await world.pass_time(60, step=5)
    task = await world.task(task)
    assert task.results[0].kept is not None
    assert task.results[0].kept.state == "kept"
    assert task.results[0].expires_at is not None
    return task


async def test_output_is_a_link_to_the_copy_once_the_provider_has_deleted_it(world: World) -> None:
    task = await kept(world, **RUNWAY)
    path = f"/runwayml/v1/tasks/{task.id}"
    assert (await world.client.get(path)).json()["output"] == [task.results[0].url]
    world.clock.forward(DAY + 1)
    (link,) = (await world.client.get(path)).json()["output"]
    assert link.startswith("http://localhost/results/")
    copy = await world.client.get(link)
    assert (copy.status_code, copy.headers["content-type"]) == (200, "video/mp4")


async def test_content_of_a_video_is_the_copy_with_ranges(world: World) -> None:
    task = await kept(world, **RUNWAY)
    part = await world.client.get(f"/openai/v1/videos/{task.id}/content", headers={"Range": "bytes=0-3"})
    assert (part.status_code, len(part.content)) == (206, 4)


async def test_url_that_needs_the_upstreams_key_is_not_shown(world: World) -> None:
    request = {"family": "openai", "operation": "text_to_video", "input": {"prompt": "a dove"}}
    made = (await world.client.post("/v1/tasks", json=request)).json()
    await world.work()
    await world.pass_time(300, step=10)
    video = (await world.client.get(f"/openai/v1/videos/{made['id']}")).json()
    assert (video["status"], "metadata" in video) == ("completed", False)
    content = await world.client.get(f"/openai/v1/videos/{made['id']}/content")
    assert (content.status_code, content.headers["content-type"]) == (200, "video/mp4")
