"""ElkAPI's task API: readings of every recording, requests of every family, and inputs that are refused."""

import datetime as dt
import json
from pathlib import Path
from uuid import UUID

import pytest

from service.cli.explain import explain
from service.domain.errors import UpstreamError
from service.domain.task import Failure, Result, State, Task, Update
from service.providers.elk_task import ElkTask
from service.providers.registry import DIALECTS, FAMILIES, PROVIDERS
from service.providers.wire import Call, Callback, Reply

RECORDINGS = Path(__file__).parents[1] / "recordings" / "any" / "elk-task"
MESSAGES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RECORDINGS.glob("*.json"))}
NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
HOOK = "https://your-server.com/webhook/task"
ELK = ElkTask()


def task(family, operation, given, options=None, **more):
    return Task(
        id=UUID(int=1),
        client="c",
        family=family,
        operation=operation,
        input=given,
        options=options or {},
        created_at=NOW,
        updated_at=NOW,
        deadline_at=NOW,
        **more,
    )


def reply(body, status=200):
    return Reply(status, {}, body.encode() if isinstance(body, str) else json.dumps(body).encode())


# Readings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, message in MESSAGES.items() if "reading" in message])
def test_recording_gets_its_reading(name):
    assert explain(MESSAGES[name]) == MESSAGES[name]["reading"]


VIDEO, SONG, COVER = "https://x.test/v.mp4", "https://x.test/s.mp3", "https://x.test/c.jpeg"


def read(**said):
    return ELK.read_status(reply({"id": "t1", "created_at": 1, **said}))


@pytest.mark.parametrize(
    ("said", "update"),
    [
        ({"status": "queued"}, Update(state=State.SUBMITTED, external_id="t1")),
        ({"status": "QUEUED"}, Update(state=State.SUBMITTED, external_id="t1")),
        ({"status": "in_progress"}, Update(state=State.RUNNING, external_id="t1")),
        ({"status": "in_progress", "outputs": [VIDEO]}, Update(state=State.RUNNING, external_id="t1")),
        ({"status": "paused"}, Update(external_id="t1", unknown_word="paused")),
        ({"status": "Cancelled"}, Update(external_id="t1", unknown_word="cancelled")),
        ({"status": None}, Update(external_id="t1")),
        ({"status": True}, Update(external_id="t1")),
        ({"status": "completed"}, Update(external_id="t1")),
        ({"status": "completed", "outputs": []}, Update(external_id="t1")),
        ({"status": "completed", "outputs": [None, 7, "t1.mp4"]}, Update(external_id="t1")),
        (
            {"status": "completed", "outputs": [VIDEO], "error": "late"},
            Update(state=State.SUCCEEDED, external_id="t1", results=(Result("video", VIDEO),)),
        ),
        (
            {"status": "failed", "outputs": [COVER, SONG]},
            Update(
                state=State.FAILED,
                external_id="t1",
                failure=Failure("unknown"),
                results=(Result("audio", SONG), Result("image", COVER, role="cover")),
            ),
        ),
    ],
)
def test_status_word_maps_to_a_state(said, update):
    assert read(**said) == update


@pytest.mark.parametrize(
    ("outputs", "results"),
    [
        ([COVER, SONG], [("audio", SONG, "result"), ("image", COVER, "cover")]),
        ([COVER, VIDEO], [("video", VIDEO, "result"), ("image", COVER, "cover")]),
        ([SONG, VIDEO], [("audio", SONG, "result"), ("video", VIDEO, "result")]),
        ([COVER, COVER + "?2"], [("image", COVER, "result"), ("image", COVER + "?2", "result")]),
        ([COVER], [("image", COVER, "result")]),
        ([VIDEO + "?sign=a.png"], [("video", VIDEO + "?sign=a.png", "result")]),
        (["https://x.test/no-extension"], [("video", "https://x.test/no-extension", "result")]),
        (SONG, [("audio", SONG, "result")]),
    ],
)
def test_mixed_outputs_are_distinguished_by_type(outputs, results):
    found = read(status="completed", outputs=outputs).results
    assert [(result.kind, result.url, result.role) for result in found] == results


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ("Content policy violation detected", Failure("content_policy", "Content policy violation detected")),
        ({"message": "generation timed out"}, Failure("provider_timeout", "generation timed out", retryable=True)),
        ({"code": "server_error", "message": "it broke"}, Failure("provider_error", "it broke", retryable=True)),
        ({"code": "quota_not_enough"}, Failure("insufficient_credit", "quota_not_enough")),
        ({}, Failure("unknown")),
        (None, Failure("unknown")),
        ([], Failure("unknown")),
    ],
)
def test_error_may_be_a_text_or_an_object(error, failure):
    assert read(status="failed", error=error).failure == failure


REFUSALS = [
    # status, body, submit, poll
    (401, {"error": {"message": "Invalid Token", "type": "rix_api_error"}}, *["account/unauthorized"] * 2),
    (400, {"error": {"message": "model is required", "code": "invalid_request"}}, *["refused/invalid_input"] * 2),
    (404, {"error": {"message": "task not found"}}, "refused/not_found", "not_found/not_found"),
    (400, {"error": {"message": "task_not_exist", "code": "task_not_exist"}}, "refused/not_found", "not_found/not_found"),
    (404, {"error": {"message": "Invalid URL (POST /v1/task/submit)"}}, *["account/not_found"] * 2),
    (429, {"error": {"message": "too many"}}, *["unavailable/rate_limited"] * 2),
    (502, "<html>", "uncertain/provider_error", "unavailable/provider_error"),
    (200, "<html>", "uncertain/unreadable", "unreadable/unreadable"),
    (200, {"status": "queued", "created_at": 1}, "uncertain/unreadable", "unreadable/unreadable"),
    (200, {"id": "", "status": "queued"}, "uncertain/unreadable", "unreadable/unreadable"),
    (200, {"error": {"message": "invalid", "code": "invalid_request"}}, "refused/invalid_input", "unavailable/invalid_input"),
    (500, {"id": "t1", "status": "queued"}, "uncertain/provider_error", "unavailable/provider_error"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "submit", "poll"), REFUSALS)
def test_answer_without_a_task_is_classified(status, body, submit, poll):
    for hear, expected in ((ELK.read_created, submit), (ELK.read_status, poll)):
        with pytest.raises(UpstreamError) as caught:
            hear(reply(body, status))
        assert f"{caught.value.outcome}/{caught.value.code}" == expected


def test_answer_with_an_id_means_that_the_job_may_exist():
    assert ELK.read_created(reply({"id": "t1"})) == Update(state=State.SUBMITTED, external_id="t1")
    assert ELK.read_created(reply({"id": 7, "status": "paused"}, 201)).external_id == "7"
    failed = ELK.read_created(reply({"id": "t1", "status": "failed", "error": "blocked"}))
    assert (failed.state, failed.failure) == (State.FAILED, Failure("content_policy", "blocked"))


@pytest.mark.parametrize("body", [{}, None, [], {"id": "t1"}, {"status": "completed", "outputs": [VIDEO]}, "pong"])
def test_callback_without_a_task_is_unreadable(body):
    with pytest.raises(UpstreamError) as caught:
        ELK.read_callback(Callback({}, json.dumps(body).encode()))
    assert caught.value.outcome == "unreadable"


# Requests --------------------------------------------------------------------------------------------------------

SHOT = {"prompt": "A cat playing piano", "aspect_ratio": "16:9"}


def test_request_matches_the_recording():
    """ElkAPI's page shows a model of Kling that expects the duration as a text. The client sets it by `options`."""
    recorded = MESSAGES["submit_request.kling-v3"]
    wanted = task("runway", "text_to_video", {**SHOT, "model": "kling-v3/text-to-video"}, {"input": {"duration": "5"}})
    call = ELK.create(wanted, HOOK)
    assert f"{call.method} {call.path}" == recorded["endpoint"]
    assert call.json == recorded["body"]
    assert ELK.validate(wanted) == []


def test_unknown_model_must_be_named_by_the_client():
    wanted = task("runway", "text_to_video", SHOT)
    assert [mistake.path for mistake in ELK.validate(wanted)] == ["input.model"]
    assert "model" not in ELK.create(wanted, HOOK).json
    named = task("runway", "text_to_video", SHOT, {"model": "runway/gen-5"})
    assert ELK.validate(named) == []
    assert ELK.create(named, None).json == {"model": "runway/gen-5", "input": SHOT}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"prompt": "a dove"}, {"gpt_description_prompt": "a dove", "custom": False, "instrumental": False}),
        (
            {"prompt": "a dove", "instrumental": True, "model": "chirp-crow"},
            {"gpt_description_prompt": "a dove", "custom": False, "instrumental": True, "mv": "chirp-crow"},
        ),
        (
            {"lyrics": "la la", "style": "folk", "title": "Homing", "negative_prompt": "metal"},
            {"prompt": "la la", "tags": "folk", "title": "Homing", "negative_tags": "metal", "custom": True, "instrumental": False},
        ),
        ({"style": "ambient", "instrumental": True}, {"tags": "ambient", "custom": True, "instrumental": True}),
    ],
)  # fmt: skip
def test_song_is_sent_in_the_vendors_fields(given, sent):
    wanted = task("suno", "music", given)
    assert ELK.validate(wanted) == []
    assert ELK.create(wanted, HOOK).json == {"model": "suno/music", "input": sent, "callback_url": HOOK}


def test_song_may_name_a_model():
    wanted = task("suno", "music", {"prompt": "a dove", "model": "chirp-crow"}, {"model": "suno/music-5"})
    body = ELK.create(wanted, HOOK).json
    assert (body["model"], body["input"]["mv"]) == ("suno/music-5", "chirp-crow")


@pytest.mark.parametrize(
    ("given", "options", "mistakes"),
    [
        ({}, {}, ["input.prompt"]),
        ({"title": "Homing"}, {}, ["input.prompt"]),
        ({}, {"input": {"tags": "folk"}}, []),
        ({"prompt": "a dove", "vocal_gender": "f"}, {}, ["input.vocal_gender"]),
        ({"prompt": "a dove", "weirdness": 0.2, "style_weight": 1}, {}, ["input.weirdness", "input.style_weight"]),
        ({"prompt": "a dove"}, {"model": None}, ["input.model"]),
    ],
)
def test_unsupported_song_fields_are_rejected(given, options, mistakes):
    assert [mistake.path for mistake in ELK.validate(task("suno", "music", given, options))] == mistakes


def test_options_override_fields_inside_the_input():
    options = {"model": "runway/gen-5", "input": {"prompt": "A dog", "promptText": "A dog"}, "priority": 1}
    body = ELK.create(task("runway", "text_to_video", {**SHOT, "model": "runway/gen-4"}, options), HOOK).json
    assert body == {
        "model": "runway/gen-5",
        "input": {"prompt": "A dog", "promptText": "A dog", "aspect_ratio": "16:9"},
        "callback_url": HOOK,
        "priority": 1,
    }


def test_poll_escapes_the_task_id():
    wanted = task("runway", "text_to_video", SHOT, external_id="a/b?c")
    assert ELK.query(wanted) == Call(method="GET", path="/v1/task/a%2Fb%3Fc")


URL = "https://x.test/a.png"


@pytest.mark.parametrize(
    ("family", "operation", "given", "model", "sent"),
    [
        (
            "kling",
            "text_to_video",
            {"prompt": "a fox", "duration": 5, "aspect_ratio": "16:9"},
            "kling-v3/text-to-video",
            {"prompt": "a fox", "duration": "5", "aspect_ratio": "16:9"},
        ),
        (
            "luma",
            "image_to_video",
            {"prompt": "a fox", "image": URL, "duration": 5, "resolution": "720p"},
            "luma-ray-2",
            {
                "prompt": "a fox",
                "keyframes": {"frame0": {"type": "image", "url": URL}},
                "duration": "5s",
                "resolution": "720p",
            },
        ),
        (
            "minimax",
            "image_to_video",
            {"prompt": "a fox", "image": URL, "duration": 6.0},
            "minimax-video-01",
            {"prompt": "a fox", "first_frame_image": URL, "duration": 6},
        ),
        (
            "vidu",
            "image_to_video",
            {"prompt": "a fox", "image": URL, "last_image": URL, "duration": 4},
            "vidu-2.0",
            {"prompt": "a fox", "images": [URL, URL], "duration": 4},
        ),
        (
            "seedance",
            "image_to_video",
            {"prompt": "a fox", "image": URL, "duration": 5, "aspect_ratio": "16:9"},
            "doubao-seedance-1-0-pro",
            {
                "content": [
                    {"type": "text", "text": "a fox"},
                    {"type": "image_url", "image_url": {"url": URL}, "role": "first_frame"},
                ],
                "duration": 5,
                "ratio": "16:9",
            },
        ),
    ],
)
def test_input_of_a_known_family_is_sent_in_the_vendors_fields(family, operation, given, model, sent):
    wanted = task(family, operation, given)
    assert ELK.validate(wanted) == []
    assert ELK.create(wanted, HOOK).json == {"model": model, "input": sent, "callback_url": HOOK}


@pytest.mark.parametrize(
    ("family", "operation"),
    [
        (family, each.name)
        for family in ("kling", "minimax", "vidu", "wan", "jimeng", "flux", "suno", "any")
        for each in FAMILIES[family].operations.values()
        if ELK.offers(family, each.name)
    ],
)
def test_example_of_a_family_is_taken_and_names_a_model(family, operation):
    example = FAMILIES[family].operations[operation].input["examples"][0]
    wanted = task(family, operation, example)
    assert ELK.validate(wanted) == []
    assert ELK.create(wanted, None).json["model"]


def test_model_that_a_client_names_replaces_the_default():
    assert ELK.create(task("kling", "text_to_video", {"model": "kling-v9", "prompt": "x"}), None).json == {
        "model": "kling-v9",
        "input": {"prompt": "x"},
    }


@pytest.mark.parametrize(
    "name", ["kling-v3", "doubao-seedance", "jimeng-v2", "luma-ray-2", "minimax-video-01", "vidu-2.0", "wanx-v2"]
)
def test_any_model_gets_its_input_as_it_is(name):
    recorded = MESSAGES[f"submit_request.{name}"]["body"]
    wanted = task("any", "run", {"model": recorded["model"], "input": recorded["input"]})
    assert ELK.validate(wanted) == []
    assert ELK.create(wanted, recorded["callback_url"]).json == recorded


# Families --------------------------------------------------------------------------------------------------------


def test_elk_task_offers_operations_of_several_families():
    for family, operation in (
        ("any", "run"),
        ("suno", "music"),
        ("runway", "text_to_video"),
        ("kling", "text_to_video"),
    ):
        assert ELK.offers(family, operation)
    assert not ELK.offers("suno", "text_to_video")
    assert not ELK.offers("runway", "music")
    assert [mistake.path for mistake in ELK.validate(task("runway", "music", {}))] == ["operation"]


def test_follow_ups_are_not_offered():
    """The outputs are URLs. A follow-up without its parent would buy something else."""
    served = [
        each for known in FAMILIES.values() for each in known.operations.values() if ELK.offers(known.name, each.name)
    ]
    assert {operation.parent for operation in served} <= {None, "optional"}
    assert not ELK.offers("any", "remix")


def test_any_model_is_run_by_elk_task_at_elkapi():
    dialects = PROVIDERS["elkapi"].dialects
    assert next(name for name in dialects if DIALECTS[name].offers("any", "run")) == "any/elk-task"
    assert [name for name, each in PROVIDERS.items() if "any/elk-task" in each.dialects] == ["elkapi"]
    assert isinstance(DIALECTS["any/elk-task"], ElkTask)
