"""The requests of other APIs as requests of ours, and tasks in the forms of other APIs: pure functions over data."""

import dataclasses
from typing import Any

import pytest

from service.domain.task import Failure, Result, State, Task
from service.web.facades import elkapi, newapi_video, runwayml
from service.web.facades.body import _nested
from service.web.facades.models import Target, families_of, seconds_of, shape_of
from service.web.facades.openai import chat, images, videos
from service.web.facades.openai.errors import error_document
from service.web.facades.outcome import succeeded
from service.web.facades.replicate import predictions
from service.web.facades.uploads import with_uploads
from service.web.problems import Problem
from tests.support.operations import task as example

UPLOAD = "upl_aghltqmk3nzhfd5a2sywqjfxqm"
SORA = Target("openai", "text_to_video", "sora-2")
KLING = Target("kling", "text_to_video", "kling-v2")


@pytest.mark.parametrize(
    ("operation", "said", "given"),
    [
        ("text_to_video", {"promptText": "a", "ratio": "1280:720", "duration": 5}, {"prompt": "a", "aspect_ratio": "1280:720", "duration": 5}),
        ("image_to_video", {"promptImage": "https://e.com/a.png"}, {"image": "https://e.com/a.png"}),
        (
            "image_to_video",
            {"promptImage": [{"uri": "https://e.com/b.png", "position": "last"}, {"uri": "https://e.com/a.png", "position": "first"}]},
            {"image": "https://e.com/a.png", "last_image": "https://e.com/b.png"},
        ),
        ("video_to_video", {"videoUri": "https://e.com/a.mp4", "references": [{"type": "image", "uri": "u"}]}, {"video": "https://e.com/a.mp4", "reference_images": [{"url": "u"}]}),
        ("text_to_image", {"referenceImages": [{"uri": "u", "tag": "t"}]}, {"reference_images": [{"url": "u", "tag": "t"}]}),
        (
            "character_performance",
            {"character": {"type": "image", "uri": "u"}, "reference": {"type": "video", "uri": "v"}, "bodyControl": True},
            {"image": "u", "video": "v", "body_control": True},
        ),
        ("character_performance", {"character": {"type": "video", "uri": "u"}}, {"character_video": "u"}),
        ("text_to_speech", {"promptText": "a", "voice": {"type": "runway-preset", "presetId": "Maya"}}, {"prompt": "a", "voice": "Maya"}),
        ("speech_to_speech", {"media": {"type": "audio", "uri": "u"}}, {"audio": "u"}),
        ("image_to_video", {"promptImage": f"runway://{UPLOAD}"}, {"image": {"upload": UPLOAD}}),
        ("video_upscale", {"videoUri": "v", "resolution": None}, {"video": "v"}),
    ],
)  # fmt: skip
def test_request_of_runway_in_our_names(operation: str, said: dict[str, Any], given: dict[str, Any]) -> None:
    asked = runwayml.request_of(operation, said)
    assert (asked["family"], asked["operation"], asked["input"], asked["options"]) == ("runway", operation, given, {})


@pytest.mark.parametrize(
    "odd", [{"promptImage": 5}, {"voice": {"type": "x"}}, {"contentModeration": {"x": 1}}, {"keyframes": "x"}]
)
def test_field_of_runway_without_a_name_of_ours_goes_to_the_provider(odd: dict[str, Any]) -> None:
    assert runwayml.request_of("image_to_video", odd)["options"] == odd


@pytest.mark.parametrize(
    ("model", "families", "named"),
    [
        ("sora-2", ("openai", "sora"), "sora-2"),
        ("kling-v2", ("kling",), "kling-v2"),
        ("kling", ("kling",), None),
        ("kling/kling-v2", ("kling",), "kling-v2"),
        ("Veo3-fast", ("veo",), "Veo3-fast"),
        ("an-unknown-model", (), "an-unknown-model"),
        ("", (), None),
    ],
)
def test_model_names_its_family(model: str, families: tuple[str, ...], named: str | None) -> None:
    assert families_of(model) == (families, named)


@pytest.mark.parametrize(
    ("size", "shape"),
    [("1280x720", ("16:9", "720p")), ("720x1280", ("9:16", "720p")), ("1024x1024", ("1:1", None)), ("auto", (None, None)), (None, (None, None)), ("16x9", (None, None)), (5, (None, None))],
)  # fmt: skip
def test_size_is_read_as_shape_and_resolution(size: Any, shape: tuple[str | None, str | None]) -> None:
    assert shape_of(size) == shape


@pytest.mark.parametrize(
    ("written", "seconds"), [("8", 8), ("8s", 8), (5, 5), ("2.5", 2.5), ("x", None), (True, None), (None, None)]
)
def test_duration_is_read(written: Any, seconds: float | None) -> None:
    assert seconds_of(written) == seconds


def test_video_of_openai_goes_to_its_own_family_with_all_fields() -> None:
    said = {"model": "sora-2", "prompt": "a", "seconds": "8", "size": "1280x720", "quality": "high"}
    asked = videos.request_of(SORA, said)
    assert asked["input"] == {"prompt": "a", "duration": 8, "model": "sora-2"}
    assert asked["options"] == {"size": "1280x720", "quality": "high"}


@pytest.mark.parametrize(
    "reference",
    ["https://e.com/a.png", {"image_url": "https://e.com/a.png"}, {"image_url": {"url": "https://e.com/a.png"}}],
    ids=str,
)
def test_first_picture_of_a_video_is_found(reference: Any) -> None:
    assert videos.image_of({"input_reference": reference}) == "https://e.com/a.png"
    assert videos.image_of({"image": reference}) == "https://e.com/a.png"


def test_video_of_another_family_has_its_fields_only() -> None:
    said = {
        "model": "kling-v2",
        "prompt": "a",
        "seconds": "5",
        "size": "1280x720",
        "metadata": {"negative_prompt": "x", "odd": 1},
    }
    asked = videos.request_of(KLING, said)
    assert asked == {
        "family": "kling",
        "operation": "text_to_video",
        "input": {"negative_prompt": "x", "prompt": "a", "duration": 5, "aspect_ratio": "16:9", "resolution": "720p", "model": "kling-v2"},
    }  # fmt: skip


def test_any_model_gets_the_fields_as_they_are() -> None:
    asked = videos.request_of(
        Target("any", "run", "odd-1"), {"model": "odd-1", "prompt": "a", "size": "1x1", "metadata": {"x": 1}}
    )
    assert asked["input"] == {"model": "odd-1", "input": {"prompt": "a", "size": "1x1", "metadata": {"x": 1}}}


def test_pictures_to_edit_are_one_or_several() -> None:
    target = Target("openai", "image_to_image", "gpt-image-2")
    one = images.request_of(
        target, {"prompt": "a", "image": "data:image/png;base64,AA", "n": "2", "response_format": "url"}
    )
    assert one["input"] == {"prompt": "a", "model": "gpt-image-2", "image": "data:image/png;base64,AA", "count": 2}
    two = images.request_of(target, {"prompt": "a", "image": ["data:,a", "data:,b"], "size": "1024x1024"})
    assert (two["input"]["images"], two["options"]) == (["data:,a", "data:,b"], {"size": "1024x1024"})


def test_chat_with_what_a_task_does_not_keep_is_refused() -> None:
    for name in ("tools", "functions", "logprobs"):
        with pytest.raises(Problem, match=name):
            chat.request_of(Target("openai", "chat", "m"), {"messages": [], name: [{}]})


def test_system_message_of_a_chat_is_where_anthropic_has_it() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    asked = chat.request_of(Target("anthropic", "chat", "claude-5"), {"messages": messages, "max_tokens": 5})
    assert asked["input"] == {"messages": [{"role": "user", "content": "hi"}], "model": "claude-5"}
    assert asked["options"] == {"max_tokens": 5, "system": "Be brief."}


@pytest.mark.parametrize(
    ("named", "said", "expected"),
    [
        ({"model": "acme/x"}, {"input": {"a": 1}}, {"model": "acme/x", "input": {"a": 1}}),
        ({}, {"version": "acme/x:v", "input": {}}, {"model": "acme/x:v", "input": {}}),
        ({"deployment": "acme/d"}, {"input": {}}, {"deployment": "acme/d", "input": {}}),
        ({"model": "acme/x"}, {"input": {"image": f"https://d.example/replicate/v1/files/{UPLOAD}"}}, {"model": "acme/x", "input": {"image": {"upload": UPLOAD}}}),
    ],
)  # fmt: skip
def test_prediction_names_its_model(named: dict[str, str], said: dict[str, Any], expected: dict[str, Any]) -> None:
    assert predictions.request_of(named, said)["input"] == expected


@pytest.mark.parametrize(
    ("wanted", "events"),
    [
        (["completed"], ["task.succeeded", "task.failed", "task.cancelled", "task.expired", "task.late_result"]),
        (["start"], ["task.running"]),
        (["logs", "output"], ["task.progress"]),
    ],
    ids=str,
)
def test_filter_of_webhooks_chooses_the_types(wanted: list[str], events: list[str]) -> None:
    asked = predictions.request_of({}, {"input": {}, "webhook": "https://e.com", "webhook_events_filter": wanted})
    assert (set(asked["callback_events"]), asked["callback_format"]) == (set(events), "replicate")


def test_address_of_an_upload_is_replaced_at_any_depth_and_nowhere_else() -> None:
    document = {"a": [{"b": f"runway://{UPLOAD}"}], "c": f"see runway://{UPLOAD}", "d": "runway://other"}
    found = with_uploads(document, runwayml._UPLOADED)
    assert found == {**document, "a": [{"b": {"upload": UPLOAD}}]}


@pytest.mark.parametrize(
    ("pairs", "fields"),
    [
        ([("a", "1"), ("b", "2")], {"a": "1", "b": "2"}),
        ([("a[b]", "1"), ("a[c][d]", "2")], {"a": {"b": "1", "c": {"d": "2"}}}),
        ([("a[]", "1")], {"a": ["1"]}),
        ([("a", "1"), ("a", "2"), ("a", "3")], {"a": ["1", "2", "3"]}),
        ([("a", "1"), ("a[b]", "2")], {"a": {"": "1", "b": "2"}}),
        ([("a[", "1"), ("]", "2")], {"a[": "1", "]": "2"}),
    ],
)
def test_names_of_a_form_are_nested(pairs: list[tuple[str, str]], fields: dict[str, Any]) -> None:
    assert _nested(pairs) == fields


# Tasks in the forms of other APIs ----------------------------------------------------------------------------------


def task_in(state: State, **more: Any) -> Task:
    made = example("runway/official", "runway text_to_video")
    ended = made.created_at if state.ended else None
    return dataclasses.replace(made, state=state, finished_at=ended, **more)


DONE = task_in(State.SUCCEEDED, results=(Result("video", "https://e.com/a.mp4"), Result("image", "u", role="cover")))
FAILED = task_in(State.FAILED, failure=Failure("content_policy", "blocked"))


@pytest.mark.parametrize("state", list(State))
def test_every_state_has_a_word_at_every_door(state: State) -> None:
    task = task_in(state, failure=Failure("unknown") if state is State.FAILED else None)
    assert runwayml.task_document(task)["status"] in {"PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"}
    assert videos.video_document(task)["status"] in {"queued", "in_progress", "completed", "failed"}
    assert elkapi.task_document(task)["status"] in {"queued", "in_progress", "completed", "failed"}
    shown = newapi_video.task_document(task)
    assert shown["data"]["status"] in {"QUEUED", "IN_PROGRESS", "SUCCESS", "FAILURE"}
    if state.ended:
        assert shown["data"]["progress"] == "100%"


def test_outputs_are_shown_without_covers() -> None:
    assert runwayml.task_document(DONE)["output"] == ["https://e.com/a.mp4"]
    assert elkapi.task_document(DONE)["outputs"] == ["https://e.com/a.mp4"]
    assert videos.video_document(DONE)["metadata"] == {"url": "https://e.com/a.mp4"}
    assert newapi_video.task_document(DONE)["url"] == "https://e.com/a.mp4"


def test_failure_is_shown_in_the_words_of_each_api() -> None:
    assert runwayml.task_document(FAILED)["failureCode"] == "SAFETY"
    assert elkapi.task_document(FAILED)["error"] == "blocked"
    assert videos.video_document(FAILED)["error"] == {"code": "moderation_blocked", "message": "blocked"}
    assert newapi_video.task_document(FAILED)["data"]["fail_reason"] == "blocked"


def test_expired_task_is_a_failure_that_says_so() -> None:
    expired = task_in(State.EXPIRED)
    assert runwayml.task_document(expired)["failure"] == "the task is expired"
    assert videos.video_document(expired)["status"] == "failed"


@pytest.mark.parametrize(
    ("task", "status", "code"),
    [
        (FAILED, 400, "content_policy"),
        (task_in(State.FAILED, failure=Failure("provider_error", "x")), 500, "provider_error"),
        (task_in(State.FAILED, failure=Failure("insufficient_credit", "x")), 429, "insufficient_credit"),
        (task_in(State.EXPIRED), 504, "provider_timeout"),
        (task_in(State.CANCELLED), 400, "cancelled"),
        (task_in(State.RUNNING), 504, "provider_timeout"),
    ],
    ids=lambda each: str(getattr(each, "state", each)),
)
def test_held_request_without_a_result_gets_a_final_error(task: Task, status: int, code: str) -> None:
    with pytest.raises(Problem) as raised:
        succeeded(task)
    assert (raised.value.status, raised.value.code) == (status, code)
    assert raised.value.headers["x-should-retry"] == "false"
    assert error_document(raised.value)["error"].keys() == {"message", "type", "param", "code"}


def test_callbacks_of_elkapi_come_at_every_change_in_its_form() -> None:
    said = {"model": "m", "input": {"prompt": "a"}, "callback_url": "https://e.com/hook"}
    asked = elkapi.request_of(Target("any", "run", "m"), said)
    assert asked["callback_format"] == "elkapi"
    assert {"task.submitted", "task.running", "task.succeeded"} <= set(asked["callback_events"])
