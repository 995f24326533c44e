"""Kling by its own API and by gateways: the requests of each operation, and the oddities of the answers."""

import base64
import dataclasses
import hashlib
import hmac
import json
from pathlib import Path
from uuid import UUID

import pytest

from service.cli.explain import explain
from service.domain.errors import AccountProblem, NotFound, Refused, Unavailable, Uncertain, UpstreamError
from service.domain.task import Result, State
from service.providers.kling.aggregator import Aggregator
from service.providers.kling.official import Official
from service.providers.kling.official_v2 import OfficialV2
from service.providers.registry import DIALECTS
from service.providers.wire import Balance, Call, Callback, Reply
from tests.support.exchanges import held
from tests.support.operations import NOW, task

RECORDINGS = Path(__file__).parents[1] / "recordings" / "kling"
MESSAGES = {
    f"{path.parent.name} {path.stem}": json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(RECORDINGS.glob("*/*.json"))
}
HOOK = "https://dovecote.example/callbacks/token"
PICTURE, DATA, FILM = "https://x.test/a.png", "data:image/png;base64,iVBORw0KGgo=", "https://x.test/v.mp4"
SENT = UUID(int=7)
OFFICIAL, V2, GATEWAY = Official(), OfficialV2(), Aggregator()


def a_task(operation, given, dialect="official", **more):
    found = task(f"kling/{dialect}", f"kling {operation}", given=given, options=more.pop("options", None))
    return dataclasses.replace(found, submission_id=SENT, **more)


def reply(body, status=200):
    return Reply(status, {}, json.dumps(body).encode())


@pytest.mark.parametrize("name", [name for name, message in MESSAGES.items() if "reading" in message])
def test_recording_gets_its_reading(name):
    wanted = MESSAGES[name]["reading"]
    found = explain(MESSAGES[name])
    assert {**found, "message": wanted.get("message")} == {**wanted, "message": wanted.get("message")}


# What is sent ----------------------------------------------------------------------------------------------------

FILLED = {"callback_url": HOOK, "external_task_id": str(SENT)}


@pytest.mark.parametrize(
    ("operation", "given", "inherited", "path", "sent"),
    [
        (
            "text_to_video",
            {"prompt": "a fox", "duration": 5, "aspect_ratio": "16:9", "resolution": "1080p", "generate_audio": True},
            {},
            "/v1/videos/text2video",
            {"prompt": "a fox", "duration": "5", "aspect_ratio": "16:9", "mode": "pro", "sound": "on"},
        ),
        (
            "image_to_video",
            {"image": DATA, "last_image": PICTURE, "model": "kling-v3", "resolution": "720p", "mode": "pro"},
            {},
            "/v1/videos/image2video",
            {"image": "iVBORw0KGgo=", "image_tail": PICTURE, "model_name": "kling-v3", "mode": "pro"},
        ),
        (
            "reference_to_video",
            {"prompt": "both", "images": [PICTURE, DATA]},
            {},
            "/v1/videos/multi-image2video",
            {"prompt": "both", "image_list": [{"image": PICTURE}, {"image": "iVBORw0KGgo="}]},
        ),
        ("extend", {"prompt": "on"}, {"video_id": "v1"}, "/v1/videos/video-extend", {"prompt": "on", "video_id": "v1"}),
        (
            "lip_sync",
            {"video": FILM, "audio": "https://x.test/a.mp3"},
            {},
            "/v1/videos/lip-sync",
            {
                "input": {
                    "video_url": FILM,
                    "mode": "audio2video",
                    "audio_type": "url",
                    "audio_url": "https://x.test/a.mp3",
                }
            },
        ),
        (
            "lip_sync",
            {"prompt": "hello", "voice": "girl", "language": "en"},
            {"video_id": "v1"},
            "/v1/videos/lip-sync",
            {
                "input": {
                    "video_id": "v1",
                    "mode": "text2video",
                    "text": "hello",
                    "voice_id": "girl",
                    "voice_language": "en",
                }
            },
        ),
        (
            "advanced_lip_sync",
            {"audio": "data:audio/mpeg;base64,AAA=", "end": 3, "insert": 1},
            {"external_id": "850"},
            "/v1/videos/advanced-lip-sync",
            {
                "session_id": "850",
                "face_choose": [
                    {
                        "face_id": "0",
                        "sound_file": "AAA=",
                        "sound_start_time": 0,
                        "sound_end_time": 3000,
                        "sound_insert_time": 1000,
                    }
                ],
            },
        ),
        (
            "effect",
            {"effect": "hug_pro", "images": [PICTURE, DATA]},
            {},
            "/v1/videos/effects",
            {"effect_scene": "hug_pro", "input": {"images": [PICTURE, "iVBORw0KGgo="]}},
        ),
        (
            "omni_video",
            {"prompt": "<<<video_1>>>", "image": PICTURE, "images": [DATA], "video": FILM, "keep_sound": False},
            {},
            "/v1/videos/omni-video",
            {
                "prompt": "<<<video_1>>>",
                "image_list": [{"image_url": PICTURE, "type": "first_frame"}, {"image_url": "iVBORw0KGgo="}],
                "video_list": [{"video_url": FILM, "refer_type": "feature", "keep_original_sound": "no"}],
            },
        ),
        (
            "multi_elements",
            {"edit": "removal", "prompt": "Delete it", "duration": 5},
            {"external_id": "847"},
            "/v1/videos/multi-elements",
            {"session_id": "847", "edit_mode": "removal", "prompt": "Delete it", "duration": "5"},
        ),
        (
            "multi_image_to_image",
            {"prompt": "a dress", "images": [PICTURE], "count": 2},
            {},
            "/v1/images/multi-image2image",
            {"prompt": "a dress", "subject_image_list": [{"subject_image": PICTURE}], "n": 2},
        ),
        (
            "image_to_image",
            {"image": DATA, "prompt": "a dress", "resolution": "2K", "aspect_ratio": "3:4"},
            {},
            "/v1/images/generations",
            {"image": "iVBORw0KGgo=", "prompt": "a dress", "resolution": "2k", "aspect_ratio": "3:4"},
        ),
        (
            "outpaint",
            {"image": PICTURE, "top": 0.1, "left": 0.6},
            {},
            "/v1/images/editing/expand",
            {"image": PICTURE, "up_expansion_ratio": 0.1, "left_expansion_ratio": 0.6},
        ),
        (
            "sound_effect",
            {"prompt": "fireworks", "duration": 3.5},
            {},
            "/v1/audio/text-to-audio",
            {"prompt": "fireworks", "duration": 3.5},
        ),
        (
            "video_to_audio",
            {"prompt": "rain", "music_prompt": "harp", "asmr": True},
            {"video_id": "v1"},
            "/v1/audio/video-to-audio",
            {"video_id": "v1", "sound_effect_prompt": "rain", "bgm_prompt": "harp", "asmr_mode": True},
        ),
    ],
)
def test_operation_is_sent_in_klings_fields(operation, given, inherited, path, sent):
    wanted = a_task(operation, given, inherited=inherited)
    assert OFFICIAL.validate(wanted) == []
    call = OFFICIAL.create(wanted, HOOK)
    assert (call.endpoint, call.json) == (f"POST {path}", {**sent, **FILLED})
    assert GATEWAY.create(dataclasses.replace(wanted, dialect="kling/aggregator"), HOOK).path == f"/kling{path}"
    assert OFFICIAL.query(wanted).endpoint == f"GET {path}/job-1"


@pytest.mark.parametrize("operation", sorted(Official.facts.synchronous))
def test_call_that_makes_no_task_has_no_callback_and_no_reference(operation):
    body = OFFICIAL.create(a_task(operation, {}, inherited={"external_id": "s1"}), HOOK).json
    assert not {"callback_url", "external_task_id"} & body.keys()


@pytest.mark.parametrize("operation", ["add_selection", "delete_selection", "clear_selection", "preview_selection"])
def test_selection_continues_the_session_of_its_parent(operation):
    parent = a_task("init_selection", {}, external_id="847", results=(Result("video", FILM),))
    wanted = a_task(operation, {})
    wanted = dataclasses.replace(wanted, inherited=OFFICIAL.from_parent(wanted, parent))
    assert OFFICIAL.create(wanted, None).json == {"session_id": "847"}


def test_follow_up_takes_the_id_of_the_video():
    parent = a_task("text_to_video", {}, results=(Result("video", FILM, item="v9"),))
    assert OFFICIAL.from_parent(a_task("extend", {}), parent)["video_id"] == "v9"
    without = dataclasses.replace(parent, results=(Result("video", FILM),))
    [mistake] = OFFICIAL.from_parent(a_task("extend", {}), without)
    assert mistake.path == "parent_id"


def test_gateway_gets_what_its_pages_want_besides():
    inherited = {"external_id": "t1", "video_id": "v1"}
    assert GATEWAY.create(a_task("extend", {}, "aggregator", inherited=inherited), None).json["task_id"] == "t1"
    assert GATEWAY.create(a_task("outpaint", {"bottom": 0.1}, "aggregator"), None).json["bottom_expansion_ratio"] == 0.1


@pytest.mark.parametrize(
    ("operation", "given", "path", "sent"),
    [
        (
            "text_to_video",
            {"prompt": "a fox", "model": "kling-4.0", "duration": 30, "aspect_ratio": "21:9", "mode": "pro"},
            "/text-to-video/kling-4.0",
            {"prompt": "a fox", "settings": {"duration": 30, "aspect_ratio": "21:9", "resolution": "1080p"}},
        ),
        (
            "image_to_video",
            {"prompt": "a train", "image": PICTURE, "duration": 10, "generate_audio": True},
            "/image-to-video/kling-3.0-turbo",
            {
                "contents": [{"type": "prompt", "text": "a train"}, {"type": "first_frame", "url": PICTURE}],
                "settings": {"duration": 10, "audio": "native"},
            },
        ),
        (
            "motion_control",
            {"prompt": "she", "image": PICTURE, "video": FILM, "orientation": "video", "keep_sound": True},
            "/motion-control/kling-2.6",
            {
                "contents": [
                    {"type": "prompt", "text": "she"},
                    {"type": "image", "url": PICTURE},
                    {"type": "video", "url": FILM},
                ],
                "settings": {"character_orientation": "video", "audio": "original"},
            },
        ),
        (
            "product_video",
            {"prompt": "a shirt", "video": FILM, "product_images": [PICTURE]},
            "/solutions/e-commerce/clothing_dupe",
            {
                "contents": [
                    {"type": "product_info", "text": "a shirt"},
                    {"type": "source_video", "url": FILM},
                    {"type": "product_image", "url": PICTURE},
                ]
            },
        ),
    ],
)
def test_newer_api_has_the_model_in_its_path(operation, given, path, sent):
    wanted = a_task(operation, given, "official-v2")
    assert V2.validate(wanted) == []
    call = V2.create(wanted, HOOK)
    assert (call.endpoint, call.json) == (f"POST {path}", {**sent, "options": FILLED})
    listed = "/solutions" if operation == "product_video" else "/tasks"
    assert V2.query(wanted).endpoint == f"GET {listed}?task_ids=job-1"


@pytest.mark.parametrize(
    "stated", [{"callback_url": "https://evil.example/"}, {"external_task_id": "mine"}, "https://evil.example/", []]
)
def test_filled_fields_within_klings_options_are_refused(stated):
    wanted = a_task("text_to_video", {"prompt": "x"}, "official-v2", options={"options": stated})
    assert [mistake.path for mistake in V2.validate(wanted)] == ["options.options"]
    fine = a_task(
        "text_to_video", {"prompt": "x"}, "official-v2", options={"options": {"watermark_info": {"enabled": True}}}
    )
    assert V2.validate(fine) == []
    assert V2.create(fine, HOOK).json["options"] == {**FILLED, "watermark_info": {"enabled": True}}


@pytest.mark.parametrize(
    ("dialect", "operation", "given", "paths"),
    [
        (OFFICIAL, "text_to_video", {"prompt": "x" * 2501, "duration": 2}, ["input.prompt", "input.duration"]),
        (OFFICIAL, "text_to_video", {"prompt": "x", "duration": 5.5}, ["input.duration"]),
        (OFFICIAL, "image_to_video", {"image": "data:image/svg+xml,<svg/>"}, ["input.image"]),
        (OFFICIAL, "image_to_video", {"image": PICTURE, "aspect_ratio": "1:1"}, ["input.aspect_ratio"]),
        (OFFICIAL, "reference_to_video", {"prompt": "x", "images": [PICTURE] * 5}, ["input.images"]),
        (OFFICIAL, "extend", {"prompt": "x"}, ["parent_id"]),
        (OFFICIAL, "identify_face", {}, ["input.video"]),
        (OFFICIAL, "video_to_audio", {"video": FILM, "video_id": "v1"}, ["input.video"]),
        (OFFICIAL, "motion_control", {"video": "data:video/mp4;base64,AA==", "image": PICTURE}, ["input.video"]),
        (OFFICIAL, "lip_sync", {"video": FILM}, ["input.audio"]),
        (OFFICIAL, "lip_sync", {"video": FILM, "prompt": "x"}, ["input.voice"]),
        (OFFICIAL, "effect", {"effect": "hug_pro"}, ["input.image"]),
        (OFFICIAL, "sound_effect", {"prompt": "x", "duration": 11}, ["input.duration"]),
        (V2, "image_to_video", {"image": DATA}, ["input.image"]),
        (V2, "image_to_video", {"image": PICTURE, "last_image": PICTURE}, ["input.last_image"]),
        (V2, "text_to_video", {"prompt": "x", "negative_prompt": "y", "duration": 31}, ["input.negative_prompt", "input.duration"]),
    ],
)  # fmt: skip
def test_what_kling_refuses_is_refused_before_the_purchase(dialect, operation, given, paths):
    assert [mistake.path for mistake in dialect.validate(a_task(operation, given, dialect.facts.name))] == paths


# Keys and signatures ---------------------------------------------------------------------------------------------


def decoded(part):
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


@pytest.mark.parametrize("dialect", [OFFICIAL, V2])
def test_key_pair_signs_a_token_for_each_call(dialect):
    call = Call(method="GET", path="/tasks")
    sent = dialect.sign(call, "ak-1:sk-2", host="h", content=b"", now=1_800_000_000.9)
    head, claims, signature = sent.headers["Authorization"].removeprefix("Bearer ").split(".")
    assert decoded(head) == {"alg": "HS256", "typ": "JWT"}
    assert decoded(claims) == {"iss": "ak-1", "exp": 1_800_001_800, "nbf": 1_799_999_995}
    right = hmac.digest(b"sk-2", f"{head}.{claims}".encode(), hashlib.sha256)
    assert base64.urlsafe_b64decode(signature + "=") == right
    assert "sk-2" not in json.dumps(dict(sent.headers))


@pytest.mark.parametrize("key", ["kl-123", "kl-123:", ":kl-123"])
def test_single_key_is_sent_as_it_is(key):
    sent = OFFICIAL.sign(Call(method="GET", path="/"), key, host="h", content=b"", now=0.0)
    assert sent.headers["Authorization"] == f"Bearer {key}"


def test_callback_is_not_checked_without_a_secret():
    assert OFFICIAL.verify_signature(Callback({}, b"{}"), None) is None
    assert V2.verify_signature(Callback({}, b"{}"), "whsec_dGVzdA==") is False


# What is answered ------------------------------------------------------------------------------------------------

CREATING = "POST /v1/videos/text2video"


@pytest.mark.parametrize("dialect", [OFFICIAL, V2, GATEWAY])
@pytest.mark.parametrize("status", [200, 400, 429, 500])
@pytest.mark.parametrize(
    ("code", "error", "name"),
    [
        (1003, AccountProblem, "unauthorized"),
        (1100, AccountProblem, "forbidden"),
        (1101, AccountProblem, "insufficient_credit"),
        (1102, AccountProblem, "insufficient_credit"),
        (1200, Refused, "invalid_input"),
        (1300, Refused, "content_policy"),
        (1302, Unavailable, "rate_limited"),
        (1304, AccountProblem, "forbidden"),
        (5000, Uncertain, "provider_error"),
        (5001, Unavailable, "overloaded"),
        (5002, Uncertain, "provider_timeout"),
    ],
)
def test_code_counts_before_the_http_status(dialect, status, code, error, name):
    with pytest.raises(error) as raised:
        dialect.read_created(reply({"code": code, "message": "no", "request_id": "r"}, status))
    assert (type(raised.value), raised.value.code) == (error, name)


@pytest.mark.parametrize(
    ("code", "error"), [(1203, NotFound), (1202, NotFound), (5000, Unavailable), (5002, Unavailable)]
)
def test_code_on_a_query_says_nothing_about_a_purchase(code, error):
    for dialect in (OFFICIAL, V2, GATEWAY):
        with pytest.raises(error):
            dialect.read_status(reply({"code": code, "message": "no"}, 404))


def test_route_that_a_gateway_lacks_is_not_an_unknown_task():
    with pytest.raises(AccountProblem):
        GATEWAY.read_created(reply({"code": None, "message": "404"}, 404))


def test_helper_that_recognised_nothing_is_refused():
    with pytest.raises(Refused):
        OFFICIAL.read_created(reply({"code": 0, "data": {"status": 3, "session_id": "", "fps": 0}}))


def test_answer_of_a_helper_is_kept_as_data():
    body = {"code": 0, "data": {"status": 0, "session_id": "847", "res": {"frame_index": 0, "rle_mask_list": []}}}
    update = OFFICIAL.read_created(reply(body))
    assert (update.state, update.external_id) == (State.SUCCEEDED, "847")
    assert [(each.kind, each.role) for each in update.results] == [("json", "extra")]


def test_success_without_outputs_asks_for_a_query():
    for dialect, body in (
        (OFFICIAL, {"task_id": "1", "task_status": "succeed"}),
        (V2, {"id": "1", "status": "succeeded", "outputs": [{"type": "voice", "url": "https://x.test/v.mp3"}]}),
    ):
        [update] = dialect.read_callback(Callback({}, json.dumps(body).encode()))
        assert (update.state, update.incomplete, update.results) == (None, True, ())


def test_twins_of_an_output_are_extras():
    sound = {"id": "a", "url_mp3": "https://x.test/a.mp3", "url_wav": "https://x.test/a.wav"}
    film = {"id": "v", "url": FILM, "watermark_url": "https://x.test/w.mp4"}
    record = {"task_id": "1", "task_status": "succeed", "task_result": {"audios": [sound], "videos": [film]}}
    update = OFFICIAL.read_status(reply({"code": 0, "data": record}))
    assert [(each.kind, each.role, each.item) for each in update.results] == [
        ("video", "result", "v"),
        ("video", "extra", "v"),
        ("audio", "result", "a"),
        ("audio", "extra", "a"),
    ]


def test_images_are_ordered_by_their_index():
    images = [{"index": 1, "url": "https://x.test/1.png"}, {"index": 0, "url": PICTURE}]
    record = {"task_id": "1", "task_status": "succeed", "task_result": {"images": images}}
    assert [each.url for each in OFFICIAL.read_status(reply({"code": 0, "data": record})).results] == [
        PICTURE,
        "https://x.test/1.png",
    ]


def test_pictures_of_several_shots_are_outputs():
    shots = {"index": 0, "url_1": PICTURE, "url_2": "https://x.test/2.png"}
    record = {"task_id": "1", "task_status": "succeed", "task_result": {"images": [shots]}}
    assert [each.url for each in OFFICIAL.read_status(reply({"code": 0, "data": record})).results] == [
        PICTURE,
        "https://x.test/2.png",
    ]


@pytest.mark.parametrize(
    ("said", "cost"),
    [
        ({"final_unit_deduction": "0.25"}, 0.25),
        ({"billing": [{"charge_type": "unit", "amount": "2"}, {"charge_type": "unit", "amount": "1"}]}, 3),
        ({"billing": [{"charge_type": "cash", "amount": "12.00", "currency": "CNY"}]}, None),
    ],
)
def test_price_is_read_in_units(said, cost):
    assert (
        OFFICIAL.read_status(reply({"code": 0, "data": {"task_id": "1", "task_status": "failed", **said}})).cost == cost
    )


# Reconciliation and batches --------------------------------------------------------------------------------------

MOMENT = int(NOW.timestamp() * 1000)


def test_lost_job_is_looked_up_by_its_reference():
    wanted = a_task("text_to_video", {"prompt": "x"})
    record = {"task_id": "t9", "task_status": "processing", "created_at": MOMENT}
    [call], [found] = held(OFFICIAL.find_lost_jobs(wanted), reply({"code": 0, "data": record}))
    assert call.endpoint == f"GET /v1/videos/text2video/{SENT}"
    assert (found.external_id, found.created_at, found.may_be(wanted)) == ("t9", NOW.timestamp(), True)
    assert not found.may_be(dataclasses.replace(wanted, id=UUID(int=2)))
    [call], [found] = held(
        V2.find_lost_jobs(a_task("product_video", {}, "official-v2")),
        reply({"code": 0, "data": [{"id": "t9", "status": "submitted", "create_time": MOMENT}]}),
    )
    assert call.endpoint == f"GET /solutions?external_task_ids={SENT}"


def test_reference_that_kling_does_not_know_is_no_job():
    unknown = reply({"code": 1203, "message": "task not found"}, 404)
    assert held(OFFICIAL.find_lost_jobs(a_task("text_to_video", {"prompt": "x"})), unknown)[1] == []
    nothing = reply({"code": 0, "message": "SUCCEED", "data": []})
    assert held(V2.find_lost_jobs(a_task("text_to_video", {"prompt": "x"}, "official-v2")), nothing)[1] == []


def test_call_without_a_task_cannot_be_looked_up():
    with pytest.raises(UpstreamError):
        next(OFFICIAL.find_lost_jobs(a_task("text_to_speech", {})))


def test_batch_asks_each_list_once():
    tasks = [
        a_task("text_to_video", {"prompt": "x"}, "official-v2", external_id="1"),
        a_task("product_video", {}, "official-v2", external_id="2"),
        a_task("image_to_video", {"image": PICTURE}, "official-v2", external_id="3"),
    ]
    shop = {"code": 0, "data": [{"id": "2", "status": "submitted"}]}
    rest = {"code": 0, "data": [{"id": "1", "status": "processing"}, {"id": "3", "status": "failed"}]}
    calls, found = held(V2.poll_many(tasks), reply(shop), reply(rest))
    assert [call.path for call in calls] == ["/solutions?task_ids=2", "/tasks?task_ids=1,3"]
    assert {name: update.state for name, update in found.items()} == {
        "1": State.RUNNING,
        "2": State.SUBMITTED,
        "3": State.FAILED,
    }


def test_broken_batch_is_an_error():
    for body in ({"code": 5000, "message": "x"}, {"message": "x"}, {"code": 0, "data": [{"no": "task"}]}):
        with pytest.raises(UpstreamError):
            held(V2.poll_many([a_task("text_to_video", {"prompt": "x"}, "official-v2")]), reply(body))


@pytest.mark.parametrize("dialect", ["official", "official-v2"])
def test_units_of_the_packs_in_use_are_the_balance(dialect):
    packs = [
        {"resource_pack_name": "a", "remaining_quantity": 118.5, "status": "online"},
        {"resource_pack_name": "b", "remaining_quantity": 1000, "status": "toBeOnline"},
        {"resource_pack_name": "c", "remaining_quantity": 7, "status": "expired"},
        {"resource_pack_name": "d", "remaining_quantity": None, "status": "runOut"},
        "noise",
    ]
    exchange = DIALECTS[f"kling/{dialect}"].balance()
    call = next(exchange)
    assert (call.method, call.path.partition("?")[0]) == ("GET", "/account/costs")
    with pytest.raises(StopIteration) as done:
        exchange.send(reply({"code": 0, "data": {"code": 0, "resource_pack_subscribe_infos": packs}}))
    assert done.value.value == Balance(118.5, "units")


@pytest.mark.parametrize("body", [{"code": 1004, "message": "expired"}, {"code": 0, "data": {}}, "<html>"])
def test_answer_without_resource_packs_is_an_error(body):
    exchange = DIALECTS["kling/official"].balance()
    next(exchange)
    with pytest.raises(UpstreamError):
        exchange.send(reply(body))
