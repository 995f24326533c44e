"""The video API of new-api gateways: every shape of a task, requests, and inputs that are refused."""

import datetime as dt
import json
from pathlib import Path
from uuid import UUID

import pytest

from service.cli.explain import explain
from service.domain.errors import NotFound, Uncertain, Unreadable, UpstreamError
from service.domain.task import Failure, State, Task
from service.providers.newapi.video import is_task, read_task, video_failure
from service.providers.newapi_video import NewApiVideo
from service.providers.wire import Callback, Reply

RECORDINGS = Path(__file__).parents[1] / "recordings" / "any" / "newapi-video"
MESSAGES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RECORDINGS.glob("*.json"))}
NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
HOOK = "https://dovecote.example/callbacks/token"
URL, OTHER = "https://x.test/v.mp4", "https://x.test/other.mp4"
VIDEO = NewApiVideo()


def task(operation, given, family="any", **more):
    times = dict.fromkeys(("created_at", "updated_at", "deadline_at"), NOW)
    return Task(id=UUID(int=1), client="c", family=family, operation=operation, input=given, **times, **more)


def reply(body, status=200):
    return Reply(status, {}, json.dumps(body).encode())


@pytest.mark.parametrize("name", [name for name, message in MESSAGES.items() if "reading" in message])
def test_recording_gets_its_reading(name):
    found, wanted = explain(MESSAGES[name]), MESSAGES[name]["reading"]
    assert {**found, "message": wanted.get("message")} == {**wanted, "message": wanted.get("message")}


# Outputs ---------------------------------------------------------------------------------------------------------

DONE = {"task_id": "t1", "status": "SUCCESS"}


@pytest.mark.parametrize(
    ("said", "url"),
    [
        ({**DONE, "metadata": {"url": URL}, "url": OTHER}, URL),
        ({**DONE, "video_url": URL, "result_url": OTHER}, URL),
        ({**DONE, "result_url": URL, "fail_reason": OTHER}, URL),
        ({**DONE, "fail_reason": URL}, URL),
        ({**DONE, "fail_reason": "306793063383292", "data": {"file": {"download_url": URL}}}, URL),
        ({**DONE, "data": {"task_result": {"videos": [{"id": "1", "url": URL}]}}}, URL),
        ({**DONE, "data": json.dumps({"content": {"video_url": URL}})}, URL),
        ({**DONE, "data": {"creations": [{"url": URL, "cover_url": OTHER}]}}, URL),
        ({**DONE, "data": {"output": {"task_status": "SUCCEEDED", "video_url": URL}}}, URL),
        ({**DONE, "data": {"status": "done", "video": {"url": URL}}}, URL),
        ({**DONE, "data": {"data": {"video_url": URL}}}, URL),
    ],
    ids=[
        "metadata",
        "video-url",
        "result-url",
        "reason",
        "file",
        "kling",
        "json-text",
        "vidu",
        "wan",
        "grok",
        "deeper",
    ],
)
def test_output_is_found_where_gateways_and_vendors_put_it(said, url):
    for document in (said, {"code": "success", "message": "", "data": said}):
        update = read_task(document)
        assert (update.state, [each.url for each in update.results]) == (State.SUCCEEDED, [url])


@pytest.mark.parametrize(
    "said",
    [
        DONE,
        {**DONE, "fail_reason": "306793063383292"},
        {**DONE, "result_url": "task failed"},
        {"task_id": "t1", "status": "IN_PROGRESS", "result_url": URL, "progress": "100%"},
    ],
    ids=["nothing", "file-id", "text", "still-running"],
)
def test_nothing_is_settled_without_an_output_or_a_word(said):
    assert read_task({"code": "success", "data": said}).state in {None, State.RUNNING}


def test_video_object_without_a_url_has_its_file_below_its_own_path():
    update = VIDEO.read_status(reply({"id": "sora-2:task_1", "object": "video", "status": "completed"}))
    assert [each.url for each in update.results] == ["/v1/videos/sora-2:task_1/content"]


# Failures --------------------------------------------------------------------------------------------------------

FAILED = {"task_id": "t1", "status": "FAILURE"}


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        ({**FAILED, "fail_reason": "task timeout"}, ("provider_timeout", "task timeout")),
        ({**FAILED, "fail_reason": URL}, ("provider_error", None)),
        ({**FAILED, "data": {"status": "expired"}}, ("provider_timeout", None)),
        (
            {
                **FAILED,
                "fail_reason": "task failed",
                "data": {"base_resp": {"status_code": 1, "status_msg": "sensitive"}},
            },
            ("content_policy", "sensitive"),
        ),
        (
            {**FAILED, "fail_reason": json.dumps({"error": {"code": "InvalidParameter", "message": "no ratio"}})},
            ("invalid_input", "no ratio"),
        ),
        ({**FAILED, "error": "the input was rejected"}, ("content_policy", "the input was rejected")),
        ({**FAILED, "task_status_msg": "generation failed"}, ("provider_error", "generation failed")),
    ],
    ids=["text", "url-is-no-reason", "inner-word", "inner-reason", "json-in-a-text", "rejected", "kling"],
)
def test_failure_has_the_innermost_reason(said, failure):
    found = read_task({"code": "success", "data": said}).failure
    assert (found.code, found.message) == failure


@pytest.mark.parametrize(
    ("text", "code", "found"),
    [
        (None, None, "provider_error"),
        ("TaskPromptPolicyViolation", None, "content_policy"),
        ("no", "AuditSubmitIllegal_sensitive", "content_policy"),
        ("invalid ratio", None, "invalid_input"),
        ("invalid character '<' looking for beginning of value", None, "provider_error"),
        ("connection rejected", None, "provider_error"),
    ],
)
def test_reason_of_a_video_is_classified(text, code, found):
    assert video_failure(text, code).code == found


def test_cancelled_job_is_cancelled():
    assert read_task({"id": "1", "status": "canceled", "error": {"message": "by user"}}).failure == Failure(
        "cancelled", "by user"
    )


# Other documents --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        {"code": "task_not_exist", "message": "task_not_exist", "data": None},
        {"code": "success", "data": None},
        {"status": "ok"},
        {"task_id": "1", "status": "not_found"},
        {"error": {"message": "x"}},
    ],
)
def test_document_without_a_task_is_none(document):
    assert not is_task(document)
    with pytest.raises(UpstreamError):
        VIDEO.read_status(reply(document))
    with pytest.raises(Unreadable):
        VIDEO.read_callback(Callback({}, json.dumps(document).encode()))


@pytest.mark.parametrize(
    ("body", "job"),
    [
        ({"task_id": "t1"}, "t1"),
        ({"code": "success", "message": "", "data": "t1"}, "t1"),
        ({"code": 1, "data": {"task_id": "t1"}}, "t1"),
        ({"id": "v1", "task_id": "t1", "status": "completed"}, "t1"),
    ],
    ids=["id-alone", "data-alone", "wrapped", "done-without-a-url"],
)
def test_accepted_job_is_queued_where_the_answer_has_no_word(body, job):
    update = VIDEO.read_created(reply(body))
    assert (update.state, update.external_id) == (State.SUBMITTED, job)


def test_refusal_that_names_a_task_buys_nothing_known():
    with pytest.raises(Uncertain):
        VIDEO.read_created(reply({"code": 503, "message": "busy", "data": {"task_id": "t1"}}))
    with pytest.raises(Uncertain):
        VIDEO.read_created(reply({"code": "fail_to_fetch_task", "message": "busy", "data": {"task_id": "t1"}}))
    with pytest.raises(NotFound):
        VIDEO.read_status(reply({"code": "task_not_exist"}, 400))


# Requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["elk-seedance-generations", "kling-generations", "vidu-start-end", "videos-comet-veo"]
)
def test_any_model_gets_its_body_as_it_is(name):
    recorded = MESSAGES[f"submit_request.{name}"]["body"]
    given = {"model": recorded["model"], "input": {key: value for key, value in recorded.items() if key != "model"}}
    call = VIDEO.create(task("run", given), None)
    assert (call.endpoint, call.json) == ("POST /v1/videos", recorded)


def test_callback_url_is_left_out_where_the_channel_refuses_it():
    for model, sent in (("MiniMax-H3", False), ("minimax-h3-max", False), ("MiniMax-Hailuo-02", True)):
        body = VIDEO.create(task("run", {"model": model, "input": {"prompt": "x"}}), HOOK).json
        assert ("callback_url" in body) is sent


def test_callback_url_in_the_input_is_refused():
    given = {"model": "m", "input": {"callback_url": "https://evil.example/"}}
    assert [mistake.path for mistake in VIDEO.validate(task("run", given))] == ["input.input.callback_url"]


def test_remix_names_its_parent_in_the_path():
    wanted = task("remix", {"prompt": "at night"}, inherited={"external_id": "sora-2:task/1"}, external_id="t2")
    call = VIDEO.create(wanted, None)
    assert (call.endpoint, call.json) == ("POST /v1/videos/sora-2%3Atask%2F1/remix", {"prompt": "at night"})
    assert VIDEO.facts.creates(call.endpoint)
    assert VIDEO.query(wanted).endpoint == "GET /v1/videos/t2"
