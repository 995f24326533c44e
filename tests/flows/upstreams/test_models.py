"""The models of an upstream are requested from time to time. An unlisted model causes a warning, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.domain.task import State
from service.flows.context import KnownModels
from service.flows.submission.accept import accept
from service.flows.upstreams import models
from service.flows.upstreams.models import AFTER_ERROR, EVERY, TIMEOUT, current
from service.providers.wire import ModelList
from tests.support.world import JOB_SECONDS, World

PATH = "/v1/upstreams/elkapi/models"
LISTED = ["gen4_turbo", "suno_music", "mj_imagine"]


@pytest.fixture
async def world(sqlite_url: str) -> AsyncIterator[World]:
    async with World.opened(sqlite_url, SUNOAPI_KEY="a-key-of-sunoapi") as opened:
        yield opened


def asked(world: World) -> int:
    return sum(request.url.path == "/v1/models" for request in world.edge.requests)


async def test_models_are_listed_and_requested_again_after_ten_minutes(world: World) -> None:
    first = (await world.client.get(PATH)).json()
    assert first == {"upstream": "elkapi", "models": LISTED, "complete": True, "at": first["at"], "error": None}
    world.clock.forward(EVERY - 1)
    assert (await world.client.get(PATH)).json() == first
    assert asked(world) == 1
    world.clock.forward(1)
    assert (await world.client.get(PATH)).json()["at"] > first["at"]
    assert asked(world) == 2


class Held(httpx.AsyncBaseTransport):
    """Answers when it is released."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.asked, self.released = asyncio.Event(), asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.set()
        await self.released.wait()
        return await self._inner.handle_async_request(request)


async def test_requests_at_once_ask_the_upstream_once(world: World) -> None:
    held = world.edge.hosts["sandbox.test"] = Held(world.edge.hosts["sandbox.test"])
    asking = [asyncio.create_task(world.client.get(PATH)) for _ in range(5)]
    await held.asked.wait()
    for _ in range(50):  # by now each of them waits for the list
        await asyncio.sleep(0)
    held.released.set()
    found = await asyncio.gather(*asking)
    assert [each.json()["models"] for each in found] == [LISTED] * 5
    assert asked(world) == 1


@pytest.mark.parametrize(
    ("name", "detail"),
    [("elkap", "did you mean 'elkapi'"), ("sunoapi", "sunoapi has no list of models that Dovecote knows")],
)
async def test_list_that_there_is_not_is_not_found_with_the_reason(world: World, name: str, detail: str) -> None:
    response = await world.client.get(f"/v1/upstreams/{name}/models")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert detail in response.json()["detail"]


async def test_upstream_without_an_answer_is_unavailable_and_asked_again_later(world: World) -> None:
    world.edge.down.add("sandbox.test")
    for _ in range(2):
        response = await world.client.get(PATH)
        assert (response.status_code, response.json()["code"]) == (503, "upstream_unavailable")
        assert response.headers["Retry-After"] == "60"
    assert asked(world) == 1
    world.edge.down.clear()
    world.clock.forward(AFTER_ERROR)
    assert (await world.client.get(PATH)).json()["models"] == LISTED


async def test_old_list_is_shown_with_the_error(world: World) -> None:
    before = (await world.client.get(PATH)).json()
    world.edge.down.add("sandbox.test")
    world.clock.forward(EVERY)
    after = (await world.client.get(PATH)).json()
    assert after["error"]
    assert {**after, "error": None} == before


async def submitted(world: World, model: str | None, **more: Any) -> dict[str, Any]:
    document = {
        "family": "runway",
        "operation": "text_to_video",
        "input": {"prompt": "a dove", **({} if model is None else {"model": model})},
        **more,
    }
    response = await world.client.post("/v1/tasks", json=document)
    assert response.status_code == 202, response.text
    return dict(response.json())


async def test_task_with_an_unlisted_model_has_a_warning_and_succeeds(world: World) -> None:
    task = await submitted(world, "gen9_ultra")
    words = 'elkapi does not list the model "gen9_ultra" at present, and may refuse it; it lists "gen4_turbo"'
    assert task["warnings"] == [{"code": "model_not_listed", "message": words}]
    await world.work()
    await world.pass_time(JOB_SECONDS * 3)
    ended = (await world.client.get(f"/v1/tasks/{task['id']}")).json()
    assert (ended["state"], ended["warnings"]) == ("succeeded", task["warnings"])


@pytest.mark.parametrize("model", ["gen4_turbo", "GEN4-Turbo", "runwayml/gen4_turbo", "gen4", None])
async def test_listed_model_has_no_warning(world: World, model: str | None) -> None:
    assert (await submitted(world, model))["warnings"] == []


async def test_model_in_the_options_is_compared(world: World) -> None:
    assert (await submitted(world, "gen4_turbo", options={"model": "other"}))["warnings"] != []


async def test_model_is_not_compared_where_lists_do_not_name_it(world: World) -> None:
    song = {"family": "suno", "operation": "music", "input": {"prompt": "a dove", "model": "chirp-v5"}}
    assert (await accept(world.context, song, client="default")).task.warnings == ()


async def test_model_is_not_compared_with_a_list_that_is_not_complete(world: World) -> None:
    now = world.clock()
    part = KnownModels(models=ModelList(("gen4_turbo",), complete=False), at=now, asked_at=now)
    world.context.upstreams["elkapi"].models.known = part
    assert (await submitted(world, "gen9_ultra"))["warnings"] == []


async def test_submit_does_without_a_list_that_does_not_come(world: World) -> None:
    world.edge.down.add("sandbox.test")
    assert [(await submitted(world, "gen9_ultra"))["warnings"] for _ in range(2)] == [[], []]
    assert asked(world) == 1


async def test_submit_does_without_a_list_that_a_more_patient_caller_waits_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "SUBMIT_WAITS", 0.05)
    held = world.edge.hosts["sandbox.test"] = Held(world.edge.hosts["sandbox.test"])
    patient = asyncio.create_task(world.client.get(PATH))
    await held.asked.wait()
    async with asyncio.timeout(TIMEOUT / 2):
        assert (await submitted(world, "gen9_ultra"))["warnings"] == []
    held.released.set()
    assert (await patient).json()["models"] == LISTED
    assert asked(world) == 1


async def test_submit_without_a_model_requests_no_list(world: World) -> None:
    await submitted(world, None)
    assert asked(world) == 0


async def test_list_that_comes_after_the_request_warns_at_the_submission(world: World) -> None:
    world.edge.down.add("sandbox.test")
    task = await submitted(world, "gen9_ultra")
    world.edge.down.clear()
    world.clock.forward(AFTER_ERROR)
    await current(world.context, world.context.upstreams["elkapi"])
    await world.work()
    shown = (await world.client.get(f"/v1/tasks/{task['id']}")).json()
    assert (shown["state"] in {State.SUBMITTED, State.RUNNING}, len(shown["warnings"])) == (True, 1)
