"""Luma: the bodies of its APIs and of gateways, the choice of the output, and the list of generations."""

import dataclasses
import json

import pytest

from service.domain.errors import AccountProblem, Refused, UpstreamError
from service.domain.task import State
from service.providers.registry import DIALECTS
from service.providers.wire import Reply
from tests.support.operations import task

HOOK = "https://dovecote.example/callbacks/token"
A, B, V = "https://e.test/a.png", "https://e.test/b.png", "https://e.test/v.mp4"
PARENT = {"external_id": "up-1"}


def luma(operation, dialect="official", inherited=None, **given):
    made = task(f"luma/{dialect}", f"luma {operation}", given=given)
    return dataclasses.replace(made, inherited=inherited or {})


def reply(body, status=200):
    return Reply(status, {}, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("wanted", "path", "body"),
    [
        (luma("text_to_video", prompt="a kite", duration=9.0, loop=True, concepts=["dolly_zoom"]), "/video",
         {"prompt": "a kite", "loop": True, "model": "ray-2", "duration": "9s", "concepts": [{"key": "dolly_zoom"}]}),
        (luma("image_to_video", image=A, last_image=B, model="ray-flash-2"), "/video",
         {"model": "ray-flash-2", "keyframes": {"frame0": {"type": "image", "url": A}, "frame1": {"type": "image", "url": B}}}),
        (luma("extend", inherited=PARENT, prompt="it lands"), "/video",
         {"prompt": "it lands", "model": "ray-2", "keyframes": {"frame0": {"type": "generation", "id": "up-1"}}}),
        (luma("video_to_video", video=V, prompt="snow"), "/video/modify",
         {"prompt": "snow", "generation_type": "modify_video", "model": "ray-2", "mode": "flex_1", "media": {"url": V}}),
        (luma("reframe_image", image=A, aspect_ratio="1:1", position={"x_start": 8}), "/image/reframe",
         {"aspect_ratio": "1:1", "generation_type": "reframe_image", "model": "photon-1", "media": {"url": A}, "x_start": 8}),
        (luma("upscale", inherited=PARENT, resolution="4k"), "/up-1/upscale",
         {"resolution": "4k", "generation_type": "upscale_video"}),
        (luma("add_audio", inherited={"external_id": "../up"}, prompt="gulls"), "/..%2Fup/audio",
         {"prompt": "gulls", "generation_type": "add_audio"}),
        (luma("text_to_image", prompt="a barn", style_images=[A], character_images=[B], format="png"), "/image",
         {"prompt": "a barn", "format": "png", "model": "photon-1", "style_ref": [{"url": A}],
          "character_ref": {"identity0": {"images": [B]}}}),
        (luma("image_to_image", image=A, prompt="in oil"), "/image",
         {"prompt": "in oil", "model": "photon-1", "modify_image_ref": {"url": A}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_official_body_has_lumas_fields(wanted, path, body):
    dialect = DIALECTS["luma/official"]
    assert dialect.validate(wanted) == []
    call = dialect.create(wanted, HOOK)
    assert (call.path, call.json) == (f"/dream-machine/v1/generations{path}", {**body, "callback_url": HOOK})


@pytest.mark.parametrize(
    ("wanted", "body"),
    [
        (luma("text_to_image", "agents", prompt="coffee", aspect_ratio="16:9"), {"prompt": "coffee", "aspect_ratio": "16:9"}),
        (luma("image_to_video", "agents", image=A, keyframes=[{"image": B, "frame": 60}], duration=5, resolution="720p"),
         {"type": "video", "model": "ray-3.2", "video": {"resolution": "720p", "duration": "5s",
          "keyframes": [{"url": A}, {"url": B}], "keyframe_indexes": [0, 60]}}),
        (luma("extend", "agents", inherited=PARENT), {"type": "video", "model": "ray-3.2",
         "video": {"start_frame": {"generation_id": "up-1"}}}),
        (luma("video_to_video", "agents", video=V, prompt="red", strength="flex_1"),
         {"prompt": "red", "type": "video_edit", "model": "ray-3.2", "video": {"edit": {"strength": "flex_1"}},
          "source": {"url": V, "media_type": "video/mp4"}}),
        (luma("image_to_image", "agents", image="data:image/png;base64,QUJD", prompt="red"),
         {"prompt": "red", "type": "image_edit", "source": {"data": "QUJD", "media_type": "image/png"}}),
        (luma("layering", "agents", image=A, resolution="2k"),
         {"type": "layering", "source": {"url": A}, "layering": {"resolution": "2k"}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_agents_body_keeps_the_video_apart(wanted, body):
    dialect = DIALECTS["luma/agents"]
    assert dialect.validate(wanted) == []
    assert dialect.create(wanted, None).json == body


def test_gateway_bodies_name_the_callback_in_their_words():
    comet = DIALECTS["luma/aggregator"].create(luma("image_to_video", "aggregator", image=A, prompt="a kite"), HOOK)
    assert comet.json == {
        "prompt": "a kite",
        "keyframes": {"frame0": {"type": "image", "url": A}},
        "callback_url": HOOK,
    }
    extended = DIALECTS["luma/relay"].create(luma("extend", "relay", inherited=PARENT, prompt="on"), HOOK)
    assert (extended.path, extended.json) == (
        "/luma/generations/up-1/extend",
        {"user_prompt": "on", "notify_hook": HOOK},
    )


@pytest.mark.parametrize(
    ("dialect", "wanted", "path"),
    [
        ("luma/official", luma("text_to_video", prompt="x", hdr=True), "input.hdr"),
        ("luma/official", luma("image_to_video", image="data:image/png;base64,QUJD"), "input.image"),
        (
            "luma/official",
            luma("text_to_image", prompt="x", reference_images=[A, "data:image/png;base64,QUJD"]),
            "input.reference_images",
        ),
        ("luma/agents", luma("text_to_video", "agents", prompt="x" * 6001), "input.prompt"),
        ("luma/agents", luma("text_to_video", "agents", prompt="x", loop=True, duration=10), "input.loop"),
        ("luma/agents", luma("text_to_video", "agents", prompt="x", exr=True), "input.exr"),
        ("luma/agents", luma("text_to_video", "agents", prompt="x", concepts=["orbit"]), "input.concepts"),
        ("luma/aggregator", luma("text_to_video", "aggregator", prompt="x", concepts=["orbit"]), "input.concepts"),
        (
            "luma/agents",
            luma("image_to_video", "agents", image=A, last_image=B, keyframes=[{"image": B, "frame": 9}]),
            "input.keyframes",
        ),
    ],
)
def test_input_that_luma_has_no_words_for_is_refused(dialect, wanted, path):
    assert [each.path for each in DIALECTS[dialect].validate(wanted)] == [path]


def test_poster_and_preview_are_no_main_outputs():
    shown = {"id": "g", "state": "completed", "assets": {"video": V, "image": A, "progress_video": f"{V}?p"}}
    update = DIALECTS["luma/official"].read_status(reply(shown))
    assert [(each.url, each.role) for each in update.results] == [(V, "result"), (A, "cover"), (f"{V}?p", "preview")]


@pytest.mark.parametrize("made", [{}, None, {"video": ""}, {"video": None, "image": "  "}, {"progress_video": V}])
def test_completion_without_an_asset_keeps_the_state(made):
    update = DIALECTS["luma/official"].read_status(reply({"id": "g", "state": "completed", "assets": made}))
    assert (update.state, update.results) == (None, ())


def test_code_of_a_failure_counts_before_its_text():
    said = {"id": "g", "state": "failed", "failure_code": "content_moderated", "failure_reason": "internal error"}
    failure = DIALECTS["luma/agents"].read_status(reply(said)).failure
    assert (failure.code, failure.message) == ("content_policy", "internal error")


@pytest.mark.parametrize("text", ["Invalid API key is provided", "Not authenticated", "invalid api key"])
def test_wrong_key_is_a_problem_of_the_account(text):
    for status in (400, 403):
        with pytest.raises(AccountProblem):
            DIALECTS["luma/official"].read_created(reply({"detail": text}, status))


def test_bad_image_is_refused():
    with pytest.raises(Refused) as caught:
        DIALECTS["luma/official"].read_created(reply({"detail": "Invalid image url"}, 400))
    assert caught.value.code == "invalid_input"


def listed(*pages):
    exchange = DIALECTS["luma/official"].find_lost_jobs(luma("text_to_video", prompt="a kite"))
    calls, answers = [next(exchange).path], iter(pages)
    while True:
        try:
            calls.append(exchange.send(reply(next(answers))).path)
        except StopIteration as done:
            return calls, done.value


def test_lost_generation_is_found_by_its_request():
    def row(name, **request):
        return {"id": name, "created_at": "2026-11-02T09:15:00Z", "request": request}

    first = {"has_more": True, "generations": [row("a", prompt="a kite", model="ray-2"), row("b", prompt="a barn")]}
    second = {"has_more": False, "generations": [row("c", prompt="a kite", model="ray-flash-2"), row("d")]}
    calls, found = listed(first, second)
    wanted = luma("text_to_video", prompt="a kite")
    assert [each.external_id for each in found if each.may_be(wanted)] == ["a", "d"]
    assert [path.partition("?")[2] for path in calls] == ["limit=100&offset=0", "limit=100&offset=100"]


def test_list_with_an_unreadable_row_proves_nothing():
    with pytest.raises(UpstreamError):
        listed({"has_more": False, "generations": [{"id": "a"}]})


def test_submitted_state_may_be_missing():
    update = DIALECTS["luma/relay"].read_created(reply({"task_id": "t-1"}))
    assert (update.state, update.external_id) == (State.SUBMITTED, "t-1")
