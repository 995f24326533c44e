"""The table of refusals, row by row: every status, word and text, once as a submit and once as a poll."""

import json

import pytest

from service.domain.errors import CODES, OUTCOMES, Unreadable
from service.domain.task import State
from service.providers.newapi import errors as newapi_errors
from service.providers.read import NOTHING
from service.providers.wire import Reply

RELAY = "relay"
TASK = "task"
HTML = "<html><head><title>502 Bad Gateway</title></head></html>"


def reply(status, body, **headers):
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return Reply(status, headers, raw)


def relay(message, code="", kind="new_api_error"):
    return {"error": {"message": message, "type": kind, "param": "", "code": code}}


def task(code, message=None):
    return {"code": code, "message": code if message is None else message, "data": None}


def say(found):
    return f"{found.outcome}/{found.code}"


ROWS = [
    # status, body, submit, poll
    (400, task("invalid_request", "prompt_empty"), "refused/invalid_input", "refused/invalid_input"),
    (400, task("invalid_request", "violates the content policy"), "refused/content_policy", "refused/content_policy"),
    (400, relay("model name is required (request id: 1)"), "refused/invalid_input", "refused/invalid_input"),
    (413, "", "refused/invalid_input", "refused/invalid_input"),
    (415, relay("unsupported media type"), "refused/invalid_input", "refused/invalid_input"),
    (422, {"detail": "source: no such file"}, "refused/invalid_input", "refused/invalid_input"),
    (422, {"detail": [{"loc": ["body", "width"], "msg": "must be less than 1440", "type": "less_than"}]}, *["refused/invalid_input"] * 2),
    (422, {"detail": [{"loc": ["body"]}, {"msg": "contains sensitive content"}]}, *["refused/content_policy"] * 2),
    (405, relay("method"), "refused/invalid_input", "refused/invalid_input"),
    (400, task("fail_to_fetch_task", '{"error":"Validation of body failed"}'), *["refused/invalid_input"] * 2),
    (400, {"error": "You do not have enough credits to run this task."}, *["account/insufficient_credit"] * 2),
    (400, task("task_not_exist"), "refused/not_found", "not_found/not_found"),
    (200, task("task_not_exist"), "refused/not_found", "not_found/not_found"),
    (500, task("task_not_exist"), "refused/not_found", "not_found/not_found"),
    (400, relay("task_not_exist", "400"), "refused/not_found", "not_found/not_found"),
    (400, task("fail_to_fetch_task", '{"code":"task_not_exist"}'), "refused/not_found", "not_found/not_found"),
    (404, {"code": None, "message": "Task not found", "type": "invalid_request_error"}, "refused/not_found", "not_found/not_found"),
    (404, {"error": "Could not find Task"}, "refused/not_found", "not_found/not_found"),
    (200, {"code": 404, "msg": "任务不存在"}, "refused/not_found", "not_found/not_found"),
    (200, {"code": 400, "msg": "task not found"}, "refused/not_found", "not_found/not_found"),
    (400, {"error": "Could not find Task"}, "refused/not_found", "not_found/not_found"),
    (200, {"code": 400, "message": "任务不存在"}, "refused/not_found", "not_found/not_found"),
    (500, task("task_not_exist", ""), "refused/not_found", "not_found/not_found"),
    (500, {"status": "not_found", "error_code": 10004, "error_type": "task_not_found"}, "refused/not_found", "not_found/not_found"),
    (404, {"error": {"message": "gone"}}, "refused/not_found", "not_found/not_found"),
    (200, relay("Invalid Token"), "account/unauthorized", "account/unauthorized"),
    (500, relay("out of it", "insufficient_user_quota"), *["account/insufficient_credit"] * 2),
    (503, relay("不支持", "convert_request_failed"), "account/provider_error", "unavailable/provider_error"),
    (503, task("read_response_body_failed"), "uncertain/provider_error", "unavailable/provider_error"),
    (503, task("unmarshal_response_body_failed"), "uncertain/provider_error", "unavailable/provider_error"),
    (503, task("insert_task_failed"), "uncertain/provider_error", "unavailable/provider_error"),
    (500, relay("分组 default 下模型 gen4 无可用渠道"), *["unavailable/overloaded"] * 2),
    (500, task("callback_url_empty", "needed"), "refused/invalid_input", "refused/invalid_input"),
    (500, relay("moderation is down"), "uncertain/provider_error", "unavailable/provider_error"),
    (401, relay("Invalid Token"), "account/unauthorized", "account/unauthorized"),
    (401, {"error": {"message": "无效的令牌"}}, "account/unauthorized", "account/unauthorized"),
    (401, HTML, "account/unauthorized", "account/unauthorized"),
    (200, relay("无效的令牌"), "account/unauthorized", "account/unauthorized"),
    (200, {"code": 401, "msg": "no key"}, "account/unauthorized", "account/unauthorized"),
    (402, "", "account/insufficient_credit", "account/insufficient_credit"),
    (403, relay("用户额度不足, 剩余额度: $-0.4", "insufficient_user_quota"), *["account/insufficient_credit"] * 2),
    (403, task("quota_not_enough", "user quota is not enough"), *["account/insufficient_credit"] * 2),
    (403, relay("reserved", "pre_consume_token_quota_failed"), *["account/insufficient_credit"] * 2),
    (403, relay("预扣费额度失败"), *["account/insufficient_credit"] * 2),
    (400, {"code": 4, "description": "quota_not_enough ", "type": "upstream_error"}, *["account/insufficient_credit"] * 2),
    (429, relay("You exceeded it", "insufficient_quota"), *["account/insufficient_credit"] * 2),
    (200, task("quota_not_enough"), *["account/insufficient_credit"] * 2),
    (403, relay("this token has no access to model gen4"), "account/forbidden", "account/forbidden"),
    (403, HTML, "account/forbidden", "account/forbidden"),
    (200, {"code": 403, "message": "model not allowed"}, "account/forbidden", "account/forbidden"),
    (404, relay("Invalid URL (POST /x)", kind="invalid_request_error"), "account/not_found", "account/not_found"),
    (404, HTML, "account/not_found", "account/not_found"),
    (404, "", "account/not_found", "account/not_found"),
    (404, "404 page not found", "account/not_found", "account/not_found"),
    (429, relay("当前分组上游负载已饱和，请稍后再试", "429"), "unavailable/overloaded", "unavailable/overloaded"),
    (429, task("fail_to_fetch_task", "当前分组上游负载已饱和，请稍后再试"), *["unavailable/overloaded"] * 2),
    (429, relay("rate limit"), "unavailable/rate_limited", "unavailable/rate_limited"),
    (429, {"message": "Too Many Requests"}, "unavailable/rate_limited", "unavailable/rate_limited"),
    (429, "", "unavailable/rate_limited", "unavailable/rate_limited"),
    (200, {"code": 429, "msg": "slow down"}, "unavailable/rate_limited", "unavailable/rate_limited"),
    (500, relay("invalid request (request id: 1)", "invalid_request", "comet_api_error"), "refused/invalid_input", "unavailable/provider_error"),
    (500, relay("moderation said no", "invalid_request"), "refused/content_policy", "unavailable/provider_error"),
    (500, relay("not implemented", "convert_request_failed", "rix_api_error"), "account/provider_error", "unavailable/provider_error"),
    (500, relay("not implemented"), "account/provider_error", "unavailable/provider_error"),
    (501, "", "account/provider_error", "unavailable/provider_error"),
    (500, task("get_channel_failed"), "unavailable/overloaded", "unavailable/overloaded"),
    (503, relay("分组 default 下模型 gen4 无可用渠道", "model_not_found"), *["unavailable/overloaded"] * 2),
    (200, task("model_not_found"), "unavailable/overloaded", "unavailable/overloaded"),
    (503, HTML, "uncertain/provider_error", "unavailable/provider_error"),
    (200, {"code": 503, "msg": "later"}, "unavailable/overloaded", "unavailable/overloaded"),
    (500, task("do_request_failed", "请求上游地址失败"), "uncertain/provider_error", "unavailable/provider_error"),
    (500, task("read_response_body_failed"), "uncertain/provider_error", "unavailable/provider_error"),
    (500, task("unmarshal_response_body_failed"), "uncertain/provider_error", "unavailable/provider_error"),
    (500, task("insert_task_failed"), "uncertain/provider_error", "unavailable/provider_error"),
    (400, {"code": 5, "description": "do_request_failed ", "type": "upstream_error"}, "uncertain/provider_error", "unavailable/provider_error"),
    (200, task("do_request_failed"), "uncertain/provider_error", "unavailable/provider_error"),
    (500, {"error": {"message": "string", "type": "server_error"}}, "uncertain/provider_error", "unavailable/provider_error"),
    (500, task("get_task_failed"), "uncertain/provider_error", "unavailable/provider_error"),
    (500, "", "uncertain/provider_error", "unavailable/provider_error"),
    (500, task("channel_not_found"), "refused/provider_error", "unavailable/provider_error"),
    (400, task("task_channel_disable"), "refused/provider_error", "unavailable/provider_error"),
    (400, task("callback_url_empty"), "refused/invalid_input", "refused/invalid_input"),
    (200, relay("empty", "reference_images_empty"), "refused/invalid_input", "refused/invalid_input"),
    (408, "", "uncertain/provider_timeout", "unavailable/provider_timeout"),
    (499, relay("closed"), "uncertain/provider_timeout", "unavailable/provider_timeout"),
    (502, HTML, "uncertain/provider_error", "unavailable/provider_error"),
    (504, HTML, "uncertain/provider_timeout", "unavailable/provider_timeout"),
    (520, "", "uncertain/provider_error", "unavailable/provider_error"),
    (521, "", "unavailable/provider_error", "unavailable/provider_error"),
    (522, "", "uncertain/provider_timeout", "unavailable/provider_timeout"),
    (523, "", "unavailable/provider_error", "unavailable/provider_error"),
    (524, "error code: 524", "uncertain/provider_timeout", "unavailable/provider_timeout"),
    (504, task("fail_to_fetch_task", "upstream 504"), "uncertain/provider_timeout", "unavailable/provider_timeout"),
    (301, "", "account/not_found", "account/not_found"),
    (302, HTML, "account/not_found", "account/not_found"),
    (200, HTML, "uncertain/unreadable", "unreadable/unreadable"),
    (200, "", "uncertain/unreadable", "unreadable/unreadable"),
    (200, '{"code":200,"data":{"task_', "uncertain/unreadable", "unreadable/unreadable"),
    (200, {}, "uncertain/unreadable", "unreadable/unreadable"),
    (200, [], "uncertain/unreadable", "unreadable/unreadable"),
    (200, "null", "uncertain/unreadable", "unreadable/unreadable"),
    (200, {"code": 200, "msg": "成功", "data": None}, "uncertain/unreadable", "unreadable/unreadable"),
    (200, {"code": "success", "message": "", "data": {}}, "uncertain/unreadable", "unreadable/unreadable"),
    (200, {"code": "SUCCESS"}, "uncertain/unreadable", "unreadable/unreadable"),
    (200, {"code": 0}, "uncertain/unreadable", "unreadable/unreadable"),
    (200, {"code": 1}, "uncertain/unreadable", "unreadable/unreadable"),
    (201, {"code": 201}, "uncertain/unreadable", "unreadable/unreadable"),
    (200, {"error": {"message": "who knows"}}, "uncertain/unreadable", "unreadable/unreadable"),
    (200, {"code": 400, "msg": "参数错误"}, "refused/invalid_input", "unavailable/invalid_input"),
    (200, {"code": 400, "msg": "内容违规"}, "refused/content_policy", "unavailable/content_policy"),
    (200, {"code": 400, "message": "", "msg": "something else"}, "refused/provider_error", "unavailable/provider_error"),
    (200, {"code": 500}, "uncertain/provider_error", "unavailable/provider_error"),
    (200, {"code": "error", "message": "Invalid prompt: it is empty", "data": None}, "refused/invalid_input", "unavailable/invalid_input"),
    (200, {"code": False, "message": "no"}, "refused/provider_error", "unavailable/provider_error"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "submit", "poll"), ROWS)
def test_class_by_status_word_and_text(status, body, submit, poll):
    """A refusal may mean different things for a submit and a poll."""
    answer = reply(status, body)
    assert say(newapi_errors.refusal_in(answer, creating=True)) == submit
    assert say(newapi_errors.refusal_in(answer, creating=False)) == poll


@pytest.mark.parametrize(
    ("status", "submit", "poll"),
    [
        (400, "refused", "refused"),
        (401, "account", "account"),
        (403, "account", "account"),
        (404, "refused", "not_found"),
        (408, "uncertain", "unavailable"),
        (429, "unavailable", "unavailable"),
        (500, "uncertain", "unavailable"),
        (502, "uncertain", "unavailable"),
        (503, "unavailable", "unavailable"),
        (504, "uncertain", "unavailable"),
        (524, "uncertain", "unavailable"),
    ],
)
def test_fail_to_fetch_task_is_classified_by_the_status_of_the_gateways_upstream(status, submit, poll):
    answer = reply(status, task("fail_to_fetch_task", "upstream said no"))
    assert newapi_errors.refusal_in(answer, creating=True).outcome == submit
    assert newapi_errors.refusal_in(answer, creating=False).outcome == poll


@pytest.mark.parametrize("creating", [True, False])
@pytest.mark.parametrize("body", ["", HTML, "{}", '{"error":{}}'])
def test_every_status_has_a_class(body, creating):
    """Every status has a class. Only a complete refusal proves that a submit created nothing."""
    for status in range(200, 600):
        found = newapi_errors.refusal_in(reply(status, body), creating=creating)
        assert found.code in CODES
        assert isinstance(found, (Unreadable, *OUTCOMES.values()))
        if creating and (status in {408, 499, 500, 502, 504, 520, 522, 524} or status < 300):
            assert found.outcome == "uncertain"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (relay("no (request id: 20260101)"), "no (request id: 20260101)"),
        (task("invalid_request", "prompt_empty"), "prompt_empty"),
        ({"code": 400, "message": "", "msg": "why"}, "why"),
        ({"description": "quota_not_enough ", "type": "upstream_error", "code": 4}, "quota_not_enough"),
        ({"error": "Validation of body failed", "issues": [{"path": ["videoUri"]}]}, "Validation of body failed"),
        ({"error": "rate_limit_exceeded", "message": "Too many"}, "Too many"),
        ({"detail": "Rate limit exceeded"}, "Rate limit exceeded"),
        ({"success": False, "message": "no"}, "no"),
        ({"error": {"code": "x"}}, '{"error": {"code": "x"}}'),
        (HTML, "HTTP 400, an HTML page: 502 Bad Gateway"),
        ("", None),
        (b"\xff\x00gone", "\ufffdgone"),
    ],
)
def test_provider_messages_are_unchanged(body, message):
    assert newapi_errors.refusal_in(reply(400, body), creating=True).message == message


def test_long_page_is_cut():
    message = newapi_errors.refusal_in(reply(502, "x" * 10_000), creating=True).message
    assert message is not None
    assert len(message) <= 200


@pytest.mark.parametrize(("stated", "seconds"), [("7", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("", None)])
def test_retry_after_is_kept(stated, seconds):
    answer = reply(429, relay("slow"), **{"Retry-After": stated})
    assert newapi_errors.refusal_in(answer, creating=True).retry_after == seconds


@pytest.mark.parametrize(
    ("text", "code", "retryable"),
    [
        ("Content policy violation detected", "content_policy", False),
        ("flagged by MODERATION", "content_policy", False),
        ("safety", "content_policy", False),
        ("sensitive information", "content_policy", False),
        ("risk control", "content_policy", False),
        ("request was blocked", "content_policy", False),
        ("the prompt was rejected: invalid", "content_policy", False),
        ("Banned prompt detected", "content_policy", False),
        ("Image denied", "content_policy", False),
        ("提示词包含敏感词", "content_policy", False),
        ("内容违规", "content_policy", False),
        ("审核不通过", "content_policy", False),
        ("Invalid parameter: quota", "invalid_input", False),
        ("invalid link", "invalid_input", False),
        ("参数错误", "invalid_input", False),
        ("任务已取消", "cancelled", False),
        ("Cancelled by user", "cancelled", False),
        ("upstream timeout", "provider_timeout", True),
        ("Timed out", "provider_timeout", True),
        ("time out", "provider_timeout", True),
        ("任务超时（30分钟）", "provider_timeout", True),
        ("quota exceeded", "insufficient_credit", False),
        ("balance too low", "insufficient_credit", False),
        ("not enough credits", "insufficient_credit", False),
        ("余额不足", "insufficient_credit", False),
        ("额度不足", "insufficient_credit", False),
        ("Rate limit reached", "rate_limited", True),
        ("too many requests", "rate_limited", True),
        ("并发数已达上限", "rate_limited", True),
        ("请求频率过高", "rate_limited", True),
        ("no capacity", "overloaded", True),
        ("server busy", "overloaded", True),
        ("Overloaded", "overloaded", True),
        ("Queue full", "overloaded", True),
        ("上游负载已饱和", "overloaded", True),
        ("队列已满", "overloaded", True),
        ("task failed", "provider_error", True),
        ("生成失败", "provider_error", True),
    ],
)
def test_failure_text_is_classified(text, code, retryable):
    failure = newapi_errors.failure_from_text(text)
    assert (failure.code, failure.message, failure.retryable) == (code, text, retryable)


@pytest.mark.parametrize("text", [None, ""])
def test_missing_text_is_unknown(text):
    failure = newapi_errors.failure_from_text(text)
    assert (failure.code, failure.message, failure.retryable) == ("unknown", None, False)


def test_gateway_status_word_maps_to_a_state():
    said = {word: newapi_errors.STATES[word.lower()] for word in ("NOT_START", "SUBMITTED", "QUEUED", "IN_PROGRESS")}
    assert said == {
        **dict.fromkeys(("NOT_START", "SUBMITTED", "QUEUED"), State.SUBMITTED),
        "IN_PROGRESS": State.RUNNING,
    }
    assert (newapi_errors.STATES["success"], newapi_errors.STATES["failure"]) == (State.SUCCEEDED, State.FAILED)
    assert newapi_errors.STATES["unknown"] is None


def test_error_needs_an_envelope():
    assert newapi_errors.complaint(NOTHING).message is None
    assert newapi_errors.complaint([1]).message is None


def test_runway_issues_name_their_field() -> None:
    body = (
        b'{"error":"Validation of body failed","issues":[{"message":"too long","path":["videoUri"]},{"message":"odd"}]}'
    )
    error = newapi_errors.refusal_in(Reply(400, {}, body), creating=True)
    assert error.message == "Validation of body failed"
    assert str(error) == "Validation of body failed; videoUri: too long; odd"
    for issues in (b"null", b"7", b"[7]", b'[{"path":"x"}]', b'[{"path":[],"message":null}]'):
        assert (
            newapi_errors.refusal_in(Reply(400, {}, b'{"error":"no","issues":%s}' % issues), creating=True).details
            == ()
        )
