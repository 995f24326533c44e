"""kie.ai: the bodies for models of its market and for its older products, and the oddities of its records."""

import dataclasses
import json

import pytest

from service.domain.errors import AccountProblem, NotFound, Refused, Unavailable, Uncertain
from service.domain.task import State, Update
from service.providers.registry import DIALECTS
from service.providers.wire import Callback, Reply
from tests.support.operations import task

JOBS, OWN = DIALECTS["kie/jobs"], DIALECTS["kie/own"]
HOOK = "https://dovecote.example/callbacks/token"


def reply(body, status=200):
    return Reply(status, {}, json.dumps(body).encode())


def market(operation, **given):
    return task("kie/jobs", f"kie {operation}", given=given)


def own(operation, **given):
    return task("kie/own", f"kie {operation}", given=given)


# The market ------------------------------------------------------------------------------------------------------


def test_any_model_runs_by_its_name():
    song = {"custom_mode": True, "instrumental": False, "model": "V6", "title": "Harbour", "lyrics": "[Verse]"}
    call = JOBS.create(market("run", model="ai-music-api/generate", input=song), HOOK)
    assert call.path == "/api/v1/jobs/createTask"
    assert call.json == {"model": "ai-music-api/generate", "callBackUrl": HOOK, "input": song}


@pytest.mark.parametrize(
    ("model", "body"),
    [
        ("google/nano-banana-edit", {"image_urls": ["https://e.test/a.png"], "duration": 5}),
        ("kling-2.6/image-to-video", {"image_urls": ["https://e.test/a.png"], "duration": "5"}),
        ("wan/2-5-image-to-video", {"image_url": "https://e.test/a.png", "duration": "5"}),
        ("flux-2/pro-image-to-image", {"input_urls": ["https://e.test/a.png"], "duration": 5}),
    ],
)
def test_shared_fields_take_the_names_of_the_model(model, body):
    given = market("image_to_video", model=model, image="https://e.test/a.png", duration=5.0, input={"mode": "pro"})
    assert JOBS.create(given, None).json["input"] == {**body, "mode": "pro"}


def test_media_are_fetched_from_urls_only():
    given = market("image_to_video", model="kling-2.6/image-to-video", image="data:image/png;base64,iVBORw0KGgo=")
    assert [mistake.path for mistake in JOBS.validate(given)] == ["input.image"]


@pytest.mark.parametrize(
    ("code", "text", "error"),
    [
        (404, "model not found", Refused),
        (409, "conflict", Uncertain),
        (500, "Internal Error", Uncertain),
        (500, "image file type is not supported", Refused),
        (429, "Your balance is low: too many tasks, please top up credits", Unavailable),
        (433, "limit", Unavailable),
        (402, "Credits insufficient", AccountProblem),
        (531, "refunded", Uncertain),
    ],
)
def test_code_in_the_body_decides_about_a_submit(code, text, error):
    with pytest.raises(error):
        JOBS.read_created(reply({"code": code, "msg": text, "data": None}))


def record(**said):
    return {"code": 200, "msg": "success", "data": {"taskId": "t1", **said}}


@pytest.mark.parametrize(
    ("made", "results"),
    [
        ({"resultUrls": ["https://e.test/a.mp4"], "lastFrameUrl": "https://e.test/l.png"},
         [("video", "https://e.test/a.mp4", "result"), ("image", "https://e.test/l.png", "last_frame")]),
        ({"sunoData": [{"audioUrl": "https://e.test/a.mp3", "streamAudioUrl": "https://e.test/s", "imageUrl": "https://e.test/c.png"}]},
         [("audio", "https://e.test/a.mp3", "result"), ("image", "https://e.test/c.png", "cover")]),
        ({"data": [{"stream_audio_url": "https://e.test/s"}]}, []),
        ({"resultObject": "a slow waltz"}, [("text", "a slow waltz", "result")]),
        ({"resultObject": {"bpm": 90}}, [("json", '{"bpm":90}', "result")]),
        ("", []),
        (None, []),
    ],
)  # fmt: skip
def test_outputs_of_every_form_are_read(made, results):
    for stated in (made, json.dumps(made) if made else made):
        update = JOBS.read_status(reply(record(state="success", resultJson=stated)))
        assert [(each.kind, each.url or each.text, each.role) for each in update.results] == results
        assert update.state is (State.SUCCEEDED if results else None)


def test_cost_is_read_from_records_and_callbacks():
    assert JOBS.read_status(reply(record(state="generating", creditsConsumed=1.5))).cost == 1.5
    [update] = JOBS.read_callback(Callback({}, json.dumps(record(state="generating", consumeCredits=2)).encode()))
    assert update.cost == 2


# The older endpoints ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "path", "body"),
    [
        (own("veo", prompt="a door", image="https://e.test/1.png", last_image="https://e.test/2.png", seed=12345),
         "/api/v1/veo/generate",
         {"prompt": "a door", "seeds": 12345, "imageUrls": ["https://e.test/1.png", "https://e.test/2.png"],
          "generationType": "FIRST_AND_LAST_FRAMES_2_VIDEO"}),
        (own("veo_extend", prompt="on"), "/api/v1/veo/extend", {"prompt": "on", "taskId": "p1"}),
        (own("veo_4k", index=1), "/api/v1/veo/get-4k-video", {"index": 1, "taskId": "p1"}),
        (own("runway", prompt="a fox", duration=5.0, resolution="720p", aspect_ratio="16:9", image="https://e.test/1.png"),
         "/api/v1/runway/generate",
         {"prompt": "a fox", "duration": 5, "quality": "720p", "aspectRatio": "16:9", "imageUrl": "https://e.test/1.png"}),
        (own("runway_extend", prompt="on", resolution="720p"), "/api/v1/runway/extend",
         {"prompt": "on", "quality": "720p", "taskId": "p1"}),
        (own("aleph", prompt="snow", video="https://e.test/v.mp4"), "/api/v1/aleph/generate",
         {"prompt": "snow", "videoUrl": "https://e.test/v.mp4"}),
        (own("gpt4o_image", prompt="a cat", image="https://e.test/1.png", aspect_ratio="1:1", count=2),
         "/api/v1/gpt4o-image/generate",
         {"prompt": "a cat", "filesUrl": ["https://e.test/1.png"], "size": "1:1", "nVariants": 2}),
        (own("flux_kontext", prompt="red", image="https://e.test/1.png", model="flux-kontext-max"),
         "/api/v1/flux/kontext/generate",
         {"prompt": "red", "inputImage": "https://e.test/1.png", "model": "flux-kontext-max"}),
        (own("midjourney", prompt="a cat", speed="fast", model="7"), "/api/v1/mj/generate",
         {"prompt": "a cat", "speed": "fast", "version": "7", "taskType": "mj_txt2img"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_product_has_its_route_and_names(wanted, path, body):
    wanted = dataclasses.replace(wanted, inherited={"external_id": "p1"})
    assert OWN.validate(wanted) == []
    call = OWN.create(wanted, HOOK)
    assert (call.method, call.path, call.json) == ("POST", path, {**body, "callBackUrl": HOOK})


def test_video_in_1080p_is_asked_for_and_buys_nothing():
    wanted = dataclasses.replace(own("veo_1080p", index=1), inherited={"external_id": "p1"})
    call = next(OWN.submit(wanted, None))
    assert (call.method, call.creates) == ("GET", False)
    assert call.path == "/api/v1/veo/get-1080p-video?taskId=p1&index=1"
    waits = {"code": 400, "msg": "The 1080P is processing. It should be ready in 1-2 minutes."}
    with pytest.raises(Unavailable):
        OWN.read_created(reply(waits))
    assert OWN.read_status(reply(waits)) == Update()
    made = OWN.read_created(reply({"code": 200, "data": {"resultUrl": "https://e.test/hd.mp4"}}))
    assert (made.state, made.external_id) == (State.SUCCEEDED, None)


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        (own("runway", prompt="a fox", duration=7), "input.duration"),
        (own("gpt4o_image", prompt="a cat", count=3), "input.count"),
        (own("veo", prompt="a door", seed=5), "input.seed"),
        (own("veo", prompt="a door", image="data:image/png;base64,iVBORw0KGgo="), "input.image"),
    ],
)
def test_what_the_pages_rule_out_is_refused(wanted, path):
    assert [mistake.path for mistake in OWN.validate(wanted)] == [path]


@pytest.mark.parametrize(
    ("code", "text", "failure"),
    [
        (422, "x", "content_policy"),
        (501, "x", "provider_error"),
        (400, "x", "invalid_input"),
        (500, "flagged", "content_policy"),
    ],
)
def test_code_of_a_callback_is_the_end_of_the_task(code, text, failure):
    [update] = OWN.read_callback(
        Callback({}, json.dumps({"code": code, "msg": text, "data": {"taskId": "t1"}}).encode())
    )
    assert (update.state, update.external_id) == (State.FAILED, "t1")
    assert update.failure is not None
    assert update.failure.code == failure


@pytest.mark.parametrize("code", [False, None, [], "odd", 12345])
def test_code_that_is_none_fails_no_task(code):
    said = {"code": code, "msg": "x", "data": {"taskId": "t1"}}
    assert OWN.read_callback(Callback({}, json.dumps(said).encode())) == [Update(external_id="t1")]


def test_unknown_record_is_not_found():
    for dialect in (JOBS, OWN):
        with pytest.raises(NotFound):
            dialect.read_status(reply({"code": 422, "msg": "recordInfo is null", "data": None}))


def test_list_that_is_json_as_a_text_is_read():
    said = record(successFlag=1, response={"resultUrls": '["https://e.test/a.mp4"]', "originUrls": None})
    assert [each.url for each in OWN.read_status(reply(said)).results] == ["https://e.test/a.mp4"]
