"""The doors of midjourney-proxy, Suno-API and gateways' Runway, by the recorded requests of their clients."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from service.domain.task import State
from service.flows.webhooks.formats.ids import short
from tests.support.clients import ALICE, BOB
from tests.support.world import JOB_SECONDS, RECEIVER_URL, World

RECORDED = Path(__file__).parents[2] / "recordings" / "doors"
ON = {f"DOVECOTE_DOORS__{name}": "true" for name in ("MIDJOURNEY", "SUNO", "RUNWAY_GATEWAY")}
PNG = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture
async def world(sqlite_url: str) -> AsyncIterator[World]:
    async with World.opened(sqlite_url, DOVECOTE_API_KEYS=f"alice={ALICE},bob={BOB}", **ON) as opened:
        yield opened


def case(name: str) -> dict[str, Any]:
    return dict(json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8")))


async def send(world: World, name: str, *, path: str | None = None, body: Any = None) -> Any:
    """Send a recorded request with the key of a client; return the answer, and check that it has what the client reads."""
    recorded = case(name)
    asked = recorded["request"]
    headers = {key: value.replace("<KEY>", ALICE) for key, value in asked.get("headers", {}).items()}
    if not any(key.lower() in {"authorization", "mj-api-secret"} for key in headers):
        headers["Authorization"] = f"Bearer {ALICE}"  # suno-api has no keys by nature
    content = asked.get("body") if body is None else body
    response = await world.client.request(
        asked["method"], path or asked["path"], headers=headers, json=content if asked["method"] == "POST" else None
    )
    assert response.status_code == recorded["answer_it_needs"]["http_status"], response.text
    document = response.json()
    for wanted in recorded["answer_it_needs"]["read"]:
        if "bannedWord" not in wanted and "promptEn" not in wanted:
            check_field(document, wanted.split("."))
    return document


def check_field(value: Any, parts: list[str]) -> None:
    """Assert that a field is there."""
    for part in parts:
        name, brackets, _ = part.partition("[]")
        if name:
            assert name in value, (part, value)
            value = value[name]
        if brackets:
            assert isinstance(value, list), (part, value)
            if not value:
                return
            value = value[0]


async def post(world: World, path: str, body: Any, key: str = ALICE) -> httpx.Response:
    return await world.client.post(path, json=body, headers={"mj-api-secret": key})


async def get(world: World, path: str, key: str = ALICE) -> httpx.Response:
    return await world.client.get(path, headers={"mj-api-secret": key})


async def over(world: World, seconds: float = JOB_SECONDS * 3) -> None:
    await world.work()
    await world.pass_time(seconds)


# Midjourney


async def test_recorded_midjourney_clients_complete_a_job(world: World) -> None:
    made = await send(
        world, "dooy-web/mj.imagine", body={**case("dooy-web/mj.imagine")["request"]["body"], "state": "mine"}
    )
    assert (made["code"], len(made["result"])) == (1, 32)
    by_new_api = await send(world, "new-api/mj.submit")
    await over(world)
    task = await send(world, "dooy-web/mj.fetch", path=f"/mj/task/{made['result']}/fetch")
    assert (task["status"], task["progress"], task["state"], task["action"]) == ("SUCCESS", "100%", "mine", "IMAGINE")
    assert task["imageUrl"].startswith("http")
    assert [each["label"] or each["emoji"] for each in task["buttons"]][:5] == ["U1", "U2", "U3", "U4", "🔄"]
    ids = {"ids": [by_new_api["result"], "nobody", made["result"]]}
    several = await send(world, "new-api/mj.poll", body=ids)
    assert [each["id"] for each in several] == [by_new_api["result"], made["result"]]
    assert await send(world, "dooy-web/mj.list", body=ids) == several
    assert world.sandbox.ledger.paid() == 2


async def test_follow_ups_work_by_ids_of_ours(world: World) -> None:
    grid = (await post(world, "/mj/submit/imagine", {"prompt": "a dove"})).json()["result"]
    await over(world)
    changed = case("mj-bot/change")["request"]["body"] | {"taskId": grid, "notifyHook": ""}
    upscaled = (await post(world, "/mj/submit/change", changed)).json()
    simple = (await post(world, "/mj/submit/simple-change", {"content": f"{grid} v2"})).json()
    button = (await get(world, f"/mj/task/{grid}/fetch")).json()["buttons"][0]["customId"]
    pressed = (await post(world, "/mj-fast/mj/submit/action", {"taskId": grid, "customId": button})).json()
    assert [each["code"] for each in (upscaled, simple, pressed)] == [1, 1, 1]
    await over(world)
    done = [(await get(world, f"/mj/task/{each['result']}/fetch")).json() for each in (upscaled, simple, pressed)]
    assert [(each["action"], each["status"]) for each in done] == [
        ("UPSCALE", "SUCCESS"),
        ("VARIATION", "SUCCESS"),
        ("UPSCALE", "SUCCESS"),
    ]
    assert (await get(world, f"/mj/image/{grid}")).status_code in {200, 302}
    assert (await get(world, f"/mj/image/{grid}", BOB)).json()["code"] == 3


async def test_window_is_answered_with_code_21_and_confirmed(world: World) -> None:
    grid = (await post(world, "/mj/submit/imagine", {"prompt": "a dove"})).json()["result"]
    await over(world)
    one = (await post(world, "/mj/submit/change", {"taskId": grid, "action": "UPSCALE", "index": 2})).json()["result"]
    await over(world)
    buttons = (await get(world, f"/mj/task/{one}/fetch")).json()["buttons"]
    zoom = next(each["customId"] for each in buttons if each["customId"].startswith("MJ::CustomZoom"))
    asked = (await post(world, "/mj/submit/action", {"taskId": one, "customId": zoom})).json()
    assert (asked["code"], asked["properties"]["remix"]) == (21, True)
    await over(world, 3)
    waiting = (await get(world, f"/mj/task/{asked['result']}/fetch")).json()
    assert waiting["status"] == "MODAL"
    sent = await send(world, "dooy-web/mj.modal", body={"taskId": asked["result"], "prompt": "a dove --zoom 1.5"})
    assert (sent["code"], sent["result"]) == (1, asked["result"])
    await over(world)
    assert (await get(world, f"/mj/task/{asked['result']}/fetch")).json()["status"] == "SUCCESS"
    again = await post(world, "/mj/submit/modal", {"taskId": grid})
    assert again.json()["code"] == 1  # it waits for nothing: what is asked has been done


@pytest.mark.parametrize(
    ("path", "body", "action"),
    [
        ("/mj/submit/blend", {"base64Array": [PNG, PNG], "dimensions": "PORTRAIT"}, "BLEND"),
        ("/mj/submit/describe", {"base64": PNG}, "DESCRIBE"),
        ("/mj/submit/describe", {"base64": "iVBORw0KGgoAAAANSUhEUg=="}, "DESCRIBE"),
        ("/mj/submit/shorten", {"prompt": "a very long dove"}, "SHORTEN"),
        ("/mj/submit/edits", {"prompt": "a hat", "image": "https://example.test/a.png"}, "EDITS"),
        ("/mj/submit/video", {"prompt": "it flies", "image": "https://example.test/a.png", "videoType": "vid_1.1_i2v_720"}, "VIDEO"),
        ("/mj/insight-face/swap", {"sourceBase64": PNG, "targetBase64": PNG}, "SWAP_FACE"),
        ("/mj-relax/mj/submit/imagine", {"prompt": "a dove", "botType": "NIJI_JOURNEY"}, "IMAGINE"),
    ],
)  # fmt: skip
async def test_operation_of_midjourney_succeeds(world: World, path: str, body: Any, action: str) -> None:
    made = await post(world, path, body)
    assert made.json()["code"] == 1, made.text
    await over(world, 150)
    task = (await get(world, f"/mj/task/{made.json()['result']}/fetch")).json()
    assert (task["action"], task["status"]) == (action, "SUCCESS"), task
    if action in {"DESCRIBE", "SHORTEN"}:
        assert task["properties"]["finalPrompt"] not in {"", body.get("prompt")}
    if action == "VIDEO":
        assert task["videoUrl"] == task["videoUrls"][0]["url"]


@pytest.mark.parametrize(
    ("path", "body", "code", "says"),
    [
        ("/mj/submit/imagine", {}, 4, "prompt"),
        ("/mj/submit/imagine", {"prompt": "a dove", "notifyHook": "not a URL"}, 4, "notifyHook"),
        ("/mj/submit/change", {"taskId": "1764180000000123", "action": "UPSCALE", "index": 1}, 3, "no task"),
        ("/mj/submit/change", {"action": "UPSCALE"}, 4, "taskId"),
        ("/mj/submit/simple-change", {"content": "nonsense"}, 4, "content"),
        ("/mj/submit/action", {"taskId": 5, "customId": "x"}, 3, "no task"),
        ("/mj/submit/modal", {}, 3, "no task"),
        ("/mj/submit/blend", {"base64Array": [PNG]}, 4, "base64Array"),
        ("/mj/task/list-by-condition", {"ids": "x"}, 4, "ids"),
        ("/mj/submit/unknown", {}, 3, "not served"),
    ],
)
async def test_mistake_is_answered_in_the_words_of_an_engine(
    world: World, path: str, body: Any, code: int, says: str
) -> None:
    answer = await post(world, path, body)
    assert (answer.status_code, answer.json()["code"]) == (200, code), answer.text
    assert says in answer.json()["description"]
    assert world.sandbox.ledger.paid() == 0


async def test_unknown_task_is_told_as_new_api_tells_it(world: World) -> None:
    made = (await post(world, "/mj/submit/imagine", {"prompt": "a dove"})).json()["result"]
    for named, key in (("1764180000000123", ALICE), (made, BOB)):
        answer = await get(world, f"/mj/task/{named}/fetch", key)
        assert (answer.status_code, answer.json()["description"].strip()) == (400, "task_no_found")
    assert (await post(world, "/mj/task/list-by-condition", {"ids": [made]}, BOB)).json() == []
    assert (await get(world, f"/mj/task/{made}/fetch", "a-key-of-nobody")).status_code == 401


async def test_failure_and_cancel_end_a_client_that_waits(world: World) -> None:
    failed = (await post(world, "/mj/submit/imagine", {"prompt": "[fail] a dove"})).json()["result"]
    await over(world)
    task = (await get(world, f"/mj/task/{failed}/fetch")).json()
    assert (task["status"], task["progress"]) == ("FAILURE", "100%")
    assert task["failReason"]
    stuck = (await post(world, "/mj/submit/imagine", {"prompt": "[refuse] a dove"})).json()["result"]
    await over(world)
    assert (await get(world, f"/mj/task/{stuck}/fetch")).json()["status"] == "FAILURE"


async def test_seed_is_asked_for_once(world: World) -> None:
    made = (await post(world, "/mj/submit/imagine", {"prompt": "a dove"})).json()["result"]
    await over(world)
    world.context.signals.close()  # nobody waits in this test: the answer comes at once
    first = await get(world, f"/mj/task/{made}/image-seed")
    assert first.json()["code"] == 9
    await over(world)
    again = await get(world, f"/mj/task/{made}/image-seed")
    assert (again.json()["code"], again.json()["result"].isdecimal()) == (1, True)


async def test_seed_is_asked_for_again_after_a_failure(world: World) -> None:
    made = (await post(world, "/mj/submit/imagine", {"prompt": "a dove"})).json()["result"]
    await over(world)
    world.context.signals.close()
    await get(world, f"/mj/task/{made}/image-seed")
    headers = {"Authorization": f"Bearer {ALICE}"}
    [asked] = (await world.client.get("/v1/tasks?limit=1", headers=headers)).json()["tasks"]
    await world.client.post(
        f"/v1/tasks/{asked['id']}/cancel", headers=headers
    )  # it waits in our queue: nothing was asked
    await get(world, f"/mj/task/{made}/image-seed")
    await over(world)
    again = (await get(world, f"/mj/task/{made}/image-seed")).json()
    assert (again["code"], again["result"].isdecimal()) == (1, True)


async def test_notify_hook_gets_the_bare_task_at_each_change(sqlite_url: str) -> None:
    async with World.opened(sqlite_url, DOVECOTE_DOORS__MIDJOURNEY="true") as world:
        body = {"prompt": "a dove", "notifyHook": RECEIVER_URL, "state": "job 7"}
        made = (await world.client.post("/mj/submit/imagine", json=body)).json()["result"]
        await over(world)
        bodies = [json.loads(message.body) for message in await world.messages(await world.task(await first_id(world)))]
        assert {each["id"] for each in bodies} == {made}
        assert {each["state"] for each in bodies} == {"job 7"}
        assert bodies[-1]["status"] == "SUCCESS"
        assert {"SUBMITTED", "IN_PROGRESS"} <= {each["status"] for each in bodies}
        read = case("mj-bot/notify")["answer_it_needs"]["read"]
        assert all(name in bodies[-1] for name in read)
        assert all(each.verified for each in world.receiver.received)


async def first_id(world: World) -> UUID:
    return UUID((await world.client.get("/v1/tasks")).json()["tasks"][0]["id"])


# Suno


async def test_recorded_suno_clients_complete_a_song(world: World) -> None:
    made = await send(world, "new-api/suno.submit")
    web = await send(world, "dooy-web/suno.generate")
    assert len(web["clips"]) == 2
    own = await send(world, "suno-api-client/generate", path="/suno/api/generate")
    custom = await send(world, "suno-api-client/custom", path="/suno/api/custom_generate")
    await over(world, 300)
    [row] = (await send(world, "new-api/suno.poll", body={"ids": [made["data"], "nobody"]}))["data"]
    assert (row["task_id"], row["status"], row["progress"]) == (made["data"], "SUCCESS", "100%")
    assert [clip["status"] for clip in row["data"]] == ["complete", "complete"]
    assert all(clip["audio_url"].startswith("http") for clip in row["data"])
    single = (await get(world, f"/suno/fetch/{made['data']}")).json()["data"]
    assert single == row
    ids = ",".join(clip["id"] for clip in web["clips"])
    clips = await send(world, "dooy-web/suno.feed", path=f"/suno/feed/{ids}")
    assert [(each["id"], each["status"]) for each in clips] == [(each["id"], "complete") for each in web["clips"]]
    for each in (own, custom):
        named = ",".join(clip["id"] for clip in each)
        found = await send(world, "suno-api-client/get", path=f"/suno/api/get?ids={named}")
        assert [clip["status"] for clip in found] == ["complete", "complete"]
    assert "credits_left" in await send(world, "suno-api-client/limit", path="/suno/api/get_limit")


async def test_song_is_extended_by_the_id_of_a_clip(world: World) -> None:
    web = await send(world, "dooy-web/suno.generate")
    second = web["clips"][1]["id"]
    early = await post(world, "/suno/generate", {"prompt": "more", "continue_clip_id": second, "continue_at": 30})
    assert (early.status_code, "has not made it" in early.json()["message"]) == (400, True)
    await over(world, 300)
    longer = await post(world, "/suno/submit/MUSIC", {"prompt": "more", "continue_clip_id": second, "continue_at": 30})
    assert longer.status_code == 200, longer.text
    await over(world, 300)
    assert (await get(world, f"/suno/fetch/{longer.json()['data']}")).json()["data"]["status"] == "SUCCESS"


async def test_lyrics_are_written(world: World) -> None:
    made = await send(world, "dooy-web/suno.lyrics")
    before = (await get(world, f"/suno/lyrics/{made['id']}")).json()
    assert (before["status"], before["text"]) == ("submitted", "")
    by_new_api = (await post(world, "/suno/submit/LYRICS", {"prompt": "a harbour"})).json()["data"]
    await over(world, 60)
    after = (await get(world, f"/suno/lyrics/{made['id']}")).json()
    assert (after["status"], bool(after["text"])) == ("complete", True)
    [row] = (await post(world, "/suno/fetch", {"ids": [by_new_api]})).json()["data"]
    assert (row["action"], row["status"], row["data"]["status"]) == ("LYRICS", "SUCCESS", "complete")


async def test_failed_song_and_mistakes_are_told(world: World) -> None:
    web = (await post(world, "/suno/generate", {"gpt_description_prompt": "[fail] a dove"})).json()
    await over(world, 300)
    clips = (await get(world, f"/suno/feed/{web['clips'][0]['id']}")).json()
    assert clips[0]["status"] == "error"
    assert clips[0]["metadata"]["error_message"]
    for path, body in (("/suno/submit/dance", {}), ("/suno/submit/MUSIC", {"mv": 5}), ("/suno/fetch", {"ids": 5})):
        answer = await post(world, path, body)
        assert (answer.status_code, bool(answer.json()["error"]["message"])) == (400, True)
    assert (await get(world, "/suno/fetch/nobody")).json()["code"] == "task_not_exist"
    assert (await get(world, f"/suno/feed/{web['clips'][0]['id']}", BOB)).json() == []


# Runway at gateways


async def test_recorded_runway_clients_complete_a_video(world: World) -> None:
    made = await send(world, "dooy-web/runway.create", body=runway_of_the_web())
    options = {"seconds": 5, "motion_vector": {"x": 0, "y": 2}}
    body = {"prompt": "a dove", "model": "gen4_turbo", "ratio": "16:9", "options": options}
    created = (await post(world, "/runway/pro/generate", body)).json()
    assert created["code"] == 200
    await over(world)
    task = (await send(world, "dooy-web/runway.task", path=f"/runway/tasks/{made['task']['id']}"))["task"]
    assert (task["status"], task["progressRatio"]) == ("SUCCEEDED", "1")
    record = (await post(world, "/runway/feed", {"task_id": created["data"]["task_id"]})).json()["data"]
    assert (record["status"], record["state"], record["video_url"][:4]) == ("3", "succeeded", "http")
    missing = await post(world, "/runway/feed", {"task_id": created["data"]["task_id"]}, BOB)
    assert (missing.status_code, missing.json()["code"]) == (400, "task_not_exist")


def runway_of_the_web() -> dict[str, Any]:
    body = dict(case("dooy-web/runway.create")["request"]["body"])
    body["options"] = {name: value for name, value in body["options"].items() if name != "seed"}
    return body


@pytest.mark.parametrize(("words", "status"), [("", "3"), ("[fail] ", "2")])
async def test_callback_of_a_gateway_has_the_numbered_status(sqlite_url: str, words: str, status: str) -> None:
    async with World.opened(sqlite_url, DOVECOTE_DOORS__RUNWAY_GATEWAY="true") as world:
        body = {"prompt": f"{words}a dove", "model": "gen4", "callback_url": RECEIVER_URL, "options": {"seconds": 5}}
        made = (await world.client.post("/runway/pro/generate", json=body)).json()["data"]["task_id"]
        await over(world)
        task = await world.task(await first_id(world))
        last = json.loads((await world.messages(task))[-1].body)
        assert (str(task.id), last["task_id"], last["status"]) == (made, made, status)
        assert (last["video_url"] is not None) is (status == "3")
        assert (last["msg"] == "") is (status == "3")
        assert all(each.verified for each in world.receiver.received)


async def test_placeholder_for_a_callback_tells_nobody(world: World) -> None:
    body = {"prompt": "a dove", "callback_url": "https://callback.invalid/", "options": {"seconds": 5}}
    assert (await post(world, "/runway/pro/generate", body)).status_code == 200


# Formats of messages


@pytest.mark.parametrize("style", ["openai", "suno", "midjourney-proxy", "runway-gateway", "replicate", "fal"])
async def test_every_format_carries_the_signature_of_a_message(sqlite_url: str, style: str) -> None:
    async with World.opened(sqlite_url) as world:
        task = await world.submit(callback_format=style)
        await over(world)
        assert (await world.task(task)).state is State.SUCCEEDED
        [message] = await world.messages(task)
        body = json.loads(message.body)
        named = str({name: body.get(name) for name in ("id", "data", "task_id", "request_id")}).replace("-", "")
        assert task.id.hex in named or short(task.id) in named
        assert body.get("type", "video.completed") == "video.completed"
        assert [each.verified for each in world.receiver.received] == [True]
