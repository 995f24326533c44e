"""Anthropic: the bodies that are sent, and behaviour that recordings cannot show."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from service.domain.errors import AccountProblem, Refused, Unavailable, Uncertain, UpstreamError
from service.domain.task import Result, State, Update
from service.providers.registry import DIALECTS
from service.providers.wire import Call, Reply
from tests.support.operations import task

RECORDINGS = Path(__file__).parents[1] / "recordings" / "anthropic"
BOTH = ("anthropic/messages", "anthropic/aggregator")
PICTURE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def created(name: str, given: dict[str, Any], operation: str = "chat") -> Call:
    one = task(name, f"anthropic {operation}", given=given)
    assert DIALECTS[name].validate(one) == []
    return DIALECTS[name].create(one, None)


def read(name: str, body: Any, status: int = 200, *, kind: str = "") -> Update | UpstreamError:
    """Read an answer to a submit; an error is an answer like any other."""
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    headers = {"content-type": kind} if kind else {}
    try:
        return DIALECTS[name].read_created(Reply(status, headers, raw, "POST /v1/messages"))
    except UpstreamError as error:
        return error


SENT = {
    "messages/submit_request.text.json": {
        "prompt": "Name three colours.",
        "system": "Be brief.",
        "max_tokens": 1024,
        "model": "claude-sonnet-5-5",
    },
    "messages/submit_request.image.json": {
        "prompt": "What is this?",
        "images": [PICTURE],
        "max_tokens": 300,
        "model": "claude-haiku-5-5",
    },
    "aggregator/submit_request.gateway.json": {
        "messages": [{"role": "user", "content": "Hello, world"}],
        "max_tokens": 1024,
        "model": "claude-sonnet-4-6",
    },
}


@pytest.mark.parametrize("path", SENT)
def test_body_is_the_one_that_is_documented(path: str) -> None:
    message = json.loads((RECORDINGS / path).read_text(encoding="utf-8"))
    name = f"anthropic/{path.partition('/')[0]}"
    call = created(name, SENT[path])
    assert call.json == {
        key: value for key, value in message["body"].items() if key != "system" or "system" in SENT[path]
    }
    sent = {key.lower(): value for key, value in DIALECTS[name].authorize(call, "<key>").headers.items()}
    assert sent == {key.lower(): value for key, value in message["headers"].items()}


def test_image_at_a_url_is_named_by_it() -> None:
    body = created("anthropic/messages", {"prompt": "a", "images": ["https://example.com/a.png"]}).json
    assert body["messages"][0]["content"][0]["source"] == {"type": "url", "url": "https://example.com/a.png"}


def test_tokens_are_counted_without_a_purchase() -> None:
    call = created("anthropic/messages", {"prompt": "a"}, "count_tokens")
    assert "max_tokens" not in call.json
    assert DIALECTS["anthropic/messages"].facts.creating("count_tokens", call).creates is False
    reply = Reply(200, {}, b'{"input_tokens": 12}', "POST /v1/messages/count_tokens")
    assert DIALECTS["anthropic/messages"].read_created(reply).results == (Result("json", text='{"input_tokens":12}'),)


def wrong(kind: str, message: str = "no") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


REFUSALS = {
    "input": (400, wrong("invalid_request_error", "max_tokens: Field required"), Refused, "invalid_input"),
    "policy": (
        400,
        wrong("invalid_request_error", "Output blocked by content filtering policy"),
        Refused,
        "content_policy",
    ),
    "credit": (
        400,
        wrong("invalid_request_error", "Your credit balance is too low"),
        AccountProblem,
        "insufficient_credit",
    ),
    "on hold": (400, wrong("invalid_request_error", "This organization is on hold."), AccountProblem, "forbidden"),
    "disabled": (403, wrong("permission_error", "This organization has been disabled."), AccountProblem, "forbidden"),
    "usage limit": (
        429,
        wrong("rate_limit_error", "You have reached your usage limits. You will regain access on 2027-01-01."),
        AccountProblem,
        "insufficient_credit",
    ),
    "rate limit": (429, wrong("rate_limit_error", "This would exceed the rate limit."), Unavailable, "rate_limited"),
    "overloaded": (529, wrong("overloaded_error", "Overloaded"), Unavailable, "overloaded"),
    "overloaded at a gateway": (529, "<html>", Unavailable, "overloaded"),
    "time-out": (504, wrong("timeout_error"), Uncertain, "provider_timeout"),
    "server": (500, wrong("api_error"), Uncertain, "unknown"),
    "too large": (413, wrong("request_too_large"), Refused, "invalid_input"),
    "error in http 200": (200, wrong("authentication_error"), AccountProblem, "unauthorized"),
    "no channel": (503, {"error": {"code": "model_not_found", "message": "无可用渠道"}}, Unavailable, "overloaded"),
}


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("case", REFUSALS)
def test_refusal_is_read_by_its_type_status_and_text(name: str, case: str) -> None:
    status, body, error, code = REFUSALS[case]
    found = read(name, body, status)
    assert (type(found), getattr(found, "code", None)) == (error, code)


def message(reason: str | None, text: str = "Red.") -> dict[str, Any]:
    blocks = [
        {"type": "thinking", "thinking": "colours"},
        {"type": "text", "text": text},
        {"type": "text", "text": "!"},
    ]
    return {"id": "msg_1", "type": "message", "content": blocks, "stop_reason": reason}


@pytest.mark.parametrize("reason", ["end_turn", "stop_sequence", "max_tokens", "tool_use", "pause_turn"])
def test_message_that_ended_is_one_text(reason: str) -> None:
    found = read("anthropic/messages", message(reason))
    assert isinstance(found, Update)
    assert (found.state, found.external_id) == (State.SUCCEEDED, "msg_1")
    assert [each.text for each in found.results if each.role == "result"] == ["Red.!"]
    beside = [each.text for each in found.results if each.role == "extra"]
    assert beside == ([] if reason in {"end_turn", "stop_sequence"} else [f'{{"stop_reason":"{reason}"}}'])


def test_message_that_outgrew_the_window_fails_and_keeps_its_text() -> None:
    found = read("anthropic/messages", message("model_context_window_exceeded"))
    assert isinstance(found, Update)
    assert found.failure is not None
    assert (found.state, found.failure.code) == (State.FAILED, "provider_error")
    assert [each.text for each in found.results] == ["Red.!"]


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("reason", [None, "reason_of_tomorrow"])
def test_unknown_reason_settles_nothing_and_is_never_sent_again(name: str, reason: str | None) -> None:
    found = read(name, message(reason))
    assert isinstance(found, Update)
    assert (found.state, found.external_id, found.unknown_word) == (None, "msg_1", reason)
    exchange = DIALECTS[name].submit(dataclasses.replace(task(name)), None)
    next(exchange)
    with pytest.raises(Uncertain):
        exchange.send(Reply(200, {}, json.dumps(message(reason)).encode()))


def event(kind: str, **more: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n"


START = event("message_start", message={"id": "msg_1"}) + event("ping")
TEXT = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Red, "})
THOUGHT = event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "colours"})
STREAM = (
    START + THOUGHT + TEXT + TEXT + event("message_delta", delta={"stop_reason": "end_turn"}) + event("message_stop")
)


def test_stream_is_joined_and_uncertain_where_it_is_cut_off() -> None:
    whole = read("anthropic/messages", STREAM)
    assert isinstance(whole, Update)
    assert [each.text for each in whole.results] == ["Red, Red, "]
    for end in range(0, len(STREAM) - 2, 5):
        assert isinstance(read("anthropic/messages", STREAM[:end], kind="text/event-stream"), Uncertain)


def test_stream_that_ends_in_an_error_fails_and_keeps_its_text() -> None:
    stream = START + TEXT + event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    found = read("anthropic/messages", stream, kind="text/event-stream")
    assert isinstance(found, Update)
    assert found.failure is not None
    assert (found.state, found.external_id, found.failure.code) == (State.FAILED, "msg_1", "overloaded")
    assert [each.text for each in found.results] == ["Red, "]


def test_every_call_has_a_version() -> None:
    sent = DIALECTS["anthropic/messages"].authorize(Call(method="GET", path="/v1/models"), "key")
    assert sent.headers == {"anthropic-version": "2023-06-01", "x-api-key": "key"}


BATCH = DIALECTS["anthropic/batches"]
TWO = {
    "requests": [
        {"prompt": "a", "options": {"top_k": 3}},
        {"messages": [{"role": "user", "content": "b"}], "max_tokens": 5},
    ]
}


def result(number: int, kind: str, **more: Any) -> str:
    return json.dumps({"custom_id": f"x-{number}", "result": {"type": kind, **more}})


def one_message(text: str) -> dict[str, Any]:
    return {"id": "msg_1", "content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}


def polled(*lines: str, given: Any = None) -> Update:
    """Poll a batch that has ended, with these lines as its results."""
    wanted = task("anthropic/batches", "anthropic batch", given=given or TWO)
    exchange = BATCH.poll(dataclasses.replace(wanted, external_id="msgbatch_1"))
    assert next(exchange).path == "/v1/messages/batches/msgbatch_1"
    call = exchange.send(Reply(200, body=b'{"id": "msgbatch_1", "processing_status": "ended"}'))
    assert call.path == "/v1/messages/batches/msgbatch_1/results"
    with pytest.raises(StopIteration) as done:
        exchange.send(Reply(200, body="\n".join(lines).encode()))
    update: Update = done.value.value
    return update


def test_batch_has_an_id_of_ours_for_each_request() -> None:
    call = created("anthropic/batches", TWO, "batch")
    first, second = call.json["requests"]
    assert first["custom_id"].rpartition("-")[0] == second["custom_id"].rpartition("-")[0]
    assert [each["custom_id"][-2:] for each in (first, second)] == ["-0", "-1"]
    assert (first["params"]["top_k"], first["params"]["messages"]) == (3, [{"role": "user", "content": "a"}])
    assert (second["params"]["max_tokens"], second["params"]["model"]) == (5, first["params"]["model"])


def test_results_of_a_batch_are_in_the_order_of_its_requests() -> None:
    update = polled(result(1, "succeeded", message=one_message("B")), result(0, "succeeded", message=one_message("A")))
    assert (update.state, update.external_id) == (State.SUCCEEDED, "msgbatch_1")
    assert [(each.item, each.text) for each in update.results] == [("0", "A"), ("1", "B")]


def test_text_of_a_batch_may_contain_other_ends_of_lines() -> None:
    text = "a\u2028b\u2029c"
    line = json.dumps(
        {"custom_id": "x-0", "result": {"type": "succeeded", "message": one_message(text)}}, ensure_ascii=False
    )
    update = polled(f"{line}\r", result(1, "succeeded", message=one_message("B")), "")
    assert [each.text for each in update.results] == [text, "B"]


def test_request_that_failed_is_listed_beside_the_others() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    update = polled(result(0, "succeeded", message=one_message("A")), result(1, "errored", error=error))
    text, beside = update.results
    assert (update.state, text.text, beside.role) == (State.SUCCEEDED, "A", "extra")
    assert json.loads(beside.text or "") == [{"request": 1, "code": "overloaded", "message": "busy"}]


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        ([result(0, "canceled"), result(1, "canceled")], State.CANCELLED),
        ([result(0, "expired"), result(1, "canceled")], State.FAILED),
        ([result(0, "succeeded", message=one_message("A"))], None),
        ([result(0, "succeeded", message=one_message("A")), '{"custom_id": "x-1", "resu'], None),
        (["<html>"], None),
    ],
    ids=["cancelled", "failed", "fewer", "cut", "html"],
)
def test_batch_ends_as_its_results_say(lines: list[str], state: State | None) -> None:
    try:
        update = polled(*lines)
    except UpstreamError:
        assert state is None
    else:
        assert update.state is state


def test_mistake_names_the_request_of_a_batch() -> None:
    wrong = task("anthropic/batches", "anthropic batch", given={"requests": [{"prompt": "a"}, {"system": "b"}]})
    assert [each.path for each in BATCH.validate(wrong)] == ["input.requests[1].prompt"]


def test_lost_batch_is_one_with_as_many_requests() -> None:
    wanted = task("anthropic/batches", "anthropic batch", given=TWO)
    exchange = BATCH.find_lost_jobs(wanted)
    next(exchange)
    listed = [
        {"id": f"b{count}", "created_at": "2026-05-01T12:00:00Z", "request_counts": {"processing": count, "errored": 0}}
        for count in (1, 2)
    ]
    with pytest.raises(StopIteration) as done:
        exchange.send(Reply(200, body=json.dumps({"data": listed, "has_more": False}).encode()))
    assert [(each.external_id, each.may_be(wanted)) for each in done.value.value] == [("b1", False), ("b2", True)]
