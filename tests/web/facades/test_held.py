"""Requests that wait for a result, links that need no key, and what clients for Node and for browsers need."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from service.web.facades.fal import DOOR as FAL_DOOR
from tests.support.asgi import scope_of
from tests.support.clients import ALICE, BOB
from tests.support.doors import DOORS, upstreams
from tests.support.waiting import LIMIT
from tests.support.world import World

KEY = {"Authorization": f"Bearer {ALICE}"}
NODE = {**KEY, "User-Agent": "replicate-javascript/1.4.0"}
BROWSER = {**KEY, "User-Agent": "Mozilla/5.0", "Origin": "https://app.example.com"}
MODEL = "/replicate/v1/models/acme/doves/predictions"
INPUT: dict[str, Any] = {"input": {"prompt": "a dove"}}


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    settings = {f"DOVECOTE_DOORS__{name}": "true" for name in DOORS}
    settings["DOVECOTE_DOORS__CORS_ORIGINS"] = "https://app.example.com"
    keys = {"DOVECOTE_API_KEYS": f"alice={ALICE},bob={BOB}"}
    async with World.opened(database_url, **settings, **keys, **upstreams("http://sandbox.test")) as opened:
        yield opened


class Broken:
    """A request whose client closes the connection while it waits for the answer."""

    def __init__(self, world: World, path: str, body: Any, headers: dict[str, str]) -> None:
        request = httpx.Request("POST", f"http://localhost{path}", json=body, headers=headers)
        self._closed = asyncio.Event()
        self._parts = [{"type": "http.request", "body": request.content, "more_body": False}]
        scope = scope_of(request)
        self.waits = asyncio.Event()
        self._asking = asyncio.create_task(world.app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if self._parts:
            return self._parts.pop()
        self.waits.set()
        await self._closed.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        """Nobody reads the answer."""

    async def close(self) -> None:
        """Close the connection, and return when the server has ended the request."""
        self._closed.set()
        await asyncio.wait_for(self._asking, LIMIT)


async def stored(world: World) -> list[UUID]:
    tasks = (await world.client.get("/v1/tasks", headers=KEY)).json()["tasks"]
    return [UUID(each["id"]) for each in tasks]


async def broken(world: World, path: str, body: Any, headers: dict[str, str], seconds: float) -> UUID:
    """Send a request, and break it off after some seconds; return the only task."""
    request = Broken(world, path, body, headers)
    await asyncio.wait_for(request.waits.wait(), LIMIT)
    world.clock.forward(seconds)
    await request.close()
    [made] = await stored(world)
    return made


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        pytest.param(MODEL, INPUT, {**NODE, "Prefer": "wait"}, id="Replicate's client for Node"),
        pytest.param(MODEL, INPUT, {**KEY, "Prefer": "wait"}, id="a client that is not known"),
        pytest.param("/fal/fal-run/fal-ai/flux/dev", {"prompt": "a dove"}, KEY, id="fal"),
        pytest.param("/openai/v1/images/generations", {"prompt": "a dove", "model": "gpt-image-2"}, KEY, id="OpenAI"),
    ],
)
async def test_repeat_of_a_held_request_whose_connection_broke_gets_its_task(
    world: World, path: str, body: Any, headers: dict[str, str]
) -> None:
    first = await broken(world, path, body, headers, 60)
    world.clock.forward(1)
    assert await broken(world, path, body, headers, 0) == first


async def test_equal_request_while_the_first_is_held_is_a_new_one(world: World) -> None:
    headers = {**KEY, "Prefer": "wait"}
    held = Broken(world, MODEL, INPUT, headers)
    await asyncio.wait_for(held.waits.wait(), LIMIT)
    world.clock.forward(60)
    for each in (Broken(world, MODEL, INPUT, headers), held):
        await asyncio.wait_for(each.waits.wait(), LIMIT)
        await each.close()
    assert len(await stored(world)) == 2


async def test_equal_input_for_two_apps_at_the_proxy_is_two_requests(world: World) -> None:
    def target(url: str) -> dict[str, str]:
        return {**BROWSER, "x-fal-target-url": url}

    targets = ["https://queue.fal.run/fal-ai/flux/dev", "https://queue.fal.run/fal-ai/flux/schnell"]
    made = [
        (await world.client.post("/fal/fal-proxy", json={"prompt": "a"}, headers=target(each))).json()["request_id"]
        for each in [*targets, *targets]
    ]
    assert made[0] != made[1]
    assert made[2:] == made[:2], "a page repeats without a mark, and its client has no name"


async def test_page_may_read_the_headers_that_fals_client_reads(world: World) -> None:
    headers = {**BROWSER, "x-fal-target-url": "https://queue.fal.run/fal-ai/flux/dev"}
    answer = await world.client.post("/fal/fal-proxy", json={"prompt": "a"}, headers=headers)
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"x-fal-request-id", "x-fal-request-timeout-type"} <= set(exposed)


def test_fals_clients_do_not_repeat_a_request_whose_task_may_exist() -> None:
    assert FAL_DOOR.late_headers == {"x-fal-request-timeout-type": "user"}


async def test_status_of_a_request_is_a_stream_until_its_end(world: World) -> None:
    made = (await world.client.post("/fal/fal-ai/flux/dev", json={"prompt": "a"}, headers=KEY)).json()
    path = made["status_url"].removeprefix("http://localhost")
    await world.pass_time(30)
    target = f"https://queue.fal.run{path.removeprefix('/fal')}/stream?logs=1"
    direct = await world.client.get(f"{path}/stream", headers=KEY)
    proxied = await world.client.get("/fal/fal-proxy", headers={**KEY, "x-fal-target-url": target})
    for answer in (direct, proxied):
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(each.removeprefix("data: ")) for each in answer.text.split("\n\n") if each]
        assert {each["request_id"] for each in events} == {made["request_id"]}
        assert events[-1]["status"] == "COMPLETED"


async def test_stream_of_a_prediction_needs_no_key_but_its_link(world: World) -> None:
    made = (await world.client.post(MODEL, json={**INPUT, "stream": True}, headers=NODE)).json()
    await world.pass_time(30)
    link = made["urls"]["stream"].removeprefix("http://localhost")
    answer = await world.client.get(link, headers={"Accept": "text/event-stream"})
    assert "event: output" in answer.text
    assert answer.text.endswith("event: done\nid: 2\ndata: {}\n\n")
    path, _, token = link.rpartition("/")
    until, _, proof = token.partition("-")
    other = (await world.client.post(MODEL, json={"input": {"prompt": "b"}}, headers=NODE)).json()["id"]
    forged = [
        f"{path}/{until}-{'0' * 64}",
        f"{path}/{int(until) + 1}-{proof}",
        f"{path}/x",
        f"/replicate/v1/predictions/{other}/stream/{token}",
    ]
    assert {(await world.client.get(each)).status_code for each in forged} == {403}
    assert (await world.client.get(path)).status_code == 401
    world.clock.forward(world.context.settings.results.link_seconds + 60)
    assert (await world.client.get(link)).status_code == 403


async def test_prediction_that_its_client_cancels_before_it_is_sent_is_canceled(world: World) -> None:
    made = (await world.client.post(MODEL, json=INPUT, headers=NODE)).json()
    cancelled = (await world.client.post(f"/replicate/v1/predictions/{made['id']}/cancel", headers=NODE)).json()
    assert (cancelled["status"], cancelled["error"]) == ("canceled", None)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/runwayml/v1/uploads/{}"), ("PUT", "/fal/storage/put/{}/a.png")],
    ids=["runwayml", "fal"],
)
async def test_body_without_a_key_is_not_read_before_the_proof_of_its_address(
    world: World, method: str, path: str
) -> None:
    read: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            read.append(b"x" * 1000)
            yield read[-1]

    address = path.format(f"upl_{'a' * 26}") + "?client=alice&until=99999999999&proof=0"
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = await world.client.request(method, address, content=body(), headers=kind)
    assert (answer.status_code, read) == (403, [])
