"""The frame of the doors: keys, errors, pages of other origins, and requests that clients repeat."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.flows.webhooks.formats.ids import prefixed, short, task_id_of
from service.web.facades.headers import key_of, sender_of
from tests.support.clients import ALICE, BOB
from tests.support.doors import upstreams
from tests.support.processes import until
from tests.support.world import World

TEXT_TO_VIDEO = {"model": "gen4.5", "promptText": "a dove", "ratio": "1280:720", "duration": 5}
ON = {"DOVECOTE_DOORS__RUNWAYML": "true", "DOVECOTE_DOORS__ELKAPI": "true"}
FAL = {"User-Agent": "fal-client/1.0.3 (python)"}


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with World.opened(
        database_url,
        DOVECOTE_API_KEYS=f"alice={ALICE},bob={BOB}",
        DOVECOTE_DOORS__CORS_ORIGINS="https://chat.example.com",
        **ON,
    ) as opened:
        yield opened


async def create(world: World, key: str = ALICE, body: Any = None, **headers: str) -> httpx.Response:
    return await world.client.post(
        "/runwayml/v1/text_to_video",
        json=TEXT_TO_VIDEO if body is None else body,
        headers={"Authorization": f"Bearer {key}", **headers},
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer k-1"},
        {"Authorization": "bearer   k-1 "},
        {"Authorization": "k-1"},
        {"Authorization": "Token k-1"},
        {"Authorization": "Key k-1"},
        {"mj-api-secret": "k-1"},
        {"x-api-key": "k-1"},
        {"Authorization": "Bearer", "mj-api-secret": "k-1"},
    ],
    ids=str,
)
def test_key_is_read_from_where_clients_put_it(headers: dict[str, str]) -> None:
    assert key_of(httpx.Headers(headers)) == "k-1"


@pytest.mark.parametrize("stated", ["", "Basic dTpw", "Bearer", "Digest k-1"])
def test_other_authorization_is_no_key(stated: str) -> None:
    assert key_of(httpx.Headers({"Authorization": stated})) == ""


def test_key_of_the_database_may_begin_with_sk() -> None:
    key = f"dove_{'a' * 8}_{'b' * 64}"
    assert key_of(httpx.Headers({"Authorization": f"Bearer sk-{key}"})) == key
    assert key_of(httpx.Headers({"Authorization": "Key id:secret"})) == "id:secret"


@pytest.mark.parametrize(("mark", "attempt"), [("0", 0), ("2", 2), ("-1", 0), ("x", 0), ("99999999", 1000), ("²", 0)])
def test_mark_of_a_repeat_is_read(mark: str, attempt: int) -> None:
    assert sender_of({"x-stainless-retry-count": mark}).attempt == attempt


async def test_id_is_read_in_every_form(world: World) -> None:
    made = world.context.new_id()
    forms = [str(made), made.hex, str(made).upper(), prefixed("video_", made), prefixed("chatcmpl-", made), short(made)]
    assert {task_id_of(each) for each in forms} == {made}
    assert {task_id_of(each) for each in ("", "video_", "x" * 25, "1" * 26, "ſ" * 32, "../..")} == {None}


async def test_door_that_is_off_does_not_exist(database_url: str) -> None:
    async with World.opened(database_url) as world:
        found = await world.client.post("/runwayml/v1/text_to_video", json=TEXT_TO_VIDEO)
        assert found.status_code == 404


async def test_errors_have_the_form_of_the_api(world: World) -> None:
    wrong_key = await create(world, "wrong-key-of-nobody")
    assert (wrong_key.status_code, list(wrong_key.json())) == (401, ["error"])
    mistakes = await create(world, body={**TEXT_TO_VIDEO, "promptText": 5})
    assert (mistakes.status_code, mistakes.headers["x-should-retry"]) == (400, "false")
    assert mistakes.json()["issues"][0]["path"] == ["promptText"]
    for path in ("/runwayml/v1/unknown", "/runwayml", "/runwayml/v1/tasks/nothing"):
        missing = await world.client.get(path, headers={"Authorization": f"Bearer {ALICE}"})
        assert (missing.status_code, list(missing.json())) == (404, ["error"])


async def test_task_of_another_client_is_not_found(world: World) -> None:
    made = (await create(world)).json()["id"]
    for key, status in ((ALICE, 200), (BOB, 404)):
        found = await world.client.get(f"/runwayml/v1/tasks/{made}", headers={"Authorization": f"Bearer {key}"})
        assert found.status_code == status


async def test_page_of_a_listed_origin_may_call(world: World) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    allowed, other = "https://chat.example.com", "https://evil.example.com"
    path = "/runwayml/v1/text_to_video"
    preflight = await world.client.options(path, headers={"Origin": allowed, **asked})
    assert (preflight.status_code, preflight.headers["access-control-allow-headers"]) == (204, "authorization")
    assert (await world.client.options(path, headers={"Origin": other, **asked})).status_code == 403
    assert (await create(world, Origin=allowed)).headers["access-control-allow-origin"] == allowed
    assert "access-control-allow-origin" not in (await create(world, Origin=other)).headers


async def test_marked_repeat_gets_the_task_of_the_first_request(world: World) -> None:
    first = await create(world, **{"x-stainless-retry-count": "0"})
    repeated = await create(world, **{"x-stainless-retry-count": "1"})
    again = await create(world, **{"x-stainless-retry-count": "2"})
    assert first.json() == repeated.json() == again.json()
    assert "idempotency-replayed" not in first.headers
    assert repeated.headers["idempotency-replayed"] == "true"
    assert first.headers["dovecote-task"] == first.json()["id"]


async def test_equal_requests_without_a_mark_are_two_tasks(world: World) -> None:
    assert (await create(world)).json() != (await create(world)).json()


async def test_repeats_of_parallel_equal_requests_are_shared_out(world: World) -> None:
    made = {response.json()["id"] for response in await asyncio.gather(*(create(world) for _ in range(4)))}
    assert len(made) == 4
    repeats = await asyncio.gather(*(create(world, **{"x-stainless-retry-count": "1"}) for _ in range(4)))
    assert {response.json()["id"] for response in repeats} == made


async def test_repeat_after_the_client_has_used_the_task_is_a_new_request(world: World) -> None:
    first = (await create(world)).json()["id"]
    await world.client.get(f"/runwayml/v1/tasks/{first}", headers={"Authorization": f"Bearer {ALICE}"})
    assert (await create(world, **{"x-stainless-retry-count": "1"})).json()["id"] != first


async def test_repeat_of_another_client_or_another_body_is_a_new_request(world: World) -> None:
    mark = {"x-stainless-retry-count": "1"}
    others = [
        await create(world),
        await create(world, BOB, **mark),
        await create(world, body={**TEXT_TO_VIDEO, "duration": 10}, **mark),
    ]
    assert len({response.json()["id"] for response in others}) == 3


async def test_order_of_the_fields_does_not_matter(world: World) -> None:
    first = await create(world)
    turned = dict(reversed(TEXT_TO_VIDEO.items()))
    assert (await create(world, body=turned, **{"x-stainless-retry-count": "1"})).json() == first.json()


async def test_client_that_repeats_without_a_mark_gets_one_task(world: World) -> None:
    first = await create(world, **FAL)
    assert [(await create(world, **FAL)).json() for _ in range(3)] == [first.json()] * 3
    world.clock.forward(60)
    assert (await create(world, **FAL)).json() != first.json()


async def test_idempotency_key_of_the_client_counts(world: World) -> None:
    first = await create(world, **{"Idempotency-Key": "k-1"})
    assert (await create(world, **{"Idempotency-Key": "k-1"})).json() == first.json()
    assert (await create(world, **{"Idempotency-Key": "k-2", **FAL})).json() != first.json()


async def test_repeat_is_recognised_by_another_process(database_url: str) -> None:
    async with World.opened(database_url, **ON) as world:
        first = (await world.client.post("/runwayml/v1/text_to_video", json=TEXT_TO_VIDEO)).json()
    async with World.opened(database_url, **ON) as world:
        mark = {"x-stainless-retry-count": "1"}
        again = await world.client.post("/runwayml/v1/text_to_video", json=TEXT_TO_VIDEO, headers=mark)
        assert again.json() == first
        task = await world.client.get(f"/v1/tasks/{first['id']}")
        assert task.json()["input"]["prompt"] == "a dove"


async def test_own_api_and_doors_share_tasks(world: World) -> None:
    made = (await create(world)).json()["id"]
    task = (await world.client.get(f"/v1/tasks/{made}", headers={"Authorization": f"Bearer {ALICE}"})).json()
    assert (task["family"], task["input"]["aspect_ratio"]) == ("runway", "1280:720")


async def test_parallel_equal_requests_of_a_client_that_repeats_unmarked_are_several_tasks(world: World) -> None:
    made = {response.json()["id"] for response in await asyncio.gather(*(create(world, **FAL) for _ in range(4)))}
    assert len(made) == 4


async def test_pauses_of_a_client_that_repeats_unmarked_may_double(world: World) -> None:
    first = (await create(world, **FAL)).json()
    for pause in (1, 2, 4, 8, 16):
        world.clock.forward(pause)
        assert (await create(world, **FAL)).json() == first
    world.clock.forward(200)
    assert (await create(world, **FAL)).json() != first


async def test_answer_names_the_request_and_the_task(world: World) -> None:
    answer = await create(world)
    assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])
    assert answer.headers["dovecote-task"] == answer.json()["id"]


async def test_refusal_after_which_a_repeat_is_useless_says_so(world: World) -> None:
    for answer in (await create(world, body={}), await create(world, "wrong-key-of-nobody")):
        assert answer.headers["x-should-retry"] == "false"


async def test_open_upload_needs_the_proof_of_its_address(world: World) -> None:
    headers = {"Authorization": f"Bearer {ALICE}"}
    begun = (await world.client.post("/runwayml/v1/uploads", json={"filename": "a.png"}, headers=headers)).json()
    path, file = begun["uploadUrl"].partition("localhost")[2], {"file": ("a.png", b"\x89PNG bytes", "image/png")}
    bare = path.partition("?")[0]
    for forged in (bare, path.replace("client=alice", "client=bob"), re.sub(r"until=\d+", "until=99999999999", path)):
        assert (await world.client.post(forged, data=begun["fields"], files=file)).status_code == 403
    for _ in range(2):  # a repeat changes nothing
        assert (await world.client.post(path, data=begun["fields"], files=file)).status_code == 204
    name = begun["runwayUri"].removeprefix("runway://")
    stored = (await world.client.get(f"/v1/uploads/{name}", headers=headers)).json()
    assert (stored["size"], stored["name"]) == (10, "a.png")
    stranger = {"Authorization": f"Bearer {BOB}"}
    taken = {"model": "gen4_turbo", "promptText": "a", "promptImage": begun["runwayUri"]}
    refused = await world.client.post("/runwayml/v1/image_to_video", json=taken, headers=stranger)
    assert refused.status_code == 400
    world.clock.forward(3601)
    assert (await world.client.post(path, data=begun["fields"], files=file)).status_code == 403


@pytest.mark.parametrize(("mark", "again"), [({"x-stainless-retry-count": "0"}, "true"), ({}, "false")], ids=str)
async def test_held_request_of_a_stopping_server_may_be_repeated_by_clients_that_mark_it(
    database_url: str, mark: dict[str, str], again: str
) -> None:
    switched = {"DOVECOTE_DOORS__OPENAI": "true"}
    async with World.opened(database_url, **switched, **upstreams("http://sandbox.test")) as world:
        body = {"model": "gpt-image-2", "prompt": "a dove"}
        held = asyncio.create_task(world.client.post("/openai/v1/images/generations", json=body, headers=mark))

        async def stored() -> bool:
            return bool((await world.client.get("/v1/tasks")).json()["tasks"])

        await until(stored)
        world.context.signals.close()
        answer = await held
        assert (answer.status_code, answer.headers["x-should-retry"]) == (504, again)
        assert answer.headers["dovecote-task"] in answer.json()["error"]["message"]
