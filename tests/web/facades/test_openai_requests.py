"""OpenAI's door: what a follow-up goes on from, how lists go on, and values that a form has as texts."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.domain.task import Result, State
from service.web.facades import media
from service.web.facades import outcome as outcome_module
from service.web.facades.openai import audio, videos
from service.web.facades.openai.audio import transcript_document
from tests.support.clients import ALICE, BOB, bearer
from tests.support.doors import upstreams
from tests.support.values import a_task
from tests.support.world import World

RESPONSE: dict[str, Any] = {"model": "gpt-6-luna", "input": "Name three colours.", "background": True}
VIDEO = {"model": "sora-2", "prompt": "a dove", "seconds": "8"}


@pytest.fixture
async def world(sqlite_url: str) -> AsyncIterator[World]:
    keys = {"DOVECOTE_API_KEYS": f"alice={ALICE},bob={BOB}", "DOVECOTE_DOORS__OPENAI": "true"}
    async with World.opened(sqlite_url, **keys, **upstreams("http://sandbox.test")) as opened:
        opened.client.headers.update(bearer(ALICE))
        yield opened


async def created(world: World, path: str, body: dict[str, Any]) -> str:
    answer = await world.client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


async def count(world: World) -> int:
    return len((await world.client.get("/v1/tasks", params={"limit": 100})).json()["tasks"])


async def test_response_that_goes_on_from_another_needs_one_that_the_provider_has(world: World) -> None:
    queued = await created(world, "/openai/v1/responses", RESPONSE)
    video = await created(world, "/openai/v1/videos", VIDEO)
    before = await count(world)
    for named, status in ((queued, 400), (video, 404), ("resp_1", 404), (5, 400), ({}, 400), ([queued], 400)):
        body = {**RESPONSE, "input": "Go on.", "previous_response_id": named}
        answer = await world.client.post("/openai/v1/responses", json=body)
        assert (answer.status_code, "error" in answer.json()) == (status, True), (named, answer.text)
    assert await count(world) == before
    await world.pass_time(120, step=10)
    body = {**RESPONSE, "input": "Go on.", "previous_response_id": queued}
    made = await world.client.post("/openai/v1/responses", json=body)
    assert made.status_code == 200, made.text
    task = (await world.client.get(f"/v1/tasks/{made.headers['dovecote-task']}")).json()
    assert isinstance(task["options"]["previous_response_id"], str)


async def test_response_of_another_client_is_no_response_to_go_on_from(world: World) -> None:
    named = await created(world, "/openai/v1/responses", RESPONSE)
    await world.pass_time(120, step=10)
    body = {**RESPONSE, "previous_response_id": named}
    assert (await world.client.post("/openai/v1/responses", json=body, headers=bearer(BOB))).status_code == 404


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 10])
async def test_pages_of_videos_have_each_video_once_however_many_other_tasks_lie_between(
    world: World, monkeypatch: pytest.MonkeyPatch, order: str, limit: int
) -> None:
    monkeypatch.setattr(videos, "MAX_PAGE", 2)
    monkeypatch.setattr(videos, "_MAX_PAGES", 1)
    made: list[str] = []
    for others in (5, 0, 3, 7):
        for number in range(others):
            await created(world, "/openai/v1/responses", {**RESPONSE, "seed": len(made) * 10 + number})
        made.append(await created(world, "/openai/v1/videos", {**VIDEO, "seed": others}))
    for number in range(6):
        await created(world, "/openai/v1/responses", {**RESPONSE, "seed": 1000 + number})
    monkeypatch.setattr(videos, "MAX_PAGE", 2)
    found: list[str] = []
    more, query = True, {"limit": str(limit), "order": order}
    while more:
        page = (await world.client.get("/openai/v1/videos", params=query)).json()
        found += [each["id"] for each in page["data"]]
        more = page["has_more"] and page["data"] != []  # as OpenAI's SDKs go on
        query["after"] = page["last_id"] or ""
    assert found == (made if order == "asc" else made[::-1])


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999"])
async def test_number_that_json_cannot_hold_is_left_out(
    world: World, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(outcome_module, "MAX_HELD", 0.0)
    answer = await world.client.post(
        "/openai/v1/audio/transcriptions",
        data={"model": "whisper-1", "temperature": text},
        files={"file": ("a.mp3", b"ID3 sound", "audio/mpeg")},
    )
    task = (await world.client.get(f"/v1/tasks/{answer.headers['dovecote-task']}")).json()
    assert "temperature" not in task["input"]


@pytest.mark.parametrize(("text", "number"), [("0.2", 0.2), ("1", 1.0), ("x", "x"), (0.5, 0.5), (None, None)])
def test_number_of_a_form_is_read(text: Any, number: Any) -> None:
    assert audio._number(text) == number


@pytest.mark.parametrize("beside", ["{ cut off", "{}", '{"segments": [1]}', "[1]", "", "plain"])
def test_transcript_is_shown_whatever_stands_beside_it(beside: str) -> None:
    results = (Result(kind="text", role="result", text="a dove"), Result(kind="text", role="extra", text=beside))
    document = transcript_document(a_task(state=State.SUCCEEDED, results=results))
    assert document["text"] == "a dove"
    assert document.get("segments") == ([1] if "segments" in beside else None)


@pytest.mark.parametrize(
    ("stated", "served"),
    [
        ("image/png", "image/png"),
        ("Audio/MPEG; rate=1", "audio/mpeg"),
        ("text/html", "text/plain; charset=utf-8"),
        ("text/html; charset=x", "text/plain; charset=utf-8"),
        ("x\r\nSet-Cookie: a=b", "application/octet-stream"),
        ("bild/möwe", "application/octet-stream"),
        ("", "application/octet-stream"),
    ],
)
def test_output_has_no_type_that_a_browser_runs_or_that_no_header_can_hold(stated: str, served: str) -> None:
    assert media._shown(b"x", stated).headers["content-type"] == served
