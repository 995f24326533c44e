"""Wan, Grok Imagine, Vidu and Jimeng: what is sent, how calls are authorized, and the oddities of what is answered."""

import dataclasses
import datetime as dt
import hashlib
import json
from pathlib import Path

import pytest

from service.cli.explain import explain
from service.domain.errors import NotFound, Unavailable, Uncertain
from service.domain.task import State
from service.providers.grok import Official as Grok
from service.providers.jimeng import Visual
from service.providers.vidu import Official as Vidu
from service.providers.wan import DashScope
from service.providers.wire import Call, Reply
from tests.support.exchanges import held
from tests.support.operations import task

RECORDINGS = Path(__file__).parents[1] / "recordings"
MESSAGES = {
    f"{family} {path.stem}": json.loads(path.read_text(encoding="utf-8"))
    for family in ("wan", "grok", "vidu", "jimeng")
    for path in sorted((RECORDINGS / family / "official").glob("*.json"))
}
PICTURE, OTHER, FILM, DATA = (
    "https://x.test/a.png",
    "https://x.test/b.png",
    "https://x.test/v.mp4",
    "data:image/png;base64,AA==",
)
WAN, GROK, VIDU, JIMENG = DashScope(), Grok(), Vidu(), Visual()


def a_task(dialect, operation, given, **more):
    family = dialect.facts.family
    found = task(f"{family}/official", f"{family} {operation}", given=given, options=more.pop("options", None))
    return dataclasses.replace(found, **more)


def reply(body, status=200):
    return Reply(status, {}, json.dumps(body).encode())


@pytest.mark.parametrize("name", [name for name, message in MESSAGES.items() if "reading" in message])
def test_recording_gets_its_reading(name):
    assert explain(MESSAGES[name]) == MESSAGES[name]["reading"]


@pytest.mark.parametrize(
    ("dialect", "operation", "given", "endpoint", "sent"),
    [
        (
            WAN,
            "text_to_video",
            {"prompt": "a kite", "duration": 5, "aspect_ratio": "9:16", "resolution": "1080p", "enhance_prompt": False},
            "POST /api/v1/services/aigc/video-generation/video-synthesis",
            {
                "model": "wan2.2-t2v-plus",
                "input": {"prompt": "a kite"},
                "parameters": {"duration": 5, "prompt_extend": False, "size": "1080*1920"},
            },
        ),
        (
            WAN,
            "image_to_video",
            {"image": PICTURE, "prompt": "wind", "resolution": "720p"},
            "POST /api/v1/services/aigc/video-generation/video-synthesis",
            {
                "model": "wan2.2-i2v-plus",
                "input": {"prompt": "wind", "img_url": PICTURE},
                "parameters": {"resolution": "720P"},
            },
        ),
        (
            WAN,
            "image_to_video",
            {"image": PICTURE, "last_image": OTHER},
            "POST /api/v1/services/aigc/video-generation/video-synthesis",
            {
                "model": "wanx2.1-kf2v-plus",
                "input": {"first_frame_url": PICTURE, "last_frame_url": OTHER},
                "parameters": {},
            },
        ),
        (
            WAN,
            "reference_to_video",
            {"prompt": "both", "images": [PICTURE], "video": FILM},
            "POST /api/v1/services/aigc/video-generation/video-synthesis",
            {
                "model": "wan2.7-r2v",
                "input": {
                    "prompt": "both",
                    "media": [{"type": "reference_image", "url": PICTURE}, {"type": "reference_video", "url": FILM}],
                },
                "parameters": {},
            },
        ),
        (
            WAN,
            "text_to_image",
            {"prompt": "a kite", "count": 2, "aspect_ratio": "1:1"},
            "POST /api/v1/services/aigc/text2image/image-synthesis",
            {"model": "wan2.2-t2i-plus", "input": {"prompt": "a kite"}, "parameters": {"n": 2, "size": "1024*1024"}},
        ),
        (
            GROK,
            "image_to_video",
            {"image": PICTURE, "last_image": OTHER, "prompt": "up", "duration": 6},
            "POST /v1/videos/generations",
            {
                "model": "grok-imagine-video",
                "prompt": "up",
                "duration": 6,
                "image": {"url": PICTURE},
                "last_frame": {"url": OTHER},
            },
        ),
        (
            GROK,
            "video_to_video",
            {"video": FILM, "prompt": "at night"},
            "POST /v1/videos/edits",
            {"model": "grok-imagine-video", "prompt": "at night", "video": {"url": FILM}},
        ),
        (
            VIDU,
            "text_to_video",
            {"prompt": "the tide", "motion": "small", "music": True, "duration": 4},
            "POST /ent/v2/text2video",
            {"model": "viduq3-turbo", "prompt": "the tide", "duration": 4, "movement_amplitude": "small", "bgm": True},
        ),
        (
            VIDU,
            "image_to_video",
            {"image": PICTURE, "last_image": OTHER},
            "POST /ent/v2/start-end2video",
            {"model": "viduq3-turbo", "images": [PICTURE, OTHER]},
        ),
        (
            JIMENG,
            "image_to_video",
            {"image": DATA, "prompt": "rain", "duration": 10, "seed": 1},
            "POST /?Action=CVSync2AsyncSubmitTask&Version=2022-08-31",
            {
                "req_key": "jimeng_i2v_first_v30",
                "prompt": "rain",
                "binary_data_base64": ["AA=="],
                "seed": 1,
                "frames": 241,
            },
        ),
    ],
)
def test_operation_is_sent_in_the_vendors_fields(dialect, operation, given, endpoint, sent):
    wanted = a_task(dialect, operation, given)
    assert dialect.validate(wanted) == []
    call = dialect.create(wanted, None)
    assert (call.endpoint, call.json) == (endpoint, sent)
    assert dialect.facts.creates(call.endpoint)


@pytest.mark.parametrize(
    ("dialect", "operation", "given", "paths"),
    [
        (WAN, "text_to_video", {"prompt": "x", "aspect_ratio": "21:9"}, ["input.aspect_ratio"]),
        (WAN, "image_to_image", {"prompt": "x"}, ["input.image"]),
        (WAN, "reference_to_video", {"prompt": "x"}, ["input.video"]),
        (GROK, "text_to_video", {"prompt": "x", "duration": 16}, ["input.duration"]),
        (VIDU, "reference_to_video", {"prompt": "x", "images": [PICTURE] * 8}, ["input.images"]),
        (JIMENG, "text_to_video", {"prompt": "x", "duration": 6}, ["input.duration"]),
    ],
)
def test_what_the_vendor_refuses_is_refused_before_the_purchase(dialect, operation, given, paths):
    assert [mistake.path for mistake in dialect.validate(a_task(dialect, operation, given))] == paths


def test_wan_asks_for_an_asynchronous_task_by_a_header():
    assert WAN.create(a_task(WAN, "text_to_video", {"prompt": "x"}), None).headers == {"X-DashScope-Async": "enable"}


def test_vidu_calls_its_key_a_token():
    assert VIDU.authorize(Call(method="GET", path="/"), "k").headers == {"Authorization": "Token k"}


# Jimeng's signature ----------------------------------------------------------------------------------------------


def test_jimeng_signs_the_request_with_a_key_pair():
    body = b'{"req_key":"jimeng_t2v_v30"}'
    call = JIMENG.create(a_task(JIMENG, "text_to_video", {"prompt": "x"}), None)
    at = dt.datetime(2026, 11, 26, 12, tzinfo=dt.UTC).timestamp()
    sent = JIMENG.sign(call, "AK:SK", host="visual.volcengineapi.com", content=body, now=at)
    assert sent.headers["X-Date"] == "20261126T120000Z"
    assert sent.headers["X-Content-Sha256"] == hashlib.sha256(body).hexdigest()
    credential = sent.headers["Authorization"]
    assert credential.startswith("HMAC-SHA256 Credential=AK/20261126/cn-north-1/cv/request, SignedHeaders=")
    # Made by Volcengine's own SDK (volcengine 1.0.229, SignerV4) for the same request.
    assert credential.endswith("Signature=3487b571c145d14c8310f64026920bcddbeb1bf363e8907ead8b2d74cce1df96")
    again = [
        JIMENG.sign(call, key, host=host, content=content, now=now).headers["Authorization"]
        for key, host, content, now in (
            ("AK:SK2", "visual.volcengineapi.com", body, at),
            ("AK:SK", "other.example", body, at),
            ("AK:SK", "visual.volcengineapi.com", b"{}", at),
            ("AK:SK", "visual.volcengineapi.com", body, at + 1),
        )
    ]
    assert len({credential, *again}) == 5, "all of the request, the time and the key are signed"
    assert "SK" not in credential.replace("SK2", "")
    assert JIMENG.sign(call, "plain", host="h", content=body, now=at).headers["Authorization"] == "Bearer plain"


def test_jimeng_query_names_the_model_again():
    wanted = a_task(JIMENG, "text_to_video", {"prompt": "x", "model": "jimeng_ti2v_v30_pro"})
    assert JIMENG.query(wanted).json == {"req_key": "jimeng_ti2v_v30_pro", "task_id": "job-1"}
    assert not JIMENG.facts.creates(JIMENG.query(wanted).endpoint)


# What is answered ------------------------------------------------------------------------------------------------


def test_wan_cancels_in_the_queue_only():
    def task_of(status):
        return reply({"request_id": "r", "output": {"task_id": "job-1", "task_status": status}})

    wanted = a_task(WAN, "text_to_video", {"prompt": "x"})
    calls, update = held(WAN.cancel(wanted), task_of("PENDING"), reply({"request_id": "r"}))
    assert (calls[1].endpoint, update.state) == ("POST /api/v1/tasks/job-1/cancel", State.CANCELLED)
    calls, update = held(WAN.cancel(wanted), task_of("RUNNING"))
    assert (len(calls), update.state) == (1, State.RUNNING)


def test_vidu_cancels_before_the_end_only():
    wanted = a_task(VIDU, "text_to_video", {"prompt": "x"})
    calls, update = held(VIDU.cancel(wanted), reply({"state": "processing"}), reply({}))
    assert (calls[1].endpoint, update.state) == ("POST /ent/v2/tasks/job-1/cancel", State.CANCELLED)
    done = reply({"state": "success", "creations": [{"url": FILM}]})
    assert held(VIDU.cancel(wanted), done)[1].state is State.SUCCEEDED


@pytest.mark.parametrize("dialect", [WAN, GROK, VIDU, JIMENG])
def test_answer_to_a_submit_without_an_id_is_uncertain(dialect):
    bodies = (
        {},
        {"data": {}},
        {"output": {}},
        *([{"code": 10000, "data": {"task_id": ""}}] if dialect is JIMENG else []),
    )
    for body in bodies:
        with pytest.raises(Uncertain):
            dialect.read_created(reply(body))


@pytest.mark.parametrize(
    ("data", "state"),
    [
        ({"video_url": None, "image_urls": None, "binary_data_base64": []}, State.FAILED),
        ({"video_url": ""}, None),
        ({"video_url": 7, "image_urls": [], "binary_data_base64": []}, None),
        ({"video_url": FILM, "image_urls": [], "binary_data_base64": []}, State.SUCCEEDED),
    ],
)
def test_jimeng_job_that_made_nothing_has_failed(data, state):
    assert JIMENG.read_status(reply({"code": 10000, "data": {"status": "done", **data}})).state is state


def test_internal_error_of_a_query_fails_no_task():
    for code in (50500, 50501, 50429):
        with pytest.raises(Unavailable):
            JIMENG.read_status(reply({"code": code, "message": "x", "data": None}))
    with pytest.raises(NotFound):
        JIMENG.read_status(reply({"code": 10000, "data": {"status": "not_found"}}))
