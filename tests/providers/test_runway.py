"""Runway: readings of every recording, requests of every task, and inputs that are refused."""

import datetime as dt
import json
from pathlib import Path
from uuid import UUID

import pytest

from service.cli.explain import explain
from service.domain.errors import NotFound, Unavailable, UpstreamError
from service.domain.task import Result, State, Task, Update
from service.domain.validation import Schema
from service.providers.capabilities import CanCancel, CanTellBalance
from service.providers.runway.family import FAMILY
from service.providers.runway.gateway import Aggregator, AggregatorOfficial
from service.providers.runway.native import MODELS
from service.providers.runway.official import Official
from service.providers.wire import Balance, Call, Callback, Reply

RECORDINGS = Path(__file__).parents[1] / "recordings" / "runway"
MESSAGES = {
    f"{path.parent.name}/{path.stem}": json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(RECORDINGS.rglob("*.json"))
}
DIALECTS = {"aggregator": Aggregator(), "aggregator-official": AggregatorOfficial(), "official": Official()}
NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
HOOK = "http://baidu.com"
VIDEO = "https://cdn.example.com/a.mp4"
HTML = "<!doctype html><title>Not here</title>"
MOVED = "HTTP 301: base_url redirects to another path; check base_url"
NO_NEWS = {"progress": None, "results": [], "failure": None}


def page(status):
    """Return the recording of the page."""
    return f"HTTP {status}, an HTML page: Not here"


def task(operation="text_to_video", given=None, options=None, **more):
    return Task(
        id=UUID(int=1),
        client="c",
        family="runway",
        operation=operation,
        input=given or {},
        options=options or {},
        created_at=NOW,
        updated_at=NOW,
        deadline_at=NOW,
        **more,
    )


def reply(body, status=200, **headers):
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return Reply(status, headers, raw)


def body_of(dialect, operation, given, options=None, hook=HOOK):
    return DIALECTS[dialect].create(task(operation, given, options), hook).json


# Readings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, message in MESSAGES.items() if "reading" in message])
def test_recording_gets_its_reading(name):
    assert explain(MESSAGES[name]) == MESSAGES[name]["reading"]


def record(**said):
    """Return the feed's record (shape A) with some fields changed."""
    blank = dict.fromkeys(("prompt_en", "video_url", "poster", "last_frame", "msg"))
    times = {"point": "320", "refund": "0", "create_time": "1728622596", "update_time": "1728622700"}
    return {"task_id": "t1", "status": "1", "prompt": "a cat", **blank, **times, **said}


def wrapped(inner=None, **said):
    """Return the gateway's task record (shape B) in its envelope."""
    times = {"submit_time": 1773366766, "start_time": 0, "finish_time": 0}
    data = {"task_id": "t1", "action": "generate", "status": "QUEUED", "fail_reason": "", **times, "progress": "0%"}
    return {"code": "success", "message": "", "data": {**data, "data": inner, **said}}


def feed(data, code=200):
    return {"code": code, "msg": "成功", "data": data, "exec_time": 0.02}


def news(state, **more):
    return {"state": state, "external_id": "t1", **NO_NEWS, **more}


def failure(code, message=None):
    return {"code": code, "message": message}


def own(status, job="t1", **more):
    return {"id": job, "status": status, "createdAt": "2026-05-01T12:47:47.351Z", **more}


POLLS = [
    # Shape A: the feed's numbers
    (feed(record(status="")), news("queued")),
    (feed(record(status="0")), news("queued")),
    (feed(record(status=0)), news("queued")),
    (feed(record(status="1")), news("running")),
    (feed(record(status=1)), news("running")),
    (feed(record(status="3", video_url=VIDEO)), news("succeeded", results=[VIDEO])),
    (feed(record(status=3, video_url=VIDEO)), news("succeeded", results=[VIDEO])),
    (feed(record(status="3")), news(None)),
    (feed(record(status="3", poster="https://x/p.png", raw_video_url=VIDEO)), news(None)),
    (feed(record(status="2", msg="moderation did not pass")), news("failed", failure=failure("content_policy", "moderation did not pass"))),
    (feed(record(status=2, msg="生成失败")), news("failed", failure=failure("provider_error", "生成失败"))),
    (feed(record(status="2", msg="任务超时")), news("failed", failure=failure("provider_timeout", "任务超时"))),
    (feed(record(status="2", msg=None)), news("failed", failure=failure("unknown"))),
    (feed(record(status="2", msg="")), news("failed", failure=failure("unknown"))),
    (feed(record(status="2", video_url=VIDEO)), news("succeeded", results=[VIDEO])),
    (feed(record(status="1", video_url=VIDEO)), news("succeeded", results=[VIDEO])),
    (feed(record(status="9", video_url=VIDEO)), news("succeeded", results=[VIDEO])),
    (feed(record(status="2", video_url="")), news("failed", failure=failure("unknown"))),
    (feed(record(status="4")), news(None)),
    (feed(record(status="-1")), news(None)),
    (feed(record(status=True)), news(None)),
    (feed(record(status=None)), news(None)),
    (feed({"task_id": "t1"}), news(None)),
    # … and their newer twin
    (feed(record(status="", state="")), news("queued")),
    (feed(record(status="", state="pending")), news("queued")),
    (feed(record(status="", state="running")), news("running")),
    (feed(record(status="", state="succeeded", video_url=VIDEO)), news("succeeded", results=[VIDEO])),
    (feed(record(status=None, state="success", video_url=VIDEO)), news("succeeded", results=[VIDEO])),
    (feed(record(status="", state="error", msg="busy")), news("failed", failure=failure("overloaded", "busy"))),
    (feed(record(status="", state="failed", msg="x")), news("failed", failure=failure("provider_error", "x"))),
    (feed(record(status="", state="strange")), news(None)),
    (feed(record(status="1", state="failed")), news("running")),
    (feed(record(status="0", state="succeeded")), news("queued")),
    (feed(record(status="error")), news(None)),
    # Shape B: the wrapper
    (wrapped(status="NOT_START"), news("queued", progress=0)),
    (wrapped(status="SUBMITTED", progress=""), news("queued")),
    (wrapped(status="IN_PROGRESS", progress="30%"), news("running", progress=30)),
    (wrapped(status="in_progress", progress=45), news("running", progress=45)),
    (wrapped(status="UNKNOWN"), news(None, progress=0)),
    (wrapped(status="WHATEVER"), news(None, progress=0)),
    (wrapped(status="SUCCESS", progress="100%", result_url=VIDEO), news("succeeded", progress=100, results=[VIDEO])),
    (wrapped(status="SUCCESS", progress="100%", fail_reason=VIDEO), news("succeeded", progress=100, results=[VIDEO])),
    (wrapped(status="SUCCESS", progress="100%", fail_reason="12345"), news(None, progress=100)),
    (wrapped(status="SUCCESS", progress="100%"), news(None, progress=100)),
    (wrapped(status="SUCCESS", inner=own("SUCCEEDED", output=[VIDEO, VIDEO + "2"]), progress="100%"), news("succeeded", progress=100, results=[VIDEO, VIDEO + "2"])),
    (wrapped(status="SUCCESS", inner={"video_url": VIDEO}, progress="100%"), news("succeeded", progress=100, results=[VIDEO])),
    (wrapped(status="SUCCESS", inner=own("RUNNING", output=[VIDEO]), result_url="https://x/b.mp4"), news("succeeded", progress=0, results=["https://x/b.mp4"])),
    (wrapped(status="FAILURE", progress="100%", fail_reason="task timeout", inner=own("RUNNING")), news("failed", progress=100, failure=failure("provider_timeout", "task timeout"))),
    (wrapped(status="FAILURE", fail_reason="内容审核不通过"), news("failed", progress=0, failure=failure("content_policy", "内容审核不通过"))),
    (wrapped(status="FAILURE", result_url="quota exceeded"), news("failed", progress=0, failure=failure("unknown"))),
    (wrapped(status="FAILURE", fail_reason="task failed", inner=own("FAILED", failure="No.", failureCode="SAFETY.INPUT.IMAGE")), news("failed", progress=0, failure=failure("content_policy", "No."))),
    (wrapped(status="FAILURE", inner=own("FAILED", failure="We are busy")), news("failed", progress=0, failure=failure("overloaded", "We are busy"))),
    (wrapped(status="FAILURE", inner=own("CANCELLED")), news("failed", progress=0, failure=failure("cancelled"))),
    (wrapped(status="IN_PROGRESS", inner=own("FAILED", failure="No.")), news("running", progress=0)),
    (wrapped(status="IN_PROGRESS", inner=own("SUCCEEDED", output=[VIDEO])), news("running", progress=0)),
    (wrapped(status="", inner=own("RUNNING")), news("queued", progress=0)),
    ({"code": "success", "data": {"status": "FAILURE", "fail_reason": "upstream timeout"}}, news("failed", external_id=None, failure=failure("provider_timeout", "upstream timeout"))),
    (wrapped(id=4711, status="IN_PROGRESS", inner=own("RUNNING", id="vendors")), news("running", progress=0)),
    # Shape C: flat
    ({"task_id": "t1"}, news(None)),
    ({"task_id": "t1", "status": "QUEUED", "progress": "5%"}, news("queued", progress=5)),
    ({"task_id": "t1", "status": "SUCCESS", "result_url": VIDEO}, news("succeeded", results=[VIDEO])),
    ({"task_id": "t1", "status": "FAILURE", "fail_reason": "余额不足", "result_url": "余额不足"}, news("failed", failure=failure("insufficient_credit", "余额不足"))),
    ({"task_id": "t1", "data": own("RUNNING", id="vendors", progress=0.5)}, news("running", progress=50)),
    ({"task_id": "t1", "status": "SUCCESS", "data": own("SUCCEEDED", id="vendors", output=[VIDEO])}, news("succeeded", results=[VIDEO])),
    # Shape D: Runway's own object, bare or in an envelope alone
    (own("PENDING"), news("queued")),
    (own("THROTTLED"), news("queued")),
    (own("RUNNING", progress=0.456), news("running", progress=46)),
    (own("SUCCEEDED", output=[VIDEO], progress=1), news("succeeded", progress=100, results=[VIDEO])),
    (own("SUCCEEDED", output=[]), news(None)),
    (own("SUCCEEDED"), news(None)),
    (own("FAILED", failure="Prompt was flagged"), news("failed", failure=failure("provider_error", "Prompt was flagged"))),
    (own("CANCELLED"), news("cancelled")),
    (own("ARCHIVED"), news(None)),
    ({"code": "success", "message": "", "data": own("RUNNING", progress=0.1)}, news("running", progress=10)),
    ({"code": 200, "data": own("SUCCEEDED", output=[VIDEO])}, news("succeeded", results=[VIDEO])),
]  # fmt: skip


@pytest.mark.parametrize("dialect", ["aggregator", "aggregator-official"])
@pytest.mark.parametrize(("body", "reading"), POLLS)
def test_every_poll_shape_is_read(dialect, body, reading):
    """Both protocols of the gateways may serve one task, so both are read alike."""
    message = {"family": "runway", "dialect": dialect, "kind": "poll_response", "http_status": 200, "body": body}
    assert explain(message) == reading


@pytest.mark.parametrize(("body", "reading"), POLLS)
def test_callback_is_read_like_the_same_poll(body, reading):
    """A callback is the bare record, or the record in an envelope."""
    message = {"family": "runway", "dialect": "aggregator", "kind": "callback", "body": body}
    assert explain(message) == reading
    if "code" in body:
        assert explain({**message, "body": body["data"]}) == reading


OFFICIAL = [
    (own("PENDING"), news("queued")),
    (own("THROTTLED"), news("queued")),
    (own("RUNNING", progress=0), news("running", progress=0)),
    (own("RUNNING"), news("running")),
    (own("RUNNING", progress="half"), news("running")),
    (own("SUCCEEDED", output=[VIDEO, "https://x/2.mp4"]), news("succeeded", results=[VIDEO, "https://x/2.mp4"])),
    (own("SUCCEEDED", output=None), news(None)),
    (own("CANCELLED", cost={"credits": 0}), news("cancelled")),
    (own("FAILED"), news("failed", failure=failure("provider_error"))),
    (own("PAUSED"), news(None)),
    (own("2"), news(None)),
    (own(3, output=[VIDEO]), news(None)),
    (own(""), news(None)),
    (own("FAILED", failureCode=None, failure="x"), news("failed", failure=failure("provider_error", "x"))),
    *(
        (own("FAILED", failureCode=stated, failure="x"), news("failed", failure=failure(code, "x")))
        for stated, code in (
            ("SAFETY.INPUT.TEXT", "content_policy"),
            ("SAFETY.INPUT.IMAGE", "content_policy"),
            ("SAFETY.OUTPUT.VIDEO", "content_policy"),
            ("INPUT_PREPROCESSING.SAFETY.TEXT", "content_policy"),
            ("ASSET.INVALID", "invalid_input"),
            ("INTERNAL.BAD_OUTPUT.CODE02", "provider_error"),
            ("INPUT_PREPROCESSING.INTERNAL", "provider_error"),
            ("THIRD_PARTY.UNAVAILABLE", "overloaded"),
            ("INTERNAL", "provider_error"),
            ("BRAND.NEW", "provider_error"),
        )
    ),
]


@pytest.mark.parametrize(("body", "reading"), OFFICIAL)
def test_official_task_object_is_read(body, reading):
    """The numeric statuses of the gateways have no meaning here."""
    message = {"family": "runway", "dialect": "official", "kind": "poll_response", "http_status": 200, "body": body}
    assert explain(message) == reading


@pytest.mark.parametrize(
    ("stated", "retryable"),
    [
        ("SAFETY.INPUT.TEXT", False),
        ("ASSET.INVALID", False),
        ("INTERNAL.BAD_OUTPUT.CODE01", True),
        ("INPUT_PREPROCESSING.INTERNAL", True),
        ("THIRD_PARTY.UNAVAILABLE", True),
        ("NEW", True),
        (None, True),
    ],
)
def test_failure_code_is_classified(stated, retryable):
    update = Official().read_status(reply(own("FAILED", failureCode=stated)))
    assert update.failure is not None
    assert update.failure.retryable is retryable


def no(error, code, message=None):
    return {"error": error, "code": code, "message": message}


def flat(code, message=None, **more):
    return {"code": code, "message": code if message is None else message, "data": None, **more}


SUBMIT, POLL = ("submit_response", "POST /runway/pro/generate"), ("poll_response", "POST /runway/feed")
ANSWERS = [
    # An accepted submit, in every shape
    (SUBMIT, 200, feed({"task_id": "t1"}), news("queued")),
    (SUBMIT, 200, {"code": "success", "message": "", "data": {"task_id": "t1"}}, news("queued")),
    (SUBMIT, 201, {"code": 200, "data": {"task_id": "t1"}}, news("queued")),
    (SUBMIT, 200, feed(record(state="", status="", create_time="", update_time="")), news("queued")),
    (SUBMIT, 200, feed(record(status="0", create_time="0")), news("queued")),
    (SUBMIT, 200, {"id": "task_32characters"}, news("queued", external_id="task_32characters")),
    (SUBMIT, 200, {"code": 200, "data": {"task_id": 1234}}, news("queued", external_id="1234")),
    (SUBMIT, 200, b'{"code":200,"data":{"task_id":"t1"}}{"code":"insert_task_failed"}', news("queued")),
    (SUBMIT, 200, {"task_id": "t1", "status": "QUEUED", "progress": "0%"}, news("queued", progress=0)),
    (SUBMIT, 200, wrapped(status="IN_PROGRESS"), news("running", progress=0)),
    (SUBMIT, 200, {"id": "t1", "status": "PENDING"}, news("queued")),
    # … with an id and an odd code: the job may exist
    (SUBMIT, 200, feed({"task_id": "t1"}, code=500), news("queued")),
    (SUBMIT, 200, feed(record(status="2", msg="blocked"), code=400), news("failed", failure=failure("content_policy", "blocked"))),
    (SUBMIT, 200, feed(record(status="7")), news("queued")),
    # … and no
    (SUBMIT, 200, {"code": 400, "msg": "参数错误", "data": None, "exec_time": 0.02}, no("refused", "invalid_input", "参数错误")),
    (SUBMIT, 200, {"code": 400, "msg": "内容违规"}, no("refused", "content_policy", "内容违规")),
    (SUBMIT, 200, {"code": 500, "msg": "失败", "data": {"task_id": ""}}, no("uncertain", "provider_error", "失败")),
    (SUBMIT, 200, flat("callback_url_empty"), no("refused", "invalid_input", "callback_url_empty")),
    (SUBMIT, 400, {"error": {"code": "callback_url_empty", "message": "needed", "type": "comet_api_error"}}, no("refused", "invalid_input", "needed")),
    (SUBMIT, 200, {"code": 401, "msg": "bad key"}, no("account", "unauthorized", "bad key")),
    (SUBMIT, 200, {"code": 429, "msg": "当前分组上游负载已饱和"}, no("unavailable", "overloaded", "当前分组上游负载已饱和")),
    (SUBMIT, 200, flat("quota_not_enough"), no("account", "insufficient_credit", "quota_not_enough")),
    (SUBMIT, 200, flat("do_request_failed"), no("uncertain", "provider_error", "do_request_failed")),
    (SUBMIT, 500, flat("do_request_failed", "请求上游地址失败"), no("uncertain", "provider_error", "请求上游地址失败")),
    (SUBMIT, 500, {"error": {"message": "bad (request id: 1)", "type": "comet_api_error", "code": "invalid_request"}}, no("refused", "invalid_input", "bad (request id: 1)")),
    (SUBMIT, 429, flat("fail_to_fetch_task", "当前分组上游负载已饱和，请稍后再试"), no("unavailable", "overloaded", "当前分组上游负载已饱和，请稍后再试")),
    (SUBMIT, 503, {"error": {"message": "无可用渠道", "code": "model_not_found"}}, no("unavailable", "overloaded", "无可用渠道")),
    # … and neither
    (SUBMIT, 200, feed({"task_id": ""}), no("uncertain", "unreadable", "成功")),
    (SUBMIT, 200, feed({"task_id": 0}), no("uncertain", "unreadable", "成功")),
    (SUBMIT, 200, feed({"task_id": None}), no("uncertain", "unreadable", "成功")),
    (SUBMIT, 200, feed(None), no("uncertain", "unreadable", "成功")),
    (SUBMIT, 200, {"msg": "?"}, no("uncertain", "unreadable", "?")),
    (SUBMIT, 200, HTML, no("uncertain", "unreadable", page(200))),
    (SUBMIT, 200, "", no("uncertain", "unreadable")),
    (SUBMIT, 204, "", no("uncertain", "unreadable")),
    (SUBMIT, 502, HTML, no("uncertain", "provider_error", page(502))),
    (SUBMIT, 524, HTML, no("uncertain", "provider_timeout", page(524))),
    (SUBMIT, 301, "", no("account", "not_found", MOVED)),
    (SUBMIT, 502, feed({"task_id": "t1"}), no("uncertain", "provider_error", "成功")),
    # A poll without information changes nothing
    (POLL, 200, flat("task_not_exist"), no("not_found", "not_found", "task_not_exist")),
    (POLL, 500, flat("task_not_exist"), no("not_found", "not_found", "task_not_exist")),
    (POLL, 404, {"error": {"message": "Invalid URL (POST /runway/feed)", "code": ""}}, no("account", "not_found", "Invalid URL (POST /runway/feed)")),
    (POLL, 404, HTML, no("account", "not_found", page(404))),
    (POLL, 401, {"error": {"message": "Invalid Token"}}, no("account", "unauthorized", "Invalid Token")),
    (POLL, 200, HTML, no("unreadable", "unreadable", page(200))),
    (POLL, 301, HTML, no("account", "not_found", MOVED)),
    (POLL, 502, HTML, no("unavailable", "provider_error", page(502))),
    (POLL, 524, HTML, no("unavailable", "provider_timeout", page(524))),
    (POLL, 500, {"error": {"message": "x", "code": "invalid_request"}}, no("unavailable", "provider_error", "x")),
    (POLL, 200, {"code": 500, "msg": "查询失败"}, no("unavailable", "provider_error", "查询失败")),
    (POLL, 200, {}, no("unreadable", "unreadable", "{}")),
    (POLL, 200, {"status": "error", "message": "later"}, no("unreadable", "unreadable", "later")),
    (POLL, 200, {"status": "failed"}, no("unreadable", "unreadable", '{"status": "failed"}')),
    (POLL, 200, feed(None), no("unreadable", "unreadable", "成功")),
    (POLL, 503, feed(record(status="2")), no("unavailable", "overloaded", "成功")),
]  # fmt: skip


@pytest.mark.parametrize("dialect", ["aggregator", "aggregator-official"])
@pytest.mark.parametrize(("kind", "status", "body", "reading"), ANSWERS)
def test_submit_answer_is_classified(dialect, kind, status, body, reading):
    if kind is POLL and dialect == "aggregator-official":
        kind = ("poll_response", "GET /runwayml/v1/tasks/{id}")
    message = {"family": "runway", "dialect": dialect, "kind": kind[0], "endpoint": kind[1], "http_status": status}
    body = body.decode() if isinstance(body, bytes) else body
    assert explain({**message, "body": body}) == reading
    if "error" in reading:
        assert explain({**message, "body": body, "kind": "error"}) == reading


@pytest.mark.parametrize(
    ("status", "body", "submit", "poll"),
    [
        (400, {"error": "Validation of body failed", "issues": []}, "refused/invalid_input", "refused/invalid_input"),
        (400, {"error": "You do not have enough credits to run this task."}, *["account/insufficient_credit"] * 2),
        (401, {"error": "Bad key"}, "account/unauthorized", "account/unauthorized"),
        (404, {"error": "Could not find Task"}, "refused/not_found", "not_found/not_found"),
        (405, {"error": "Method not allowed"}, "refused/invalid_input", "refused/invalid_input"),
        (429, {"error": "Your daily task limit has been reached."}, *["unavailable/rate_limited"] * 2),
        (502, HTML, "uncertain/provider_error", "unavailable/provider_error"),
        (503, {"error": "Service unavailable"}, "unavailable/overloaded", "unavailable/overloaded"),
        (503, HTML, "uncertain/provider_error", "unavailable/provider_error"),
        (504, "", "uncertain/provider_timeout", "unavailable/provider_timeout"),
        (200, {"estimatedCost": {"credits": 5}}, "uncertain/unreadable", "unreadable/unreadable"),
    ],
)
def test_official_errors_are_classified(status, body, submit, poll):
    for read, expected in ((Official().read_created, submit), (Official().read_status, poll)):
        with pytest.raises(UpstreamError) as caught:
            read(reply(body, status))
        assert f"{caught.value.outcome}/{caught.value.code}" == expected


@pytest.mark.parametrize("body", [{}, None, [], 7, "text", {"message": "ping"}, {"status": "failed"}, {"code": 200}])
def test_callback_without_a_task_is_unreadable(body):
    message = {"family": "runway", "dialect": "aggregator", "kind": "callback", "body": body}
    assert explain(message)["error"] == "unreadable"


def test_unknown_status_is_reported():
    assert Aggregator().read_status(reply(feed(record(status="Moderating")))).unknown_word == "moderating"
    assert Official().read_status(reply(own("PAUSED"))).unknown_word == "paused"
    for known in (
        wrapped(status="UNKNOWN"),
        feed(record(status="")),
        feed({"task_id": "t1"}),
        feed(record(status="3")),
    ):
        assert Aggregator().read_status(reply(known)).unknown_word is None


def test_secondary_outputs_of_a_video_have_their_roles():
    urls = {"video_url": VIDEO, "poster": "https://x/p.png", "last_frame": "https://x/l.png"}
    more = {"raw_video_url": "https://x/raw.mp4", "image_url": "https://x/i.png"}
    update = Aggregator().read_status(reply(feed(record(status="3", **urls, **more))))
    assert update.results == (
        Result("video", VIDEO),
        Result("image", "https://x/p.png", role="cover"),
        Result("image", "https://x/l.png", role="last_frame"),
        Result("video", "https://x/raw.mp4", role="extra"),
        Result("image", "https://x/i.png", role="extra"),
    )
    running = Aggregator().read_status(reply(feed(record(status="1", poster="https://x/p.png"))))
    assert running.results == ()


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://x/a.mp4?_jwt=e.y.png", "video"),
        ("https://x/a.png?_jwt=1", "image"),
        ("https://x/a.JPG#top", "image"),
        ("https://x/speech.mp3", "audio"),
        ("https://x/no-extension", "video"),
        ("data:image/png;base64,AA==", "image"),
        ("data:audio/mpeg;base64,AA==", "audio"),
    ],
)
def test_output_kind_follows_its_url(url, kind):
    assert Official().read_status(reply(own("SUCCEEDED", output=[url]))).results == (Result(kind, url),)


@pytest.mark.parametrize(
    ("dialect", "body", "cost"),
    [
        ("aggregator", feed(record(point="320")), 320.0),
        ("aggregator", feed(record(point=200, status="3", video_url=VIDEO)), 200.0),
        ("aggregator", feed(record(point="")), None),
        ("aggregator", feed(record(point=None)), None),
        ("aggregator", feed(record(point="NaN")), None),
        ("aggregator", feed(record(point="320", status="2", refund="1")), 0.0),
        ("aggregator", feed(record(point="320", status="2", refund="320")), 0.0),
        ("aggregator", feed(record(point="320", status="2", refund="0")), 320.0),
        ("aggregator", wrapped(inner=own("RUNNING", cost={"credits": 9})), None),
        ("official", own("SUCCEEDED", output=[VIDEO], cost={"credits": 63}), 63.0),
        ("official", own("FAILED", cost={"credits": 0}), 0.0),
        ("official", own("RUNNING", estimatedCost={"credits": 63}), None),
    ],
)
def test_cost_is_read(dialect, body, cost):
    assert DIALECTS[dialect].read_status(reply(body)).cost == cost


@pytest.mark.parametrize(
    ("dialect", "body", "refunded"),
    [
        ("aggregator", feed(record(point="320", status="2", refund="1")), True),
        ("aggregator", feed(record(point="320", status="2", refund="320")), True),
        ("aggregator", feed(record(point="320", status="2", refund="0")), False),
        ("aggregator", feed(record(point="320", status="2", refund="100")), None),
        ("aggregator", feed(record(point="320", status="2", refund=None)), None),
        ("aggregator", feed(record(point="320", status="2", refund="x")), None),
        ("aggregator", feed(record(point="320", status="1", refund="0")), None),
        ("aggregator", feed(record(point="320", status="3", refund="0", video_url=VIDEO)), None),
        ("official", own("FAILED", cost={"credits": 0}), True),
        ("official", own("FAILED", cost={"credits": 63}), False),
        ("official", own("CANCELLED", cost={"credits": 0}), True),
        ("official", own("FAILED"), None),
        ("official", own("SUCCEEDED", output=[VIDEO], cost={"credits": 0}), None),
    ],
)
def test_refund_of_a_failed_job_is_read(dialect, body, refunded):
    assert DIALECTS[dialect].read_status(reply(body)).refunded is refunded


# Requests --------------------------------------------------------------------------------------------------------

_IMAGE = MESSAGES["aggregator/submit_request.act-one"]["body"]["image"]
_VIDEO = MESSAGES["aggregator/submit_request.act-one"]["body"]["video"]
_CAT = MESSAGES["aggregator-official/submit_request.image-to-video-full"]["body"]["promptImage"]
_FRAME = MESSAGES["aggregator-official/submit_request.image-to-video-first-last"]["body"]["promptImage"][0]["uri"]
_ACTOR = MESSAGES["aggregator-official/submit_request.act-two-full"]["body"]["reference"]["uri"]
_SOURCE = MESSAGES["aggregator-official/submit_request.video-to-video-aleph"]["body"]["videoUri"]
_AUTO = {"contentModeration": {"publicFigureThreshold": "auto"}}
_SEED = 4294967295
_BASE64 = "data:video/mp4;base64,<base64 omitted from note>"

REQUESTS = {
    "official/submit_request.aleph2-keyframes": (
        "video_to_video",
        {
            "video": "https://files.example.com/v.mp4",
            "prompt": "turn the day into night",
            "keyframes": [
                {"image": "https://files.example.com/k1.png", "second": 0},
                {"image": "https://files.example.com/k2.png", "position": 0.5},
            ],
            "aspect_ratio": "16:9",
            "seed": 7,
        },
        {},
    ),
    "official/submit_request.seedance2-text": (
        "text_to_video",
        {"model": "seedance2", "prompt": "a street after rain", "aspect_ratio": "16:9", "duration": 8},
        {},
    ),
    "official/submit_request.voice-isolation": ("voice_isolation", {"audio": "https://files.example.com/a.mp3"}, {}),
    "official/submit_request.video-to-hdr": (
        "video_to_hdr",
        {"video": "https://files.example.com/v.mp4"},
        {"outputFormat": "hdr10"},
    ),
    "aggregator/submit_request.act-one": ("character_performance", {"video": _VIDEO, "image": _IMAGE}, {}),
    "aggregator/submit_request.image-gen4-options": (
        "image_to_video",
        {
            "image": _IMAGE,
            "prompt": "笑起来,吃汉堡",
            "model": "gen4",
            "style": "cinematic",
            "duration": 10,
            "motion": {"x": -6.2},
        },
        {"options": {"image_as_end_frame": False, "flip": False}},
    ),
    "aggregator/submit_request.text-gen4": (
        "text_to_video",
        {"prompt": "a cat", "model": "gen4", "duration": 10, "motion": {"y": 0.3999999999999999, "r": -6}},
        {},
    ),
    "aggregator/submit_request.video2video": (
        "video_to_video",
        {"video": _VIDEO, "prompt": "pixelated style", "model": "gen4", "strength": 0.5},
        {"options": {"flip": True}},
    ),
    "aggregator-official/submit_request.act-two-full": (
        "character_performance",
        {"video": _ACTOR, "character_video": _ACTOR, "body_control": True, "expression_intensity": 3, "seed": _SEED}
        | {"aspect_ratio": "16:9"},
        _AUTO,
    ),
    "aggregator-official/submit_request.image-to-video-first-last": (
        "image_to_video",
        {"image": _FRAME, "last_image": _FRAME, "prompt": "wave", "model": "gen4_turbo", "seed": _SEED}
        | {"aspect_ratio": "1:1", "duration": 5},
        {"watermark": False},
    ),
    "aggregator-official/submit_request.image-to-video-full": (
        "image_to_video",
        {"image": _CAT, "prompt": "A yawning cat", "seed": _SEED, "duration": 5, "aspect_ratio": "16:9"},
        {"watermark": False},
    ),
    "aggregator-official/submit_request.image-to-video-minimal": ("image_to_video", {"image": _CAT}, {}),
    "aggregator-official/submit_request.video-to-video-aleph": (
        "video_to_video",
        {"video": _SOURCE, "prompt": "string", "seed": _SEED, "reference_images": [_CAT], "aspect_ratio": "1280:720"},
        _AUTO,
    ),
    "official/submit_request.text-to-image-gen4-image": (
        "text_to_image",
        {"prompt": "A quiet garden in April", "aspect_ratio": "16:9"},
        {},
    ),
    "official/submit_request.text-to-video-gen45": (
        "text_to_video",
        {"prompt": "A dog runs across a meadow at dusk"},
        {},
    ),
    "official/submit_request.video-to-video-aleph": (
        "video_to_video",
        {"model": "gen4_aleph", "video": "https://example.com/source.mp4", "prompt": "Make it winter"}
        | {"aspect_ratio": "16:9"},
        {},
    ),
    "official/submit_request.video-upscale-1k": ("video_upscale", {"video": _BASE64, "resolution": "1k"}, {}),
}
"""For a recorded request, the task that is sent as exactly that."""

SPARSE = {
    "aggregator/submit_request.image-gen4-minimal": (
        "image_to_video",
        {"image": _IMAGE, "prompt": "Smile, Eat Burger", "model": "gen4"},
        {},
    ),
    "aggregator/submit_request.text-gen3-minimal": (
        "text_to_video",
        {"prompt": "一只小猫", "model": "gen3", "duration": 10},
        {},
    ),
}
"""The same for requests that leave out what other pages require: ours say all of theirs and the defaults besides."""


@pytest.mark.parametrize("name", [name for name, message in MESSAGES.items() if "reading" not in message])
def test_recorded_request_is_built_from_task_input(name):
    message, dialect = MESSAGES[name], DIALECTS[MESSAGES[name]["dialect"]]
    operation, given, options = (REQUESTS | SPARSE)[name]
    wanted = task(operation, given, options)
    assert Schema(FAMILY.operations[operation].input).mistakes(given) == []
    http_only = MESSAGES[name]["dialect"] != "aggregator" and "http://" in json.dumps(given)
    assert dialect.validate(wanted) == [] or http_only
    call = dialect.create(wanted, HOOK)
    assert f"{call.method} {call.path}" == message["endpoint"]
    assert call.headers == {"X-Runway-Version": "2024-11-06"}
    expected = message["body"]
    if name in SPARSE:
        said = {**call.json.get("options", {}), **expected.get("options", {})}
        expected = {**call.json, **expected, "options": said}
    assert call.json == expected


def test_fields_required_by_the_gateway_are_filled():
    assert body_of("aggregator", "text_to_video", {"prompt": "a cat"}, hook=None) == {
        "callback_url": "https://callback.invalid/",
        "prompt": "a cat",
        "model": "gen4_turbo",
        "style": "cinematic",
        "ratio": "16:9",
        "options": {"seconds": 5, "motion_vector": dict.fromkeys(("x", "y", "z", "r", "bg_x_pan", "bg_y_pan"), 0)},
    }
    assert body_of(
        "aggregator", "image_to_video", {"image": VIDEO, "prompt": "x", "last_image": "https://x/l.png"}
    ) == {
        "callback_url": HOOK,
        "prompt": "x",
        "model": "gen4_turbo",
        "image": VIDEO,
        "last_image": "https://x/l.png",
        "options": {"seconds": 5},
    }


def test_fields_required_by_runway_are_filled():
    """Each operation has the fields that Runway's reference marks as required, and no other."""
    voice = {"type": "runway-preset", "presetId": "Maya"}
    expected = {
        "text_to_video": {"model": "gen4.5", "promptText": "p", "ratio": "1280:720", "duration": 5},
        "image_to_video": {"model": "gen4_turbo", "promptImage": "i", "ratio": "1280:720", "duration": 5},
        "video_to_video": {"model": "aleph2", "videoUri": "v"},
        "text_to_image": {"model": "gen4_image", "promptText": "p", "ratio": "1920:1080"},
        "video_upscale": {"model": "magnific_video_upscaler_creative", "videoUri": "v"},
        "image_upscale": {"model": "magnific_precision_upscaler_v2", "imageUri": "i"},
        "character_performance": {"model": "act_two", "reference": {"type": "video", "uri": "v"}},
        "text_to_speech": {"model": "eleven_multilingual_v2", "promptText": "p", "voice": voice},
        "sound_effect": {"model": "eleven_text_to_sound_v2", "promptText": "p"},
        "speech_to_speech": {
            "model": "eleven_multilingual_sts_v2",
            "media": {"type": "audio", "uri": "a"},
            "voice": voice,
        },
        "voice_dubbing": {"model": "eleven_voice_dubbing", "audioUri": "a", "targetLang": "l"},
        "voice_isolation": {"model": "eleven_voice_isolation", "audioUri": "a"},
        "video_to_hdr": {"model": "ruby", "videoUri": "v"},
    }
    for name in MODELS:
        operation = FAMILY.operations[name]
        given = {field: field[0] for field in operation.input["required"]}
        assert body_of("official", name, given) == expected[name]


def test_other_input_fields_are_mapped():
    character = {"video": "v", "image": "i"}
    assert body_of("official", "character_performance", character)["character"] == {"type": "image", "uri": "i"}
    tagged = {"prompt": "@cat", "reference_images": ["u", {"url": "w", "tag": "cat"}]}
    assert body_of("official", "text_to_image", tagged)["referenceImages"] == [{"uri": "u"}, {"uri": "w", "tag": "cat"}]
    sound = body_of("official", "sound_effect", {"prompt": "p", "duration": 2.5, "loop": True})
    assert (sound["duration"], sound["loop"]) == (2.5, True)
    assert body_of("official", "image_upscale", {"image": "i", "scale": 4})["scaleFactor"] == 4
    assert body_of("official", "text_to_speech", {"prompt": "p", "voice": "Jack"})["voice"]["presetId"] == "Jack"
    veo = body_of("official", "text_to_video", {"prompt": "p", "model": "veo3.1", "negative_prompt": "n"})
    assert veo == {"model": "veo3.1", "promptText": "p", "negativePrompt": "n", "ratio": "1280:720"}


@pytest.mark.parametrize(
    ("dialect", "operation", "model", "given", "said"),
    [
        ("aggregator", "text_to_video", None, "9:16", "9:16"),
        ("aggregator", "text_to_video", None, "720:1280", "9:16"),
        ("aggregator", "text_to_video", None, "1280:768", "16:9"),
        ("aggregator", "text_to_video", None, "1104:832", "4:3"),
        ("aggregator", "text_to_video", None, "1584:672", "21:9"),
        ("aggregator", "text_to_video", None, "1920:1080", "16:9"),
        ("aggregator", "image_to_video", None, "16:9", "1280:720"),
        ("aggregator", "image_to_video", None, "960:960", "960:960"),
        ("aggregator", "image_to_video", None, None, None),
        ("aggregator-official", "image_to_video", None, "16:9", "1280:768"),
        ("aggregator-official", "image_to_video", None, "9:16", "768:1280"),
        ("aggregator-official", "image_to_video", "gen4_turbo", "4:3", "1104:832"),
        ("official", "text_to_video", None, "9:16", "720:1280"),
        ("official", "image_to_video", "gen4.5", "21:9", "1584:672"),
        ("official", "image_to_video", "veo3.1", "1920:1080", "1920:1080"),
        ("official", "text_to_image", None, "1:1", "1024:1024"),
        ("official", "text_to_image", None, "2112:912", "2112:912"),
        ("official", "video_to_video", "gen4_aleph", "3:4", "832:1104"),
        ("official", "character_performance", None, "1:1", "960:960"),
        ("official", "image_to_video", "hailuo3", "16:9", "16:9"),
        ("official", "image_to_video", "hailuo3", None, None),
        ("official", "text_to_video", "hailuo3", "21:9", "21:9"),
        ("official", "video_to_video", "hailuo3", "1584:672", "21:9"),
        ("official", "text_to_video", "grok_imagine_1_5", "1280:720", "16:9"),
        ("official", "text_to_video", "grok_imagine_1_5_lite", "4:3", "960:720"),
        ("official", "text_to_video", "kling2.5_turbo_pro", "1:1", "720:720"),
        ("official", "text_to_video", "kling_4", "21:9", "1460:624"),
        ("official", "text_to_video", "klingO3_4k", "9:16", "2160:3840"),
        ("official", "text_to_video", "klingO3_4k", None, "3840:2160"),
        ("official", "text_to_video", "kling3.0_standard", None, "1280:720"),
        ("official", "image_to_video", "kling3.0_standard", None, None),
        ("official", "image_to_video", "seedance2_fast", "4:3", "1112:834"),
        ("official", "video_to_video", "seedance2", "2206:946", "2206:946"),
        ("official", "text_to_video", "gemini_omni_flash", "1:1", "1:1"),
        ("official", "text_to_image", "gemini_2.5_flash", "21:9", "1536:672"),
        ("official", "text_to_image", "gemini_image3_pro", "5632:3072", "5632:3072"),
        ("official", "text_to_image", "gpt_image_2", "4:3", "1920:1440"),
        ("official", "text_to_image", "gpt_image_2_5_flare", None, "1920:1088"),
        ("official", "text_to_image", "ideogram_4_0", "2:3", "1664:2496"),
        ("official", "text_to_image", "seedream5_lite", "3:4", "1728:2304"),
        ("official", "text_to_image", "nano_banana_2.1", "9:16", "768:1376"),
        ("official", "text_to_image", "a_model_of_tomorrow", "16:9", "16:9"),
    ],
)
def test_ratio_is_sent_in_the_form_of_the_model(dialect, operation, model, given, said):
    wanted = {"prompt": "p", "image": "i", "model": model, "aspect_ratio": given}
    body = body_of(dialect, operation, {name: value for name, value in wanted.items() if value is not None})
    assert body.get("ratio") == said


@pytest.mark.parametrize(
    ("given", "said"),
    [("16:9", "16:9"), ("720:1280", "9:16"), ("1104:832", "4:3"), ("21:9", "21:9"), ("2100:900", "21:9")],
)
def test_aleph2_uses_its_own_ratio_field(given, said):
    assert body_of("official", "video_to_video", {"video": "v", "aspect_ratio": given})["targetAspectRatio"] == said


def test_whole_seconds_are_sent_as_integers():
    assert '"seconds": 10}' in json.dumps(body_of("aggregator", "image_to_video", {"image": "i", "duration": 10.0}))
    assert '"duration": 4,' in json.dumps(body_of("official", "text_to_video", {"prompt": "p", "duration": 4.0}))


def test_options_override_nested_fields():
    given = {"prompt": "a cat", "duration": 5}
    options = {"ratio": "1:1", "model": "gen4.5", "options": {"seconds": 10, "flip": True}, "unheard_of": [1]}
    body = body_of("aggregator", "text_to_video", given, options)
    assert (body["ratio"], body["model"], body["unheard_of"]) == ("1:1", "gen4.5", [1])
    assert body["options"]["seconds"] == 10
    assert body["options"]["flip"] is True
    assert body["options"]["motion_vector"]["x"] == 0
    assert body_of("official", "text_to_video", given, {"model": "hailuo3"}).get("ratio") is None


WRONG = [
    ("aggregator", "text_to_video", {"prompt": "p", "duration": 7}, {}, ["input.duration"]),
    ("aggregator", "text_to_video", {"prompt": "p", "duration": 7}, {"options": {"seconds": 8}}, []),
    ("aggregator", "text_to_video", {"prompt": "p", "duration": 10}, {}, []),
    ("aggregator", "text_to_video", {"prompt": "p", "seed": 1, "negative_prompt": "n"}, {}, ["input.seed", "input.negative_prompt"]),
    ("aggregator", "text_to_video", {"prompt": "p"}, {"callback_url": "https://x/"}, ["options.callback_url"]),
    ("aggregator", "image_to_video", {"image": "i"}, {}, ["input.prompt"]),
    ("aggregator", "image_to_video", {"image": "i"}, {"prompt": "p"}, []),
    ("aggregator", "video_to_video", {"video": "v"}, {}, ["input.prompt"]),
    ("aggregator", "character_performance", {"video": "v", "character_video": "c"}, {}, ["input.character_video", "input.image"]),
    ("aggregator", "text_to_speech", {"prompt": "p"}, {}, ["operation"]),
    ("aggregator", "text_to_video", {"prompt": "p", "model": "gen99"}, {}, []),
    ("aggregator-official", "text_to_video", {"prompt": "p"}, {}, ["operation"]),
    ("aggregator-official", "text_to_image", {"prompt": "p"}, {}, ["input.reference_images"]),
    ("aggregator-official", "text_to_image", {"prompt": "p", "reference_images": ["https://x/a.png"]}, {}, []),
    ("aggregator-official", "image_to_video", {"image": "i", "duration": 7}, {}, ["input.duration"]),
    ("aggregator-official", "image_to_video", {"image": "i", "prompt": "p" * 513}, {}, ["input.prompt"]),
    ("aggregator-official", "image_to_video", {"image": "i", "prompt": "p" * 513, "model": "gen4_turbo"}, {}, []),
    ("official", "text_to_video", {"prompt": "p" * 1000}, {}, []),
    ("official", "text_to_video", {"prompt": "p" * 1001}, {}, ["input.prompt"]),
    ("official", "text_to_video", {"prompt": "😀" * 501}, {}, ["input.prompt"]),
    ("official", "text_to_video", {"prompt": "😀" * 500}, {}, []),
    ("official", "text_to_video", {"prompt": "p" * 1001}, {"promptText": "short"}, []),
    ("official", "text_to_video", {"prompt": "p" * 2000, "model": "seedance2"}, {}, []),
    ("official", "text_to_video", {"prompt": "p", "duration": 11}, {}, ["input.duration"]),
    ("official", "text_to_video", {"prompt": "p", "duration": 5, "model": "veo3.1_fast"}, {}, ["input.duration"]),
    ("official", "text_to_video", {"prompt": "p", "duration": 12, "model": "seedance2"}, {}, []),
    ("official", "text_to_video", {"prompt": "p", "style": "cinematic", "motion": {}}, {}, ["input.style", "input.motion"]),
    ("official", "text_to_video", {"prompt": "p", "aspect_ratio": "1:1"}, {}, ["input.aspect_ratio"]),
    ("official", "text_to_video", {"prompt": "p", "aspect_ratio": "1:1"}, {"ratio": "960:960"}, []),
    ("official", "text_to_video", {"prompt": "p", "aspect_ratio": "9:16"}, {}, []),
    ("official", "image_to_video", {"image": "i", "model": "gen4.5"}, {}, ["input.prompt"]),
    ("official", "image_to_video", {"image": "i"}, {}, []),
    ("official", "image_to_video", {"image": "http://x/a.png"}, {}, ["input.image"]),
    ("official", "image_to_video", {"image": "runway://a"}, {}, []),
    ("official", "text_to_image", {"prompt": "p", "model": "gen4_image_turbo"}, {}, ["input.reference_images"]),
    ("official", "character_performance", {"video": "v"}, {}, ["input.image"]),
    ("official", "character_performance", {"video": "v", "character_video": "c"}, {}, []),
    ("official", "video_to_video", {"video": "v", "strength": 0.5}, {}, ["input.strength"]),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "operation", "given", "options", "paths"), WRONG)
def test_invalid_input_is_rejected_before_sending(dialect, operation, given, options, paths):
    assert [mistake.path for mistake in DIALECTS[dialect].validate(task(operation, given, options))] == paths


# Conversations ---------------------------------------------------------------------------------------------------

ONE = task("text_to_video", {"prompt": "p"}, external_id="a/b ?1")


def drive(exchange, *replies):
    """Run an exchange. Return the calls and the result."""
    calls, answers = [], iter(replies)
    try:
        call = next(exchange)
        while True:
            calls.append(call)
            call = exchange.send(next(answers))
    except StopIteration as done:
        return calls, done.value
    except UpstreamError as error:
        return calls, error


@pytest.mark.parametrize(
    ("dialect", "call"),
    [
        ("aggregator", Call(method="POST", path="/runway/feed", json={"task_id": "a/b ?1"})),
        ("aggregator-official", Call(method="GET", path="/runwayml/v1/tasks/a%2Fb%20%3F1")),
        ("official", Call(method="GET", path="/v1/tasks/a%2Fb%20%3F1")),
    ],
)
def test_poll_names_the_task_and_creates_nothing(dialect, call):
    (asked,), update = drive(DIALECTS[dialect].poll(ONE), reply(own("RUNNING", "a/b ?1")))
    assert (asked.method, asked.path, asked.json, asked.creates) == (call.method, call.path, call.json, False)
    assert asked.headers["X-Runway-Version"] == "2024-11-06"
    assert update.state is State.RUNNING


@pytest.mark.parametrize("status", ["PENDING", "THROTTLED", "RUNNING"])
@pytest.mark.parametrize("answer", [reply("", 204), reply("{}", 200), reply({"error": "Could not find Task"}, 404)])
def test_cancel_checks_the_state_before_deleting(status, answer):
    calls, update = drive(Official().cancel(ONE), reply(own(status, "a/b ?1")), answer)
    assert [(call.method, call.path) for call in calls] == [
        ("GET", "/v1/tasks/a%2Fb%20%3F1"),
        ("DELETE", "/v1/tasks/a%2Fb%20%3F1"),
    ]
    assert update == Update(state=State.CANCELLED, external_id="a/b ?1")


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        (own("SUCCEEDED", output=[VIDEO]), State.SUCCEEDED),
        (own("SUCCEEDED", output=[]), None),
        (own("FAILED"), State.FAILED),
        (own("CANCELLED"), State.CANCELLED),
        (own("STRANGE"), None),
    ],
)
def test_cancel_deletes_only_unfinished_jobs(seen, state):
    calls, update = drive(Official().cancel(ONE), reply({**seen, "id": "a/b ?1"}))
    assert [call.method for call in calls] == ["GET"]
    assert update.state is state


def test_cancel_of_an_unknown_task_deletes_nothing():
    calls, error = drive(Official().cancel(ONE), reply({"error": "Could not find Task"}, 404))
    assert [call.method for call in calls] == ["GET"]
    assert isinstance(error, NotFound)


@pytest.mark.parametrize("answer", [reply("", 503), reply(HTML, 404), reply({"error": "x"}, 401)])
def test_failed_delete_is_not_a_cancel(answer):
    _, error = drive(Official().cancel(ONE), reply(own("RUNNING", "a/b ?1")), answer)
    assert isinstance(error, UpstreamError)
    assert not isinstance(error, NotFound)


def test_cancel_answer_can_be_explained():
    message = {
        "family": "runway",
        "dialect": "official",
        "kind": "cancel_response",
        "endpoint": "DELETE /v1/tasks/{id}",
    }
    gone = explain({**message, "http_status": 204, "body": ""})
    assert gone == {"state": "cancelled", "external_id": None, **NO_NEWS}
    assert explain({**message, "http_status": 503, "body": ""})["error"] == "unavailable"


@pytest.mark.parametrize("dialect", ["aggregator", "aggregator-official"])
def test_gateway_has_no_cancel_and_no_balance(dialect):
    assert not isinstance(DIALECTS[dialect], CanCancel | CanTellBalance)


def test_balance_is_read_from_the_organization():
    (call,), credit = drive(Official().balance(), reply({"creditBalance": 1234, "tier": {}}))
    assert (call.method, call.path, credit) == ("GET", "/v1/organization", Balance(1234.0, "credits"))
    _, error = drive(Official().balance(), reply({"error": "Bad key"}, 401))
    assert error.outcome == "account"
    _, error = drive(Official().balance(), reply({"creditBalance": "?"}))
    assert error.outcome == "unreadable"


def test_retry_after_is_passed_on():
    _, error = drive(Aggregator().submit(ONE, HOOK), reply("", 429, **{"retry-after": "9"}))
    assert isinstance(error, Unavailable)
    assert error.retry_after == 9.0


def test_only_the_aggregator_has_callbacks():
    assert [name for name, dialect in DIALECTS.items() if dialect.facts.callbacks] == ["aggregator"]
    (update,) = Aggregator().read_callback(Callback({}, json.dumps(record(status="1")).encode()))
    assert update == Update(state=State.RUNNING, external_id="t1", cost=320.0)


def test_operation_aliases_are_accepted():
    aliases = {alias: operation.name for operation in FAMILY.operations.values() for alias in operation.aliases}
    assert aliases["act_one"] == aliases["act_two"] == "character_performance"
    assert (aliases["text2video"], aliases["image2video"], aliases["video2video"]) == (
        "text_to_video",
        "image_to_video",
        "video_to_video",
    )


# Models of Runway's newer API ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "given", "sent"),
    [
        ("video_to_video", {"video": "https://x/v.mp4", "aspect_ratio": "1280:720"}, {"targetAspectRatio": "16:9"}),
        ("video_to_video", {"video": "https://x/v.mp4", "model": "hailuo3"}, {"promptVideo": "https://x/v.mp4"}),
        ("video_to_video", {"video": "https://x/v.mp4", "model": "kling_4"}, {"videoUri": "https://x/v.mp4"}),
        ("text_to_video", {"prompt": "p", "model": "veo3"}, {"duration": 8, "ratio": "1280:720"}),
        ("text_to_video", {"prompt": "p", "model": "seedance2_fast", "aspect_ratio": "4:3"}, {"ratio": "1112:834"}),
        ("text_to_video", {"prompt": "p", "model": "kling3.0_pro", "aspect_ratio": "9:16"}, {"ratio": "1080:1920"}),
        ("text_to_video", {"prompt": "p", "model": "hailuo3", "aspect_ratio": "1280:720"}, {"ratio": "16:9"}),
        ("text_to_video", {"prompt": "p", "model": "wan3", "aspect_ratio": "4:3"}, {"ratio": "1104:832"}),
    ],
)
def test_model_gets_its_own_spelling(operation, given, sent):
    body = body_of("official", operation, given)
    assert {name: body.get(name) for name in sent} == sent


@pytest.mark.parametrize(
    ("operation", "given", "path"),
    [
        ("video_to_video", {"video": "https://x/v", "reference_images": ["https://x/i"]}, "input.reference_images"),
        ("video_to_video", {"video": "https://x/v", "aspect_ratio": "5:4"}, "input.aspect_ratio"),
        (
            "video_to_video",
            {"video": "https://x/v", "model": "kling_4", "keyframes": [{"image": "https://x/i", "second": 0}]},
            "input.keyframes",
        ),
        ("text_to_video", {"prompt": "p", "model": "veo3", "duration": 5}, "input.duration"),
        ("image_to_video", {"image": "data:image/png;base64," + "A" * 6_000_000, "prompt": "p"}, "input.image"),
        ("voice_isolation", {"audio": "HTTP://x/a.mp3"}, "input.audio"),
    ],
)
def test_input_that_runway_refuses_is_a_mistake(operation, given, path):
    assert path in [mistake.path for mistake in Official().validate(task(operation, given))]


@pytest.mark.parametrize(
    ("operation", "given", "path", "body"),
    [
        ("recipe", {"recipe": "product_ad", "input": {"version": "2026-06", "productInfo": "tea"}}, "/v1/recipes/product_ad",
         {"version": "2026-06", "productInfo": "tea"}),
        ("routed", {"kind": "audio", "router": "fast", "input": {"type": "speech"}}, "/v1/generate/audio",
         {"configId": "fast", "input": {"type": "speech"}}),
        ("workflow", {"workflow": "w-1", "node_outputs": {"n": {"prompt": "x"}}}, "/v1/workflows/w-1",
         {"nodeOutputs": {"n": {"prompt": "x"}}}),
        ("workflow", {"workflow": "w-1"}, "/v1/workflows/w-1", {}),
    ],
    ids=["recipe", "routed", "workflow with values", "workflow"],
)  # fmt: skip
def test_composed_job_is_sent_as_runway_has_it(operation, given, path, body):
    wanted = task(operation, given)
    assert DIALECTS["official"].validate(wanted) == []
    call = DIALECTS["official"].create(wanted, None)
    assert (call.path, call.json) == (path, body)


@pytest.mark.parametrize("name", ["../tasks", "a/b", "", "a b", "?x"])
def test_name_that_would_leave_its_path_is_refused(name):
    wanted = task("recipe", {"recipe": name, "input": {}})
    assert [each.path for each in DIALECTS["official"].validate(wanted)] == ["input.recipe"]


def test_run_of_a_workflow_has_a_route_of_its_own_and_is_not_deleted():
    wanted = task("workflow", {"workflow": "w-1"}, external_id="job-1")
    exchange = DIALECTS["official"].cancel(wanted)
    assert next(exchange).path == "/v1/workflow_invocations/job-1"
    with pytest.raises(StopIteration) as done:
        exchange.send(Reply(200, {}, b'{"id": "job-1", "status": "RUNNING", "progress": 0.5}'))
    assert done.value.value.state is State.RUNNING
