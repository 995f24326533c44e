"""A gateway that reports a broken conversation with its provider leaves open whether the job was taken."""

import itertools
import json

import pytest

from service.domain.errors import Refused, Unavailable, Uncertain, UpstreamError
from service.providers.newapi.errors import refusal_in
from service.providers.newapi.lost_answers import is_lost
from service.providers.registry import DIALECTS
from service.providers.wire import Reply
from tests.support.cases import share
from tests.support.operations import OPERATIONS

LOST = [
    "502 Bad Gateway",
    "Bad response status code 502",
    "upstream error: status code: 504",
    "error code: 524",
    "origin returned 522",
    "read tcp 10.0.0.1:443: connection reset by peer",
    'Post "https://api.example.com/v1/images/generations": EOF',
    "unexpected EOF",
    "context deadline exceeded",
    "context canceled",
    "net/http: TLS handshake timeout",
    "read ECONNRESET",
    "ETIMEDOUT",
    "socket hang up",
    "AxiosError: timeout of 60000ms exceeded",
    "HTTPSConnectionPool(host='x', port=443): Read timed out. (read timeout=60)",
    "Remote end closed connection without response",
    "http2: server sent GOAWAY and closed the connection",
    "stream error: stream ID 1; INTERNAL_ERROR",
    "dial tcp 1.2.3.4:443: connect: connection refused",
    "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
    "invalid character '<' looking for beginning of value",
    "Internal Server Error",
    "InternalServiceError",
    "上游请求超时",
    "请求上游失败",
    "网关超时",
    "网络错误",
    "服务器内部错误",
]
ABOUT_THE_INPUT = [
    "failed to download image: connection refused",
    "Failed to fetch the image url: i/o timeout",
    "The video file could not be retrieved: request timed out",
    "下载图片失败：网络错误",
    "Invalid value for timeout: it must be below 600",
    "prompt is required",
    "The prompt violates the content policy (request 502)",
    "cannot unmarshal string into Go struct field Request.duration of type int",
    "width must be one of 480, 500, 504",
]
SHAPES = [
    (200, lambda text: {"code": -1, "message": text}),
    (200, lambda text: {"code": "error", "message": text, "data": None}),
    (200, lambda text: {"error": {"message": text, "type": "server_error", "code": "error"}}),
    (200, lambda text: {"code": 5000, "description": text}),
    (400, lambda text: {"error": {"message": text, "type": "x", "code": "upstream_error"}}),
    (400, lambda text: {"code": "x", "message": text}),
    (422, lambda text: {"detail": text}),
    (200, lambda text: {"code": 0, "message": "failed", "error": {"code": text, "message": text}}),
]
SUBMITTING = sorted({name for name, _ in OPERATIONS})


def submitted(name, status, document):
    """Return what a dialect reads in the answer to a submit."""
    dialect = DIALECTS[name]
    operation = next(wanted for each, wanted in OPERATIONS if each == name).split()[1]
    route = dialect.facts.operations.get(operation) or next(iter(dialect.facts.operations.values()))
    try:
        return dialect.read_created(Reply(status, {}, json.dumps(document).encode(), f"POST {route}"))
    except UpstreamError as error:
        return error


LOST_IN_SHAPES = [*itertools.product(LOST, SHAPES)]


@pytest.mark.parametrize("parts", [5, pytest.param(1, marks=pytest.mark.long)], ids=["some", "all"])
@pytest.mark.parametrize("name", SUBMITTING)
def test_submit_that_lost_the_answer_of_the_provider_is_uncertain(name, parts):
    for text, (status, shape) in share(LOST_IN_SHAPES, parts, name):
        found = submitted(name, status, shape(text))
        assert isinstance(found, Uncertain), (status, shape(text), found)


@pytest.mark.parametrize("number", [408, 425, 499, 500, 502, 504, 520, 522, 524])
@pytest.mark.parametrize("name", ["http_code", "http_status", "httpStatus", "status_code", "code"])
def test_number_of_a_status_means_the_status_under_any_name(name, number):
    answer = Reply(200, {}, json.dumps({"code": -1, "msg": "x", name: number}).encode())
    assert isinstance(refusal_in(answer, creating=True), Uncertain)


@pytest.mark.parametrize("text", ABOUT_THE_INPUT)
def test_text_about_the_input_is_a_refusal(text):
    assert not is_lost(text)
    answer = Reply(400, {}, json.dumps({"error": {"message": text, "code": "x"}}).encode())
    assert isinstance(refusal_in(answer, creating=True), Refused)


@pytest.mark.parametrize("status", [200, 400, 422])
def test_poll_that_lost_the_answer_of_the_provider_is_repeated(status):
    for text in LOST:
        answer = Reply(status, {}, json.dumps({"code": "x", "message": text}).encode())
        assert isinstance(refusal_in(answer, creating=False), Unavailable), text


@pytest.mark.parametrize("code", [4, 5, 9, 23, -1])
@pytest.mark.parametrize("text", ["I/O error on POST request: Read timed out", "read ECONNRESET", "网络异常"])
def test_submit_of_an_engine_that_lost_the_answer_is_uncertain(code, text):
    found = submitted("midjourney/proxy", 200, {"code": code, "description": text})
    assert isinstance(found, Uncertain)


@pytest.mark.parametrize("text", ["The system is busy, try again later", "rate limit", "系统繁忙"])
def test_submit_that_was_turned_away_for_the_load_is_retried(text):
    answer = Reply(200, {}, json.dumps({"code": "error", "message": text}).encode())
    assert isinstance(refusal_in(answer, creating=True), Unavailable)
