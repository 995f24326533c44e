"""Journeys of MiniMax tasks on a held clock: the challenge within the submit, the file step, and the choice by model."""

import json

import httpx
import pytest

from service.domain.task import Source, State
from tests.support.world import JOB_SECONDS, World

HOST = {
    "DOVECOTE_UPSTREAMS__ELKAPI__DIALECTS": "minimax/official-v2,minimax/official",
    "DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL": "http://minimax.test",
}
FILM = "https://cdn.minimax.test/v.mp4"
FINE = {"status_code": 0, "status_msg": "success"}


def answer(body: object) -> httpx.Response:
    return httpx.Response(200, stream=httpx.ByteStream(json.dumps(body).encode()))


class MiniMax(httpx.AsyncBaseTransport):
    """Plays MiniMax: it checks the callback URL before it answers the submit, and calls nothing that fails the check."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.callback_url: str | None = None
        self.echoes: list[object] = []
        self.asked: list[str] = []
        self.done = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.asked.append(f"{request.method} {path}")
        if request.method == "POST":
            return answer(await self._submit(json.loads(await request.aread())))
        if path == "/v1/files/retrieve":
            return answer({"file": {"file_id": 9, "download_url": FILM}, "base_resp": FINE})
        word = "Success" if self.done else "Processing"
        return answer({"task_id": "1069", "status": word, "file_id": "9" if self.done else "", "base_resp": FINE})

    async def _submit(self, body: dict[str, str]) -> dict[str, object]:
        echo = await self._world.client.post(body["callback_url"], json={"challenge": "b32b3a4c"})
        self.echoes.append(echo.json())
        if echo.status_code == 200 and echo.json() == {"challenge": "b32b3a4c"}:
            self.callback_url = body["callback_url"]
        return {"task_id": "1069", "base_resp": FINE}

    async def finish(self) -> None:
        """End the job, and send its callback."""
        self.done = True
        said = {"task_id": "1069", "status": "success", "file_id": "9", "base_resp": FINE}
        assert self.callback_url is not None, self.echoes
        await self._world.client.post(self.callback_url, json=said)


def shot(**given: object) -> dict[str, object]:
    return {"family": "minimax", "operation": "text_to_video", "input": {"prompt": "a fox", **given}}


async def test_challenge_is_answered_while_the_submit_is_open(database_url: str) -> None:
    async with World.opened(database_url, **HOST) as world:
        host = MiniMax(world)
        world.edge.hosts["minimax.test"] = host
        task = await world.submit(**shot(duration=6, model="MiniMax-Hailuo-02"))
        await world.work()
        assert host.echoes == [{"challenge": "b32b3a4c"}]
        seen = await world.task(task)
        assert seen.external_id == "1069", seen.last_error
        assert await world.callbacks(task) == []
        await host.finish()
        await world.work()
        ended = await world.task(task)
        assert (ended.state, ended.outcome_source) == (State.SUCCEEDED, Source.POLL)
        assert [each.url for each in ended.results] == [FILM]
        assert [each.expires_at is not None for each in ended.results] == [True]
        assert host.asked.count("GET /v1/files/retrieve") == 1


@pytest.mark.parametrize(
    ("model", "dialect"), [(None, "official-v2"), ("MiniMax-H3-Max", "official-v2"), ("T2V-01", "official")]
)
async def test_model_chooses_the_generation(sqlite_url: str, model: str | None, dialect: str) -> None:
    async with World.opened(sqlite_url, **HOST) as world:
        world.edge.hosts["minimax.test"] = MiniMax(world)
        task = await world.submit(**shot(duration=6, **({"model": model} if model else {})))
        await world.work()
        assert (await world.task(task)).dialect == f"minimax/{dialect}"


async def test_input_that_no_generation_takes_is_refused_by_the_first(sqlite_url: str) -> None:
    async with World.opened(sqlite_url, **HOST) as world:
        refused = await world.client.post("/v1/tasks", json=shot(duration=99))
        assert refused.status_code == 422
        assert "4 to 15 seconds" in refused.text


async def test_finished_job_is_found_without_a_callback(sqlite_url: str) -> None:
    async with World.opened(sqlite_url, **HOST, DOVECOTE_PUBLIC_URL="") as world:
        host = MiniMax(world)
        host.done = True
        host._submit = _accepted  # type: ignore[method-assign] - no callback URL is sent
        world.edge.hosts["minimax.test"] = host
        task = await world.submit(**shot(duration=6, model="T2V-01"))
        await world.until(JOB_SECONDS * 6)
        assert (await world.task(task)).state is State.SUCCEEDED


async def _accepted(body: dict[str, str]) -> dict[str, object]:
    assert "callback_url" not in body
    return {"task_id": "1069", "base_resp": FINE}
