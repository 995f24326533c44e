"""Midjourney: readings of every recording, requests of every task, and tasks with several jobs."""

import dataclasses
import datetime as dt
import json
from pathlib import Path
from uuid import UUID

import pytest

from service.cli.explain import explain
from service.domain.errors import AccountProblem, NotFound, Refused, Unavailable, Uncertain, Unreadable, UpstreamError
from service.domain.task import Action, Failure, Result, State, Task, Update
from service.domain.validation import Mistake, Schema
from service.providers.capabilities import CanCancel
from service.providers.midjourney.family import DEADLINE, FAMILY
from service.providers.midjourney.proxy import Proxy
from service.providers.wire import Callback, Reply

RECORDINGS = Path(__file__).parents[1] / "recordings" / "midjourney" / "proxy"
MESSAGES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RECORDINGS.glob("*.json"))}
NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
HOOK = "https://dovecote.example/callbacks/secret-token"
PICTURE = "https://cdn.example.com/a.png"
VIDEO = "https://cdn.example.com/a.mp4"
DATA = "data:image/png;base64,xxx"
HTML = "<!doctype html><title>Not here</title>"
MOVED = "HTTP 301: base_url redirects to another path; check base_url"
NO_NEWS = {"progress": None, "results": [], "failure": None}
MJ = Proxy()


def page(status):
    """Return the recording of the page."""
    return f"HTTP {status}, an HTML page: Not here"


def task(operation="imagine", given=None, options=None, **more):
    return Task(
        id=UUID(int=1),
        client="c",
        family="midjourney",
        operation=operation,
        input=given or {},
        options=options or {},
        created_at=NOW,
        updated_at=NOW,
        deadline_at=NOW,
        **more,
    )


def reply(body, status=200, **headers):
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return Reply(status, headers, raw)


def message(kind, endpoint, status, body):
    described = {"family": "midjourney", "dialect": "proxy", "kind": kind, "endpoint": endpoint, "http_status": status}
    return {**described, "body": body}


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


# Readings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, recorded in MESSAGES.items() if "reading" in recorded])
def test_recording_gets_its_reading(name):
    assert explain(MESSAGES[name]) == MESSAGES[name]["reading"]


def row(status="IN_PROGRESS", **said):
    """Return new-api's copy of a task with some fields changed."""
    texts = dict.fromkeys(("customId", "botType", "state", "imageUrl", "videoUrl", "failReason", "maskBase64"), "")
    lists = dict.fromkeys(("videoUrls", "buttons", "properties"))
    times = {"submitTime": 1730621826053, "startTime": 0, "finishTime": 0}
    return {"id": "t1", "action": "IMAGINE", "prompt": "a cat", **texts, **lists, **times, "status": status, **said}


def news(state, **more):
    return {"state": state, "external_id": "t1", **NO_NEWS, **more}


def failed(code, text=None, **more):
    return news("failed", failure={"code": code, "message": text}, **more)


DONE = news("succeeded", results=[PICTURE])
POLLS = [
    # The status decides …
    (row(None), news("queued")),
    (row(""), news("queued")),
    (row(" "), news("queued")),
    ({name: value for name, value in row().items() if name != "status"}, news("queued")),
    (row("NOT_START"), news("queued")),
    (row("SUBMITTED"), news("queued")),
    (row("submitted"), news("queued")),
    (row("PENDING"), news("queued")),
    (row("MODAL"), news("awaiting_input")),
    (row("modal"), news("awaiting_input")),
    (row("IN_PROGRESS"), news("running")),
    (row("RUNNING"), news("running")),
    (row("PROCESSING"), news("running")),
    (row("SUCCESS", imageUrl=PICTURE), DONE),
    (row("success", imageUrl=PICTURE), DONE),
    (row("FAILURE"), failed("unknown")),
    (row("FAILED"), failed("unknown")),
    (row("CANCEL"), news("cancelled")),
    (row("CANCELLED"), news("cancelled")),
    (row("CANCEL", failReason="the user changed his mind"), news("cancelled", failure={"code": "cancelled", "message": "the user changed his mind"})),
    (row("unknown"), news(None)),
    (row("QUEUED_UP"), news(None)),
    (row("canceled"), news(None)),
    (row(4), news(None)),
    (row({}), news(None)),
    (row(status=True), news(None)),
    # … and no other value does
    (row("IN_PROGRESS", progress="100%", imageUrl=PICTURE, finishTime=1730621855817), news("running", progress=100)),
    (row("SUBMITTED", progress="100%", imageUrl=PICTURE), news("queued", progress=100)),
    (row("MODAL", imageUrl=PICTURE), news("awaiting_input")),
    (row("NOT_START", failReason="something was wrong"), news("queued")),
    (row("IN_PROGRESS", failReason="[Image denied] no"), news("running")),
    (row("FAILURE", progress="100%", imageUrl=PICTURE), failed("unknown", progress=100)),
    (row("SUCCESS", progress="31%", imageUrl=PICTURE), news("succeeded", progress=31, results=[PICTURE])),
    (row("SUCCESS", failReason="leftover", imageUrl=PICTURE), DONE),
    # A success without an output settles nothing
    (row("SUCCESS"), news(None)),
    (row("SUCCESS", progress="100%", imageUrl=None, imageUrls=[], videoUrls=[]), news(None, progress=100)),
    (row("SUCCESS", imageUrl="soon"), news(None)),
    (row("SUCCESS", imageUrls=[{"thumbnail": PICTURE}]), news(None)),
    (row("SUCCESS", action="DESCRIBE", prompt="", imageUrl=PICTURE), news(None)),
    # Progress
    (row(progress="0%"), news("running", progress=0)),
    (row(progress=""), news("running")),
    (row(progress=None), news("running")),
    (row(progress="Waiting to start"), news("running")),
    (row(progress="45"), news("running", progress=45)),
    (row(progress=45), news("running", progress=45)),
    (row(progress="93.7%"), news("running", progress=94)),
    # Texts
    (row("SUCCESS", action="DESCRIBE", imageUrl=PICTURE, prompt="1 one", properties={"finalPrompt": "1 two"}), news("succeeded", results=["1 two"])),
    (row("SUCCESS", action="DESCRIBE", imageUrl=PICTURE, prompt="1 one"), news("succeeded", results=["1 one"])),
    (row("SUCCESS", action="describe", imageUrl=PICTURE, properties={"finalPrompt": ""}), news("succeeded", results=["a cat"])),
    (row("SUCCESS", action="SHORTEN", properties={"finalPrompt": "cat", "finalZhPrompt": "猫"}), news("succeeded", results=["cat"])),
    (row("SUCCESS", action="SHORTEN", properties={"finalPrompt": "cat\n\n" * 2000}), news("succeeded", results=["cat\n\n" * 2000])),
    (row("SUCCESS", action="SHORTEN", prompt="", properties={"finalPrompt": " \n"}), news(None)),
    # Videos: the list, or the single URL; the mp4 may be in a field for pictures
    (row("SUCCESS", action="VIDEO", videoUrl=VIDEO, imageUrl=PICTURE), news("succeeded", results=[VIDEO])),
    (row("SUCCESS", action="VIDEO", videoUrl=VIDEO, videoUrls=[], imageUrl=PICTURE), news("succeeded", results=[VIDEO])),
    (row("SUCCESS", action="VIDEO", videoUrls=[{"url": VIDEO, "thumbnail": PICTURE}, {"url": VIDEO + "2"}]), news("succeeded", results=[VIDEO, VIDEO + "2"])),
    (row("SUCCESS", action="VIDEO", videoUrl="https://x/one.mp4", videoUrls=[VIDEO, VIDEO + "2"]), news("succeeded", results=[VIDEO, VIDEO + "2"])),
    (row("SUCCESS", action="VIDEO", videoUrls=VIDEO), news("succeeded", results=[VIDEO])),
    (row("SUCCESS", action="VIDEO", imageUrl=VIDEO), news("succeeded", results=[VIDEO])),
    (row("SUCCESS", action="ANIMATED", imageUrl=PICTURE, videoUrls=[VIDEO]), news("succeeded", results=[VIDEO])),
    # Pictures: the single ones, or the grid
    (row("SUCCESS", imageUrl=PICTURE, imageUrls=[]), DONE),
    (row("SUCCESS", imageUrl=PICTURE, imageUrls=None), DONE),
    (row("SUCCESS", imageUrl=PICTURE, imageUrls=[{"url": ""}, {}, None, 7]), DONE),
    (row("SUCCESS", imageUrl="https://x/grid.png", imageUrls=[PICTURE, {"url": PICTURE + "?2"}]), news("succeeded", results=[PICTURE, PICTURE + "?2"])),
    # Ids
    (row(id=1730621826053455), news("running", external_id="1730621826053455")),
    (row(id=None, taskId="t2"), news("running", external_id="t2")),
    (row(id="", taskId=""), news("running", external_id=None)),
    ({"id": "t1", "status": "IN_PROGRESS"}, news("running")),
    ({"id": "t1", "progress": "3%"}, news("queued", progress=3)),
    ({"status": "IN_PROGRESS", "imageUrl": None}, news("running", external_id=None)),
    # A list of one reads like its item
    ([row("SUCCESS", imageUrl=PICTURE)], DONE),
]  # fmt: skip


@pytest.mark.parametrize(("body", "reading"), POLLS)
def test_poll_and_callback_are_read_alike(body, reading):
    fetch = "GET /mj/task/{id}/fetch"
    assert explain(message("poll_response", fetch, 200, body)) == reading
    assert (
        explain(
            message("poll_response", "POST /mj/task/list-by-condition", 200, [body] if isinstance(body, dict) else body)
        )
        == reading
    )
    assert explain(message("callback", "POST {notifyHook}", None, body)) == reading


@pytest.mark.parametrize(
    ("text", "code", "retryable"),
    [
        ("[Banned prompt detected] Sorry!", "content_policy", False),
        ("[Image denied] Sorry!", "content_policy", False),
        ("可能包含敏感词", "content_policy", False),
        ("against our content policy", "content_policy", False),
        ("stopped by Moderation", "content_policy", False),
        ("[Invalid parameter] `--x`", "invalid_input", False),
        ("[invalid_parameter] The prompt word format is incorrect, please check", "invalid_input", False),
        ("[Invalid link!] cannot fetch", "invalid_input", False),
        ("Invalid Form Body", "invalid_input", False),
        ("任务超时", "provider_timeout", True),
        ("执行超时 5 分钟", "provider_timeout", True),
        ("任务提交超时", "provider_timeout", True),
        ("上游任务超时（超过1小时）", "provider_timeout", True),
        ("取消任务", "cancelled", False),
        ("we are at capacity", "overloaded", True),
        ("Too busy", "overloaded", True),
        ("queue full", "overloaded", True),
        ("[Internal Server Error] oh", "provider_error", True),
        ("Failed to process your command", "provider_error", True),
        ("获取渠道信息失败，请联系管理员，渠道ID：7", "provider_error", True),
        ("whatever", "provider_error", True),
        (None, "unknown", False),
        ("", "unknown", False),
    ],
)
def test_failure_is_classified_by_its_text(text, code, retryable):
    update = MJ.read_status(reply(row("FAILURE", failReason=text)))
    assert (update.state, update.failure) == (State.FAILED, Failure(code, text or None, retryable=retryable))


def no(error, code, text=None):
    return {"error": error, "code": code, "message": text}


def said(code, description="文字", result=None, **properties):
    return {"code": code, "description": description, "result": result, "properties": properties}


def relay(description, code=4):
    """Return an error in new-api's own shape. Its description ends in a blank."""
    return {"description": f"{description} ", "type": "upstream_error", "code": code}


def refused_by_gateway(text, code=""):
    return {"error": {"message": text, "type": "new_api_error", "param": "", "code": code}}


IMAGINE, ACTION = "POST /mj/submit/imagine", "POST /mj-fast/mj/submit/action"
UPLOAD, SEED = "POST /mj/submit/upload-discord-images", "GET /mj/task/{id}/image-seed"
TAKEN = news("queued")
OPEN = news("awaiting_input")
ANSWERS = [
    # Taken
    (IMAGINE, 200, said(1, result="t1"), TAKEN),
    (IMAGINE, 201, said(1, result="t1"), TAKEN),
    (IMAGINE, 200, {"code": 1, "result": "t1"}, TAKEN),
    (IMAGINE, 200, {"code": "1", "result": "t1", "properties": None}, TAKEN),
    (IMAGINE, 200, said(1, result=1320098173412546), news("queued", external_id="1320098173412546")),
    (IMAGINE, 200, said(22, result="t1", numberOfQueues=9), TAKEN),
    (IMAGINE, 200, said(1, "In queue, there are 9 tasks ahead", "t1", numberOfQueues=9), TAKEN),
    (ACTION, 200, said(1, result="1,2,3,4"), news("queued", external_id="1,2,3,4")),
    # 21: the window, or in older engines the same task once more
    (ACTION, 200, {"code": 21, "description": "窗口等待", "result": "t1"}, OPEN),
    (ACTION, 200, said(21, result=17, finalPrompt="", remix=True), news("awaiting_input", external_id="17")),
    (ACTION, 200, said(21, result="t1", status="", imageUrl=""), OPEN),
    (ACTION, 200, said(21, result="t1", status="SUCCESS", imageUrl=PICTURE), TAKEN),
    (ACTION, 200, said(21, result="t1", status="IN_PROGRESS"), TAKEN),
    (ACTION, 200, said(21, result="t1", imageUrl="https://xxxx"), TAKEN),
    (ACTION, 200, said(21), no("uncertain", "unreadable", "文字")),
    # Done at once
    (UPLOAD, 200, said(1, result=[PICTURE, PICTURE + "?2"]), news("succeeded", external_id=None, results=[PICTURE, PICTURE + "?2"])),
    (UPLOAD, 200, said(1, result=PICTURE), news("succeeded", external_id=None, results=[PICTURE])),
    (UPLOAD, 200, said(1, result=[]), no("uncertain", "unreadable", "文字")),
    (UPLOAD, 200, said(1, result="t1"), no("uncertain", "unreadable", "文字")),
    (SEED, 200, said(1, result=636646138), news("succeeded", external_id=None, results=["636646138"])),
    (SEED, 200, said(1), no("uncertain", "unreadable", "文字")),
    (SEED, 200, said(3, "任务不存在"), no("refused", "not_found", "任务不存在")),
    (SEED, 400, relay("task_no_found"), no("refused", "not_found", "task_no_found")),
    # Not taken, by the code
    (IMAGINE, 200, said(23, "队列已满", "t1"), no("unavailable", "overloaded", "队列已满")),
    (IMAGINE, 429, relay("the queue is full", 23), no("unavailable", "overloaded", "the queue is full")),
    (IMAGINE, 200, {"code": 24, "description": "banned", "properties": {"bannedWord": "x"}}, no("refused", "content_policy", "banned")),
    (IMAGINE, 200, said(4, "prompt不能为空"), no("refused", "invalid_input", "prompt不能为空")),
    (IMAGINE, 200, said(4, "x", "t1"), no("refused", "invalid_input", "x")),
    (IMAGINE, 200, said(5, "x"), no("uncertain", "provider_error", "x")),
    (IMAGINE, 400, relay("something new", 5), no("uncertain", "provider_error", "something new")),
    (IMAGINE, 200, said(9, "系统异常"), no("unavailable", "provider_error", "系统异常")),
    (IMAGINE, 429, relay("当前分组负载已饱和", 30), no("unavailable", "overloaded", "当前分组负载已饱和")),
    (IMAGINE, 429, relay("come back later", 30), no("unavailable", "overloaded", "come back later")),
    (IMAGINE, 429, relay("come back later", 4), no("unavailable", "rate_limited", "come back later")),
    (IMAGINE, 200, {"success": False, "code": -1, "message": "并发数已达上限"}, no("unavailable", "rate_limited", "并发数已达上限")),
    (IMAGINE, 200, {"success": False, "code": -1, "message": "当前队列已满"}, no("unavailable", "overloaded", "当前队列已满")),
    (IMAGINE, 200, {"success": False, "code": -1}, no("unavailable", "unknown")),
    # 3: no account is available, or no such task exists
    *((f"POST /mj/{path}", 200, said(3, "无可用的账号实例"), no("unavailable", "overloaded", "无可用的账号实例")) for path in ("submit/imagine", "submit/blend", "submit/describe", "submit/shorten", "submit/upload-discord-images", "insight-face/swap")),
    *((f"POST /mj/submit/{verb}", status, said(3, "关联任务不存在或已失效"), no("refused", "not_found", "关联任务不存在或已失效")) for verb in ("action", "change", "simple-change", "modal", "video") for status in (200, 404)),
    (ACTION, 200, said(3, "无可用的账号实例"), no("unavailable", "overloaded", "无可用的账号实例")),
    (ACTION, 404, said(3, "no Account is free"), no("unavailable", "overloaded", "no Account is free")),
    # An unknown code proves nothing, unless there is an id
    (IMAGINE, 200, said(7), no("uncertain", "unreadable", "文字")),
    (IMAGINE, 200, said(25, "余额不足"), no("uncertain", "unreadable", "余额不足")),
    (IMAGINE, 200, said(7, result="t1"), TAKEN),
    (IMAGINE, 200, said(1), no("uncertain", "unreadable", "文字")),
    (IMAGINE, 200, said(1, result=""), no("uncertain", "unreadable", "文字")),
    (IMAGINE, 200, said(22, result={}), no("uncertain", "unreadable", "文字")),
    (IMAGINE, 200, said(1, result=["t1", "t2"]), no("uncertain", "unreadable", "文字")),
    (IMAGINE, 200, said(1, result=True), no("uncertain", "unreadable", "文字")),
    # By new-api's words, with any code
    *((IMAGINE, 400, relay(text), no("refused", "invalid_input", text)) for text in ("prompt_is_required", "custom_id_is_required", "index_is_required", "bind_request_body_failed", "index_parse_failed")),
    (IMAGINE, 400, relay("quota_not_enough"), no("account", "insufficient_credit", "quota_not_enough")),
    (IMAGINE, 403, relay("quota_not_enough"), no("account", "insufficient_credit", "quota_not_enough")),
    (ACTION, 400, relay("task_not_found"), no("refused", "not_found", "task_not_found")),
    (ACTION, 400, relay("task_status_not_success"), no("unavailable", "provider_error", "task_status_not_success")),
    (ACTION, 400, relay("该任务所属渠道已被禁用"), no("refused", "provider_error", "该任务所属渠道已被禁用")),
    *((IMAGINE, status, relay(text, code), no("uncertain", "provider_error", text)) for text in ("do_request_failed", "unmarshal_response_body_failed", "empty_response_body", "read_response_body_failed") for status, code in ((400, 5), (500, 4))),
    (IMAGINE, 400, relay('do_request_failed Post "x": EOF', 5), no("uncertain", "provider_error", 'do_request_failed Post "x": EOF')),
    (IMAGINE, 400, relay("insert_midjourney_task_failed"), no("uncertain", "provider_error", "insert_midjourney_task_failed")),
    (ACTION, 400, refused_by_gateway("bad: unknown_action:MJ::BOOKMARK::1"), no("refused", "invalid_input", "bad: unknown_action:MJ::BOOKMARK::1")),
    (IMAGINE, 400, relay("something else"), no("refused", "invalid_input", "something else")),
    # By the gateway
    (IMAGINE, 401, refused_by_gateway("无效的令牌"), no("account", "unauthorized", "无效的令牌")),
    (IMAGINE, 401, "Unauthorized", no("account", "unauthorized", "Unauthorized")),
    (IMAGINE, 401, "", no("account", "unauthorized")),
    (IMAGINE, 401, relay("no key"), no("account", "unauthorized", "no key")),
    (IMAGINE, 403, "Forbidden", no("account", "forbidden", "Forbidden")),
    (IMAGINE, 403, relay("your IP is not in the list"), no("account", "forbidden", "your IP is not in the list")),
    (IMAGINE, 404, refused_by_gateway("Invalid URL (POST /mj/submit/imagine)"), no("account", "not_found", "Invalid URL (POST /mj/submit/imagine)")),
    (IMAGINE, 503, refused_by_gateway("无可用渠道", "model_not_found"), no("unavailable", "overloaded", "无可用渠道")),
    (IMAGINE, 500, relay("readObjectStart: expect { or n, but found <"), no("uncertain", "provider_error", "readObjectStart: expect { or n, but found <")),
    (IMAGINE, 500, said(24, "x"), no("uncertain", "provider_error", "x")),
    (IMAGINE, 502, said(1, "x", "t1"), no("uncertain", "provider_error", "x")),
    (IMAGINE, 504, HTML, no("uncertain", "provider_timeout", page(504))),
    (IMAGINE, 408, said(4, "x"), no("uncertain", "provider_timeout", "x")),
    (IMAGINE, 200, HTML, no("uncertain", "unreadable", page(200))),
    (IMAGINE, 200, "", no("uncertain", "unreadable")),
    (IMAGINE, 301, "", no("account", "not_found", MOVED)),
]  # fmt: skip


@pytest.mark.parametrize(("endpoint", "status", "body", "reading"), ANSWERS)
def test_submit_answer_is_classified(endpoint, status, body, reading):
    assert explain(message("submit_response", endpoint, status, body)) == reading
    if "error" in reading:
        assert explain(message("error", endpoint, status, body)) == reading


def test_submit_is_distinguished_from_a_poll_without_its_route():
    told = {
        endpoint: explain(message("error", endpoint, 502, HTML))["error"]
        for endpoint in (
            "POST /mj/submit/*",
            "POST /mj-fast/mj/submit/imagine",
            "POST /mj/insight-face/swap",
            SEED,
            FETCH,
            LIST,
            "",
        )
    }
    assert list(told.values()) == ["uncertain"] * 4 + ["unavailable"] * 3


FETCH, LIST = "GET /mj/task/{id}/fetch", "POST /mj/task/list-by-condition"
SILENCE = [
    (FETCH, 400, relay("task_no_found"), no("not_found", "not_found", "task_no_found")),
    (FETCH, 200, relay("task_no_found"), no("not_found", "not_found", "task_no_found")),
    (FETCH, 404, relay("task_not_found"), no("not_found", "not_found", "task_not_found")),
    (FETCH, 200, "", no("not_found", "not_found")),
    (FETCH, 200, " \n", no("not_found", "not_found")),
    (FETCH, 204, "", no("not_found", "not_found")),
    (FETCH, 204, None, no("not_found", "not_found")),
    (FETCH, 200, None, no("not_found", "not_found")),
    (LIST, 200, [], no("not_found", "not_found")),
    ("GET /mj/image/{id}", 400, {"error": "midjourney_task_not_found"}, no("not_found", "not_found", "midjourney_task_not_found")),
    (FETCH, 404, refused_by_gateway("Invalid URL (GET /mj)"), no("account", "not_found", "Invalid URL (GET /mj)")),
    (FETCH, 404, HTML, no("account", "not_found", page(404))),
    (FETCH, 200, HTML, no("unreadable", "unreadable", page(200))),
    (FETCH, 200, {}, no("unreadable", "unreadable", "{}")),
    (FETCH, 200, [{}], no("unreadable", "unreadable", "[{}]")),
    (FETCH, 200, {"status": "FAILURE"}, no("unreadable", "unreadable", '{"status": "FAILURE"}')),
    (FETCH, 200, said(1, "x", "t1"), no("unreadable", "unreadable", "x")),
    (FETCH, 301, HTML, no("account", "not_found", MOVED)),
    (FETCH, 401, "", no("account", "unauthorized")),
    (FETCH, 403, "Forbidden", no("account", "forbidden", "Forbidden")),
    (FETCH, 429, relay("later", 30), no("unavailable", "rate_limited", "later")),
    (FETCH, 500, relay("do_request_failed", 5), no("unavailable", "provider_error", "do_request_failed")),
    (FETCH, 502, HTML, no("unavailable", "provider_error", page(502))),
    (FETCH, 524, "", no("unavailable", "provider_timeout")),
    (FETCH, 503, row("FAILURE"), no("unavailable", "overloaded", None)),
]  # fmt: skip


@pytest.mark.parametrize(("endpoint", "status", "body", "reading"), SILENCE)
def test_poll_without_a_task_ends_nothing(endpoint, status, body, reading):
    got = explain(message("poll_response", endpoint, status, body))
    if reading["message"] is None and status == 503:
        got["message"] = None  # the excerpt of a body that counts for nothing
    assert got == reading
    assert explain(message("error", endpoint, status, body))["error"] == reading["error"]


def test_callback_without_a_task_is_unreadable():
    for body in ("", "null", "[]", HTML, "{}", '{"status":"SUCCESS"}', json.dumps(said(1, result="t1"))):
        with pytest.raises(Unreadable):
            MJ.read_callback(Callback({}, body.encode()))


@pytest.mark.parametrize(
    ("wait", "headers"), [(5.0, {}), (9.0, {"retry-after": "9"})], ids=["of our own", "of the gateway"]
)
def test_parent_unknown_to_the_gateway_is_retried_soon(wait, headers):
    """The gateway's copy of the parent is up to 15 s late."""
    follow_up = task("action", {"action": "U1"}, inherited={"external_id": "p1", "action": "MJ::1"})
    _, error = drive(MJ.submit(follow_up, HOOK), reply(relay("task_status_not_success"), 400, **headers))
    assert isinstance(error, Unavailable)
    assert error.retry_after == wait


def test_stored_errors_contain_no_callback_url():
    """The provider echoes the URL with its token, and an excerpt of an unreadable answer is stored."""
    shy = {"properties": {"notifyHook": HOOK}}
    escaped = "bad request: " + json.dumps({"notifyHook": HOOK}).replace('"', '\\"')
    for kind, endpoint in (("poll_response", FETCH), ("submit_response", IMAGINE), ("error", ACTION)):
        for status in (200, 400, 500, 502):
            for body in (shy, json.dumps(shy).replace("/", "\\/"), escaped, [shy]):
                told = json.dumps(explain(message(kind, endpoint, status, body)))
                assert "secret-token" not in told, (kind, status, body)


def test_unknown_status_is_reported_as_compared():
    assert MJ.read_status(reply(row("Dreaming"))).unknown_word == "dreaming"
    assert MJ.read_status(reply(row("unknown"))).unknown_word is None
    assert MJ.read_created(reply(said(21, result="t1", status="Dreaming"))).unknown_word == "dreaming"


# Results, previews and actions -----------------------------------------------------------------------------------


def results(status, **fields):
    return MJ.read_status(reply(row(status, **fields))).results


def test_picture_of_a_running_task_is_a_preview():
    assert results("IN_PROGRESS", imageUrl=PICTURE) == (Result("image", PICTURE, role="preview"),)
    assert results("IN_PROGRESS", imageUrl="") == ()
    assert results("SUBMITTED", imageUrl=PICTURE) == ()
    assert results("MODAL", imageUrl=PICTURE) == ()
    assert results("FAILURE", imageUrl=PICTURE) == ()
    assert results("IN_PROGRESS", action="DESCRIBE", imageUrl=PICTURE) == (), "the picture that was given"


def test_preview_with_another_url_changes_nothing():
    """new-api appends a number to the address. The number changes with every query."""
    looks = [results("IN_PROGRESS", imageUrl=f"https://x/mj/image/t1?rand={number}") for number in (17, 18)]
    assert looks[0] == looks[1] == (Result("image", "https://x/mj/image/t1", role="preview"),)
    signed = "https://cdn.example.com/a.png?ex=1&is=2"
    assert results("IN_PROGRESS", imageUrl=signed)[0].url == signed


def test_secondary_outputs_follow_the_main_outputs():
    grid, single, small = "https://x/grid.webp", "https://x/0.png", "https://x/0_s.webp"
    pictures = results("SUCCESS", imageUrl=grid, imageUrls=[{"url": single, "thumbnail": small}])
    assert [(each.kind, each.role, each.url) for each in pictures] == [
        ("image", "result", single),
        ("image", "cover", small),
        ("image", "extra", grid),
    ]
    videos = results("SUCCESS", action="VIDEO", imageUrl=VIDEO, videoUrls=[{"url": VIDEO, "thumbnail": small}])
    assert [(each.kind, each.role, each.url) for each in videos] == [
        ("video", "result", VIDEO),
        ("image", "cover", small),
    ]
    assert results("SUCCESS", imageUrl=VIDEO) == (Result("video", VIDEO),)
    texts = results("SUCCESS", action="SHORTEN", properties={"finalPrompt": "cat", "finalZhPrompt": "猫"})
    assert texts == (Result("text", text="cat"), Result("text", text="猫", role="extra"))


def buttons(*labels):
    return [{"customId": f"MJ::{label}", "emoji": "", "label": label, "type": 2, "style": 2} for label in labels]


def actions(status="SUCCESS", **fields):
    return MJ.read_status(reply(row(status, imageUrl=PICTURE, **fields))).actions


def test_buttons_become_actions_in_order():
    shown = [*buttons("U1", "V1"), {"customId": "MJ::R", "emoji": "🔄", "label": ""}, {"customId": "MJ::X"}]
    assert actions(buttons=shown) == (
        Action("MJ::U1", "U1"),
        Action("MJ::V1", "V1"),
        Action("MJ::R", "🔄"),
        Action("MJ::X", "MJ::X"),
    )
    assert actions(buttons=[{"label": "U1"}, None, 7, {"customId": ""}]) == ()
    for nothing in (None, [], {}, "U1"):
        assert actions(buttons=nothing) == ()
    assert actions("IN_PROGRESS", buttons=buttons("Cancel")) == (), (
        "what is offered before the end is not for follow-ups"
    )


# Requests --------------------------------------------------------------------------------------------------------


def follow_up(operation, given, options=None, *, parent="p1", action=None):
    inherited = {"external_id": parent} | ({"action": action} if action else {})
    return task(operation, given, options, inherited=inherited)


_REMIX = {"channelId": "", "instanceId": "", "modes": [], "remark": "", "remix": True, "remixAutoConsidered": True}
_FILTER = {"accountFilter": _REMIX}
_STATE = {"state": ""}
_TWO = [DATA + "1", DATA + "2"]
_UPSCALE = "MJ::JOB::upsample::2::3dbbd469-36af-4a0f-8f02-df6c579e7011"
_REROLL = "MJ::JOB::reroll::0::1c6dff5e-5632-40c6-9d4c-afb261705313::SOLO"
_TULIP = MESSAGES["submit_request.video"]["body"]["image"]
REQUESTS = {
    "action-no-storage": follow_up("action", {"action": "U2"}, {"enableRemix": False, "state": "<string>", "noStorage": True}, parent="14001934816969359", action=_UPSCALE),
    "action-reroll": follow_up("action", {"action": "🔄"}, parent="1689216801333574", action=_REROLL),
    "action-shorten-result": follow_up("action", {"action": "1"}, parent="1719252589390291", action="MJ::JOB::PromptAnalyzer::1"),
    "action-variation": follow_up("action", {"action": "V3"}, parent="1773314942177684", action="MJ::JOB::variation::3::example"),
    "blend": task("blend", {"images": _TWO}),
    "blend-account-filter": task("blend", {"images": _TWO, "aspect_ratio": "1:1", "bot": "midjourney"}, _FILTER | _STATE),
    "change-upscale": follow_up("change", {"change": "upscale", "index": 1}, _STATE, parent="1320098173412546"),
    "describe": task("describe", {"image": DATA}),
    "imagine-account-filter": task("imagine", {"prompt": "Cat", "bot": "midjourney"}, _FILTER | _STATE | {"base64Array": []}),
    "imagine-best-practices": task("imagine", {"prompt": "Cat"}, _STATE | {"base64Array": []}),
    "imagine-fast-prefix": task("imagine", {"prompt": "Cat", "aspect_ratio": "16:9", "bot": "midjourney", "speed": "fast"}, {"state": "job-000123", "base64Array": [], "accountFilter": {"modes": ["FAST"]}}),
    "imagine-mode-in-body": task("imagine", {"prompt": "Cat", "images": _TWO}, {"mode": "RELAX"} | _STATE),
    "imagine-notify-hook": task("imagine", {"prompt": "Cat"}),
    "imagine-prompt-only": task("imagine", {"prompt": "a paper kite over the hills --v 6.1"}),
    "imagine-remark-filter": task("imagine", {"prompt": "a dog and a ball --v 7 --p m7318879261434052637", "bot": "midjourney"}, {"accountFilter": {"remark": "lzn"}}),
    "simple-change": follow_up("simple_change", {"shorthand": "U2"}, parent="1320098173412546"),
    "upload-discord-images": task("upload", {"images": []}, {"filter": {"channelId": "", "instanceId": "", "remark": ""}}),
    "video": task("video", {"image": _TULIP}),
    "video-client-fields": task("video", {"prompt": "https://example.com/frame.jpg the kite rises", "resolution": "480p"}, {"mode": "fast", "animateMode": "manual"}),
}  # fmt: skip
"""For a recorded request, the task that is sent as exactly that."""


@pytest.mark.parametrize("name", REQUESTS)
def test_task_is_sent_as_recorded(name):
    recorded = MESSAGES[f"submit_request.{name}"]
    hook = recorded["body"].get("notifyHook")
    assert MJ.validate(REQUESTS[name]) == []
    call = MJ.create(REQUESTS[name], hook)
    assert (f"{call.method} {call.path}", call.json) == (recorded["endpoint"], recorded["body"])


def test_every_recorded_request_is_covered():
    recorded = {name.removeprefix("submit_request.") for name in MESSAGES if name.startswith("submit_request.")}
    assert recorded == {*REQUESTS, "modal-prompt", "modal-inpaint-mask", "modal-blank"}


@pytest.mark.parametrize(
    ("wanted", "path", "body"),
    [
        (task("imagine", {"prompt": "p", "images": [DATA, PICTURE], "negative_prompt": "dogs, cats", "seed": 0, "bot": "niji"}), "/mj/submit/imagine", {"prompt": f"{PICTURE} p --no dogs, cats --seed 0", "base64Array": [DATA], "botType": "NIJI_JOURNEY"}),
        (task("imagine", {"prompt": "p", "speed": "turbo"}), "/mj-turbo/mj/submit/imagine", {"prompt": "p"}),
        (task("blend", {"images": _TWO, "aspect_ratio": "2:3", "speed": "relax"}), "/mj-relax/mj/submit/blend", {"base64Array": _TWO, "dimensions": "PORTRAIT"}),
        (task("blend", {"images": _TWO, "aspect_ratio": "3:2"}), "/mj/submit/blend", {"base64Array": _TWO, "dimensions": "LANDSCAPE"}),
        (task("describe", {"image": PICTURE}), "/mj/submit/describe", {"link": PICTURE}),
        (task("shorten", {"prompt": "p", "bot": "niji"}), "/mj/submit/shorten", {"prompt": "p", "botType": "NIJI_JOURNEY"}),
        (follow_up("change", {"change": "reroll"}), "/mj/submit/change", {"taskId": "p1", "action": "REROLL", "index": 1}),
        (follow_up("change", {"change": "variation", "index": 4}), "/mj/submit/change", {"taskId": "p1", "action": "VARIATION", "index": 4}),
        (follow_up("action", {"action": "U1", "speed": "fast"}, action="MJ::1"), "/mj-fast/mj/submit/action", {"taskId": "p1", "customId": "MJ::1"}),
        (task("video", {"image": PICTURE, "last_image": DATA, "prompt": "p", "motion": "high", "resolution": "720p", "loop": True, "count": 2}), "/mj/submit/video", {"image": PICTURE, "endImage": DATA, "prompt": "p", "motion": "high", "videoType": "vid_1.1_i2v_720", "loop": True, "batchSize": 2}),
        (follow_up("video", {"index": 3}), "/mj/submit/video", {"action": "extend", "index": 2, "taskId": "p1"}),
        (follow_up("video", {"prompt": "p", "motion": "high"}), "/mj/submit/video", {"action": "extend", "index": 0, "taskId": "p1", "prompt": "p", "motion": "high"}),
        (task("edits", {"prompt": "p", "image": PICTURE, "mask": DATA}), "/mj/submit/edits", {"prompt": "p", "image": PICTURE, "maskBase64": DATA}),
        (task("upload", {"images": [DATA]}), "/mj/submit/upload-discord-images", {"base64Array": [DATA]}),
        (task("face_swap", {"image": DATA, "target_image": DATA}), "/mj/insight-face/swap", {"sourceBase64": DATA, "targetBase64": DATA}),
        (task("face_swap", {"image": PICTURE, "target_image": DATA}), "/mj/insight-face/swap", {"sourceUrl": PICTURE, "targetBase64": DATA}),
    ],
)  # fmt: skip
def test_request_body_is_mapped(wanted, path, body):
    assert MJ.validate(wanted) == []
    assert (MJ.create(wanted, None).path, MJ.create(wanted, None).json) == (path, body)
    hook = {} if wanted.operation == "upload" else {"notifyHook": HOOK}
    assert MJ.create(wanted, HOOK).json == body | hook


def test_seed_is_requested_once_by_a_free_call():
    (call,), update = drive(MJ.submit(follow_up("image_seed", {}, parent="a/b 1"), HOOK), reply(said(1, result="7")))
    assert (call.method, call.path, call.json) == ("GET", "/mj/task/a%2Fb%201/image-seed", None)
    assert update == Update(state=State.SUCCEEDED, results=(Result("text", text="7"),))


def test_answer_is_read_by_its_operation():
    _, update = drive(MJ.submit(task("upload", {"images": [DATA]}), None), reply(said(1, result=[PICTURE])))
    assert update == Update(state=State.SUCCEEDED, results=(Result("image", PICTURE),))
    _, error = drive(MJ.submit(follow_up("action", {}, action="x"), HOOK), reply(said(3, "任务不存在")))
    assert isinstance(error, Refused)
    _, error = drive(MJ.submit(task("imagine", {"prompt": "p"}), HOOK), reply(said(3, "任务不存在")))
    assert isinstance(error, Unavailable)


def test_key_is_sent_in_both_headers():
    sent = MJ.authorize(MJ.create(task("imagine", {"prompt": "p"}), None), "sk-1").headers
    assert sent == {"Authorization": "Bearer sk-1", "mj-api-secret": "sk-1"}


WRONG = [
    ("imagine", {"prompt": "p"}, {"notifyHook": HOOK}, ["options.notifyHook"]),
    ("imagine", {"prompt": "p"}, {"state": "mine", "taskId": "x"}, ["options.taskId"]),
    ("imagine", {"prompt": "p --ar 1:1", "aspect_ratio": "16:9"}, {}, ["input.aspect_ratio"]),
    ("imagine", {"prompt": "p --aspect 1:1", "aspect_ratio": "16:9"}, {}, ["input.aspect_ratio"]),
    ("imagine", {"prompt": "p --no x --seed 7", "negative_prompt": "x", "seed": 7}, {}, ["input.negative_prompt", "input.seed"]),
    ("imagine", {"prompt": "p --arty", "aspect_ratio": "16:9"}, {}, []),
    ("video", {"prompt": "p"}, {}, ["input.image"]),
    ("video", {"prompt": "p"}, {"image": PICTURE}, []),
    ("video", {"prompt": f"{PICTURE} p"}, {}, []),
    ("video", {"image": PICTURE, "index": 1}, {}, ["input.index"]),
    ("image_seed", {}, {"x": 1}, ["options"]),
    ("cancel", {}, {}, ["operation"]),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "given", "options", "paths"), WRONG)
def test_invalid_input_is_rejected_before_sending(operation, given, options, paths):
    assert [mistake.path for mistake in MJ.validate(task(operation, given, options))] == paths


@pytest.mark.parametrize(
    ("operation", "given", "paths"),
    [
        ("blend", {"images": [DATA]}, ["input.images"]),
        ("blend", {"images": [DATA] * 6}, ["input.images"]),
        ("blend", {"images": [DATA] * 5, "aspect_ratio": "16:9"}, ["input.aspect_ratio"]),
        ("blend", {"images": [DATA] * 5, "aspect_ratio": "3:2"}, []),
        ("imagine", {"prompt": "p", "images": ["iVBORw0KGgo="]}, ["input.images.0"]),
        ("simple_change", {"shorthand": "U5"}, ["input.shorthand"]),
        ("simple_change", {"shorthand": "R"}, []),
        ("change", {"change": "zoom"}, ["input.change"]),
        ("change", {"change": "upscale", "index": 5}, ["input.index"]),
        ("video", {"image": PICTURE, "count": 3}, ["input.count"]),
        ("image_seed", {"prompt": "p"}, ["input.prompt"]),
        ("face_swap", {"image": PICTURE}, ["input.target_image"]),
    ],
)
def test_schema_accepts_valid_input_only(operation, given, paths):
    found = Schema(FAMILY.operations[operation].input).mistakes(given, below="input")
    assert [mistake.path for mistake in found] == paths


def test_operations_state_parent_and_deadline():
    assert {name: known.parent for name, known in FAMILY.operations.items() if known.parent} == {
        "action": "required",
        "change": "required",
        "simple_change": "required",
        "image_seed": "required",
        "video": "optional",
    }
    jobs = {known.deadline for name, known in FAMILY.operations.items() if name not in Proxy.facts.synchronous}
    assert jobs == {DEADLINE} == {75 * 60}
    assert {name for name, known in FAMILY.operations.items() if known.answer is None} == MJ.facts.synchronous
    assert MJ.facts.typical_seconds.keys() == FAMILY.operations.keys() - MJ.facts.synchronous


# Follow-ups ------------------------------------------------------------------------------------------------------

GRID = (Action("MJ::U1", "U1"), Action("MJ::U2", "U2"), Action("MJ::R", "🔄"), Action("a", "Twin"), Action("b", "twin"))


def parent(**more):
    done = {"state": State.SUCCEEDED, "external_id": "p1", "next_actions": GRID}
    return dataclasses.replace(task("imagine", {"prompt": "a cat"}), **(done | more))


@pytest.mark.parametrize(
    ("wanted", "action"), [("MJ::U2", "MJ::U2"), ("U2", "MJ::U2"), ("u2", "MJ::U2"), ("🔄", "MJ::R"), ("b", "b")]
)
def test_action_must_be_a_button_of_the_parent(wanted, action):
    inherited = MJ.from_parent(task("action", {"action": wanted}), parent())
    assert inherited == {"external_id": "p1", "prompt": "a cat", "action": action}


@pytest.mark.parametrize(
    ("wanted", "offered", "words"),
    [
        ("MJ::JOB::upsample::9::x", GRID, "there are "),
        ("upscale", (*GRID, Action("c", "Upscale (Subtle)")), "did you mean 'Upscale (Subtle)'"),
        ("TWIN", GRID, "2 actions are labelled 'TWIN': give the id of one"),
        ("U1", (), "there are none"),
    ],
)
def test_unknown_action_lists_the_known_ones(wanted, offered, words):
    (mistake,) = MJ.from_parent(task("action", {"action": wanted}), parent(next_actions=offered))
    assert isinstance(mistake, Mistake)
    assert mistake.path == "input.action"
    assert words in mistake.message


def test_follow_up_inherits_the_prompt():
    first = MJ.from_parent(task("change", {"change": "upscale"}), parent())
    second = task("change", {"change": "upscale"}, external_id="p2", inherited=first)
    assert MJ.from_parent(task("image_seed"), second) == {"external_id": "p2", "prompt": "a cat"}
    wide = parent(input={"prompt": "a cat", "aspect_ratio": "16:9"})
    assert MJ.from_parent(task("image_seed"), wide) == {"external_id": "p1", "prompt": "a cat --ar 16:9"}


def test_parent_without_a_job_is_rejected():
    (mistake,) = MJ.from_parent(task("action", {"action": "U1"}), parent(external_id=None))
    assert mistake.path == "parent_id"


# The window ------------------------------------------------------------------------------------------------------


def waiting(given=None, **more):
    return task("action", given or {"action": "x"}, external_id="1689228047868174", **more)


@pytest.mark.parametrize("name", ["modal-prompt", "modal-inpaint-mask"])
def test_modal_input_is_sent_as_recorded(name):
    recorded = MESSAGES[f"submit_request.{name}"]
    given = {"prompt": "Cat"} | ({"mask": DATA} if "maskBase64" in recorded["body"] else {})
    (call,), update = drive(MJ.send_input(waiting(), given), reply(said(1, result="1689228047868174")))
    assert (f"{call.method} {call.path}", call.json) == (recorded["endpoint"], recorded["body"])
    assert call.creates
    assert update == Update(state=State.SUBMITTED, external_id="1689228047868174")


def test_prompt_is_always_sent():
    handed_down = waiting({"action": "x", "speed": "fast"}, inherited={"prompt": "a cat"})
    (call,), _ = drive(MJ.send_input(handed_down, {"mask": DATA}), reply(said(1, result="1")))
    assert (call.path, call.json["prompt"]) == ("/mj-fast/mj/submit/modal", "a cat")
    own = task("imagine", {"prompt": "a dog"}, external_id="1")
    (call,), _ = drive(MJ.send_input(own, {}), reply(said(1, result="1")))
    assert call.json == {"taskId": "1", "prompt": "a dog"}
    calls, error = drive(MJ.send_input(waiting(), {"mask": DATA}))
    assert calls == []
    assert isinstance(error, Refused)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (reply(said(3, "关联任务不存在")), Refused),
        (reply(said(4, "x")), Refused),
        (reply(relay("quota_not_enough"), 400), AccountProblem),
        (reply(said(23)), Unavailable),
        (reply(HTML), Uncertain),
    ],
)
def test_modal_input_can_be_refused(answer, outcome):
    _, error = drive(MJ.send_input(waiting(), {"prompt": "p"}), answer)
    assert isinstance(error, outcome)


# Several at once -------------------------------------------------------------------------------------------------


def known(external_id):
    return task("imagine", {"prompt": "p"}, external_id=external_id)


def test_single_task_is_polled_alone_and_many_in_one_request():
    (call,), update = drive(MJ.poll(known("a/b ?1")), reply(row(id="a/b ?1")))
    assert (call.method, call.path, call.creates) == ("GET", "/mj/task/a%2Fb%20%3F1/fetch", False)
    assert update.state is State.RUNNING
    many = [known(str(number)) for number in range(MJ.facts.batch_size)]
    rows = [row("SUCCESS", id=each.external_id, imageUrl=PICTURE) for each in reversed(many)]
    (call,), found = drive(MJ.poll_many(many), reply(rows))
    assert (call.method, call.path, call.creates) == ("POST", "/mj/task/list-by-condition", False)
    assert call.json == {"ids": [each.external_id for each in many]}
    assert {external_id: update.state for external_id, update in found.items()} == {
        each.external_id: State.SUCCEEDED for each in many
    }


def test_task_missing_from_a_list_is_not_reported():
    _, found = drive(MJ.poll_many([known("1"), known("2")]), reply([row(id="2"), row(id="3"), {}, None, "x"]))
    assert list(found) == ["2"]


@pytest.mark.parametrize(
    "answer",
    [reply([]), reply("null"), reply(""), reply("", 204), reply(refused_by_gateway("Invalid URL (POST /mj)"), 404)],
)
def test_empty_list_reports_no_task(answer):
    _, found = drive(MJ.poll_many([known("1"), known("2")]), answer)
    assert found == {}


@pytest.mark.parametrize("answer", [reply(HTML), reply(HTML, 502), reply("", 401), reply({"code": 1})])
def test_unreadable_list_reports_nothing(answer):
    _, error = drive(MJ.poll_many([known("1"), known("2")]), answer)
    assert isinstance(error, UpstreamError)
    assert not isinstance(error, NotFound)


@pytest.mark.parametrize("order", [1, -1])
def test_most_advanced_row_of_an_id_counts(order):
    """new-api writes a second row when a modal window is answered, and leaves the first one unchanged."""
    rows = [row("MODAL"), row("SUBMITTED", progress="0%")][::order]
    _, found = drive(MJ.poll_many([known("t1"), known("t2")]), reply(rows))
    assert found["t1"].state is State.SUBMITTED
    rows = [row("SUBMITTED"), row("SUCCESS", imageUrl=PICTURE)][::order]
    _, found = drive(MJ.poll_many([known("t1"), known("t2")]), reply(rows))
    assert found["t1"].state is State.SUCCEEDED


FOUR = known("1,2")


def together(*rows):
    (call,), update = drive(MJ.poll(FOUR), reply(list(rows)))
    assert (call.path, call.json) == ("/mj/task/list-by-condition", {"ids": ["1", "2"]})
    return update


def test_jobs_behind_one_id_end_when_all_end():
    one = row("SUCCESS", id="1", imageUrl=PICTURE, progress="100%", buttons=buttons("U1"))
    other = row("SUCCESS", id="2", imageUrl=PICTURE + "?2", progress="100%", buttons=buttons("U1"))
    half = together(one, row(id="2", progress="40%", imageUrl="https://x/preview.png"))
    assert (half.state, half.external_id, half.progress, half.actions) == (State.RUNNING, "1,2", 70, ())
    assert half.results == (Result("image", "https://x/preview.png", role="preview", item="2"),)
    whole = together(other, one)
    assert (whole.state, whole.external_id, whole.progress) == (State.SUCCEEDED, "1,2", 100)
    assert [(each.url, each.item) for each in whole.results] == [(PICTURE, "1"), (PICTURE + "?2", "2")]
    assert whole.actions == (Action("1 MJ::U1", "1: U1"), Action("2 MJ::U1", "2: U1"))


@pytest.mark.parametrize(
    ("rows", "state"),
    [
        ([row("SUBMITTED", id="1"), row("", id="2")], State.SUBMITTED),
        ([row("SUBMITTED", id="1")], State.SUBMITTED),
        ([row("FAILURE", id="1")], State.RUNNING),
        ([row("Dreaming", id="1")], None),
        ([row("FAILURE", id="1"), row("Dreaming", id="2")], State.RUNNING),
        ([row("FAILURE", id="1"), row("SUCCESS", id="2", imageUrl=PICTURE)], State.SUCCEEDED),
        ([row("FAILURE", id="1", failReason="x"), row("CANCEL", id="2")], State.FAILED),
        ([row("CANCEL", id="1"), row("CANCEL", id="2")], State.CANCELLED),
    ],
)
def test_updates_of_several_jobs_are_combined(rows, state):
    update = together(*rows)
    assert update.state is state
    assert (update.failure is not None) == (state is State.FAILED)
    assert len([each for each in update.results if each.role == "result"]) == (state is State.SUCCEEDED)


def test_several_unknown_jobs_are_not_found():
    _, error = drive(MJ.poll(FOUR), reply([]))
    assert isinstance(error, NotFound)


def test_several_jobs_are_part_of_a_batch_query():
    (call,), found = drive(MJ.poll_many([known("7"), FOUR]), reply([row(id="2"), row(id="7"), row(id="1")]))
    assert call.json == {"ids": ["7", "1", "2"]}
    assert {external_id: update.state for external_id, update in found.items()} == {
        "7": State.RUNNING,
        "1,2": State.RUNNING,
    }


def test_action_on_one_of_several_jobs_targets_it():
    several = parent(external_id="1,2", next_actions=(Action("1 MJ::U1", "1: U1"), Action("2 MJ::U1", "2: U1")))
    inherited = MJ.from_parent(task("action", {"action": "2: u1"}), several)
    assert inherited == {"external_id": "2", "prompt": "a cat", "action": "MJ::U1"}
    (mistake,) = MJ.from_parent(task("image_seed"), several)
    assert mistake.path == "parent_id"


def test_gateway_has_no_cancel():
    assert not isinstance(MJ, CanCancel)


def test_same_message_twice_gives_the_same_update():
    done = reply(row("SUCCESS", imageUrl=PICTURE, buttons=buttons("U1")))
    assert MJ.read_status(done) == dataclasses.replace(MJ.read_status(done))
    assert MJ.read_callback(Callback({}, done.body)) == [MJ.read_status(done)]
