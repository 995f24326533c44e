"""The calls of the client without a network, with a clock that the test holds."""

import itertools
import json
from collections.abc import Generator
from typing import Any

import httpx
import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from dovecote import (
    Event,
    Problem,
    Task,
    UnexpectedResponse,
    Unreachable,
    WaitTimeout,
    calls,
    webhook_calls,
)
from dovecote.calls import LONGEST_POLL
from dovecote.protocol import (
    PAUSES,
    RETRY_CONNECTING_FOR,
    RETRY_FOR,
    RETRY_WAITING_FOR,
    Pause,
    Request,
    Response,
    Session,
    refusal,
)
from dovecote.sse import MAX_EVENT, Block, Parser, TooLarge
from dovecote.streaming import EventStream
from dovecote.values import read

ID = "01a1fdfb-6590-78b2-9217-c49a4ce509c0"
AWAY = Unreachable("no response")
REFUSED = Unreachable("connection refused", sent=False)


def a_task(state: str = "running", **more: Any) -> dict[str, Any]:
    return {"id": ID, "family": "runway", "operation": "text_to_video", "state": state, "sequence": 3, **more}


def ok(document: Any, status: int = 200) -> Response:
    return Response(status, {"content-type": "application/json"}, json.dumps(document).encode())


def problem(status: int, code: str = "unavailable", retry_after: str = "", **more: Any) -> Response:
    headers = {"content-type": "application/problem+json"} | ({"retry-after": retry_after} if retry_after else {})
    return Response(status, headers, json.dumps({"status": status, "code": code, "title": "No", **more}).encode())


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def talk(
    clock: Clock, talk: Generator[Any, Any, Any], *answers: Response | Unreachable
) -> tuple[Any, list[Request], list[float]]:
    """Run a call, and return its result, the requests and the pauses. Each request takes as long as it may."""
    given, asks, pauses = list(answers), [], []
    answer: Any = None
    try:
        while True:
            step = talk.send(answer)
            if isinstance(step, Pause):
                pauses.append(step.seconds)
                clock.now += step.seconds
                answer = None
            else:
                asks.append(step)
                answer = given.pop(0) if len(given) > 1 else given[0]
                clock.now += step.waits if isinstance(answer, Response) and answer.status == 200 else 0
    except StopIteration as end:
        return end.value, asks, pauses
    except Exception as error:  # noqa: BLE001 - the test checks it
        return error, asks, pauses


# ── one question ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_submit_without_response_is_repeated_with_the_same_key() -> None:
    clock = Clock()
    lost = (AWAY, problem(503), Response(502, {}, b"<html>"), ok(a_task("queued"), 202))
    task, asks, pauses = talk(clock, calls.submit(Session(clock), {"family": "runway", "input": None}, None), *lost)
    assert task.id == ID
    assert asks[0].document == {"family": "runway"}
    assert len({ask.headers["Idempotency-Key"] for ask in asks}) == 1
    assert len(asks) == 4
    assert pauses == list(PAUSES[:3])


def test_each_submit_has_its_own_key_unless_one_is_given() -> None:
    keys = set()
    for given_key in (None, None, "mine"):
        clock = Clock()
        _, [ask], _ = talk(clock, calls.submit(Session(clock), {}, given_key), ok(a_task(), 202))
        keys.add(ask.headers["Idempotency-Key"])
    assert len(keys) == 3
    assert "mine" in keys


def test_server_without_response_is_given_up() -> None:
    clock = Clock()
    error, asks, pauses = talk(clock, calls.get(Session(clock), ID, 0), AWAY)
    assert error is AWAY
    assert RETRY_FOR - PAUSES[-1] <= sum(pauses) <= RETRY_FOR
    assert len(asks) == len(pauses) + 1


def test_retry_after_sets_the_pause() -> None:
    clock = Clock()
    _, _, pauses = talk(
        clock,
        calls.get(Session(clock), ID, 0),
        problem(503, retry_after="5"),
        problem(429, retry_after="1"),
        ok(a_task()),
    )
    assert pauses == [5.0, 1.0]
    error, asks, pauses = talk(clock, calls.get(Session(clock), ID, 0), problem(503, retry_after="3600"))
    assert (type(error), len(asks), pauses) == (Problem, 1, [])
    assert error.retry_after == 3600


def test_refused_connection_is_given_up_soon_until_the_server_has_responded_once() -> None:
    clock = Clock()
    session = Session(clock)
    for call in (calls.get(session, ID, 0), calls.wait(session, ID, None), calls.wait(session, ID, 100)):
        error, requests, pauses = talk(clock, call, REFUSED)
        assert error is REFUSED
        assert sum(pauses) <= RETRY_CONNECTING_FOR
        assert len(requests) > 1
    talk(clock, calls.get(session, ID, 0), ok(a_task()))
    _, _, pauses = talk(clock, calls.get(session, ID, 0), REFUSED)
    assert RETRY_FOR - PAUSES[-1] <= sum(pauses) <= RETRY_FOR
    _, _, pauses = talk(clock, calls.wait(session, ID, None), REFUSED)
    assert sum(pauses) > RETRY_FOR


def test_retry_for_of_zero_allows_one_attempt() -> None:
    clock = Clock()
    _, requests, _ = talk(clock, calls.get(Session(clock, retry_for=0), ID, 0), AWAY)
    assert len(requests) == 1


ONCE = {
    "send_input": lambda session: calls.send_input(session, ID, {}),
    "retry": lambda session: calls.retry(session, ID, confirm_double_payment=True),
    "create_endpoint": lambda session: webhook_calls.create_endpoint(session, {"url": "http://x"}),
    "rotate_endpoint_secret": lambda session: webhook_calls.rotate_endpoint_secret(session, ID),
    "rotate_webhook_secret": lambda session: webhook_calls.rotate_webhook_secret(session, 60),
    "test_endpoint": lambda session: webhook_calls.test_endpoint(session, ID),
}


@pytest.mark.parametrize("name", ONCE)
@pytest.mark.parametrize(
    ("failure", "attempts"),
    [(AWAY, 1), (problem(503), 1), (problem(502), 1), (Response(504, {}, b""), 1), (REFUSED, 2), (problem(429), 2)],
    ids=["no response", "503", "502", "504 of a proxy", "connection refused", "429"],
)
def test_call_with_an_effect_is_repeated_only_if_it_was_certainly_not_executed(
    name: str, failure: Any, attempts: int
) -> None:
    clock = Clock()
    done = {"id": ID, "url": "http://x", "type": "endpoint.test", "secret": "whsec_x"}
    _, requests, _ = talk(clock, ONCE[name](Session(clock)), failure, ok({**a_task(), **done}))
    assert len(requests) == attempts


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 422, 500])
def test_refusal_is_not_retried(status: int) -> None:
    mistakes = [{"path": "input.promt", "message": "unknown field"}]
    refused = problem(status, "invalid_request", detail="input.promt: unknown field", errors=mistakes)
    clock = Clock()
    error, asks, _ = talk(clock, calls.submit(Session(clock), {}, None), refused)
    assert len(asks) == 1
    assert (error.status, error.code, error.detail) == (status, "invalid_request", "input.promt: unknown field")
    assert [(each.path, each.message) for each in error.errors] == [("input.promt", "unknown field")]
    assert "input.promt" in str(error)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'"x"', b'{"detail":"x"}', b'{"code":"x","errors":[1]}', b"\xff"]
)
def test_error_that_is_no_problem_is_unexpected(body: bytes) -> None:
    clock = Clock()
    error, _, _ = talk(clock, calls.get(Session(clock), ID, 0), Response(404, {}, body))
    assert isinstance(error, UnexpectedResponse)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b"{}", b'{"id":1}', b'{"state":"x","id":"x"}'])
def test_success_that_is_no_task_is_unexpected(body: bytes) -> None:
    clock = Clock()
    for asked in (calls.get(Session(clock), ID, 0), calls.wait(Session(clock), ID, 10)):
        error, _, _ = talk(clock, asked, Response(200, {}, body))
        assert isinstance(error, UnexpectedResponse)
    error, _, _ = talk(clock, calls.list_tasks(Session(clock), {}, None), Response(200, {}, body))
    assert isinstance(error, UnexpectedResponse)


@pytest.mark.parametrize("name", ["../keys", "x", "", f"{ID}/cancel", f"{ID}?"])
def test_id_that_is_no_uuid_is_refused(name: str) -> None:
    clock = Clock()
    error, asks, _ = talk(clock, calls.get(Session(clock), name, 0), ok(a_task()))
    assert isinstance(error, ValueError)
    assert asks == []


# ── waiting ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_wait_repeats_until_the_task_has_ended() -> None:
    clock = Clock()
    task, asks, _ = talk(clock, calls.wait(Session(clock), ID, None), *[ok(a_task())] * 5, ok(a_task("failed")))
    assert (task.state, len(asks)) == ("failed", 6)
    assert {ask.params["wait"] for ask in asks} == {LONGEST_POLL}


def test_wait_outlives_a_restart_but_not_a_lost_server() -> None:
    clock = Clock()
    task, asks, pauses = talk(clock, calls.wait(Session(clock), ID, None), *[AWAY] * 30, ok(a_task("succeeded")))
    assert (task.state, len(asks)) == ("succeeded", 31)
    assert RETRY_FOR < sum(pauses) < RETRY_WAITING_FOR
    error, _, pauses = talk(clock, calls.wait(Session(clock), ID, None), AWAY)
    assert error is AWAY
    assert RETRY_WAITING_FOR - PAUSES[-1] <= sum(pauses) <= RETRY_WAITING_FOR


@pytest.mark.parametrize("seconds", [0, 0.4, 7, 100.5])
@pytest.mark.parametrize("answer", [ok(a_task()), AWAY, problem(503, retry_after="5")])
def test_wait_ends_at_its_timeout(seconds: float, answer: Any) -> None:
    clock = Clock()
    error, asks, _ = talk(clock, calls.wait(Session(clock), read(Task, a_task("queued")), seconds), answer)
    assert isinstance(error, WaitTimeout)
    assert isinstance(error, TimeoutError)
    assert seconds - 5 <= clock.now <= seconds
    assert error.task is not None
    assert error.task.state == ("queued" if answer is AWAY or answer.status == 503 else "running")
    assert asks[-1].waits <= 5 or answer.status == 200
    assert all(ask.waits == ask.params["wait"] for ask in asks)


def test_wait_for_ended_task_sends_one_request() -> None:
    clock = Clock()
    task, asks, _ = talk(clock, calls.wait(Session(clock), ID, 0), ok(a_task("succeeded")))
    assert (task.ended, task.succeeded, len(asks)) == (True, True, 1)


def test_list_sends_its_filters() -> None:
    clock = Clock()
    filters = {"state": ["running", "queued"], "family": None, "labels": {"a": "b", "c": "d"}}
    document = {"tasks": [a_task()], "next": None}
    page, [ask], _ = talk(clock, calls.list_tasks(Session(clock), filters, "x"), ok(document))
    assert ask.params == {"state": ["running", "queued"], "label": ["a=b", "c=d"], "cursor": "x"}
    assert (page.next, [task.id for task in page.items]) == (None, [ID])


# ── events as they come ────────────────────────────────────────────────────────────────────────────────────────────

STREAM = (
    ':hello\r\nretry: 1500\rid: 7\n\nevent: task.running\ndata: {"a":\ndata: "ü\u2028\x85🕊"}\nid: 8\n\n'
    "data:x\r\n\r\nid: \n\nid: a\x00b\nevent: nothing\n\nretry: soon\ndata\n\nunknown: field\ndata: last"
).encode()
BLOCKS = [
    Block("task.running", '{"a":\n"ü\u2028\x85🕊"}', "8"),
    Block("message", "x", "8"),
    Block("message", "", ""),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
@example([])
@example(list(range(len(STREAM))))
def test_stream_is_parsed_the_same_for_any_pieces(cuts: list[int]) -> None:
    parser, found = Parser(), []
    places = [0, *sorted(cuts), len(STREAM)]
    for begin, end in itertools.pairwise(places):
        found += parser.feed(STREAM[begin:end])
    assert found == BLOCKS
    assert (parser.retry, parser.last_id) == (1.5, "")


@given(st.binary(max_size=200))
def test_parser_accepts_any_bytes(anything: bytes) -> None:
    list(Parser().feed(anything))


def test_endless_event_is_refused() -> None:
    for piece in (b"x" * 1024 * 1024, b"data: " + b"x" * 1024 * 1024 + b"\n"):
        parser = Parser()
        with pytest.raises(TooLarge):  # noqa: PT012 - somewhere on the way
            for _ in range(MAX_EVENT // len(piece) + 2):
                list(parser.feed(piece))


# ── a stream over many connections ─────────────────────────────────────────────────────────────────────────────────

HEAD = Response(200, {"content-type": "text/event-stream"}, b"")


def an_event(number: int, state: str = "running") -> bytes:
    document = {"id": str(number), "type": f"task.{state}", "sequence": number, "task_id": ID, "data": a_task(state)}
    return f"id: {number}\nevent: task.{state}\ndata: {json.dumps(document)}\n\n".encode()


def test_stream_continues_after_the_last_processed_event() -> None:
    stream = EventStream(Session(Clock()), ID, None, ())
    assert "Last-Event-ID" not in stream.request().headers
    assert stream.opened(HEAD) is None
    events = stream.feed(an_event(1) + an_event(2))
    assert next(events).id == "1"
    events.close()  # in the middle of the second
    stream.closed(AWAY)
    assert "Last-Event-ID" not in stream.request().headers  # the first was not done with either
    assert [event.id for event in stream.feed(an_event(1) + an_event(2)[:20])] == ["1"]
    stream.closed(None)
    assert stream.request().headers["Last-Event-ID"] == "1"
    assert [event.id for event in stream.feed(an_event(2))] == ["2"]
    assert stream.request().headers["Last-Event-ID"] == "2"


def test_cursor_of_a_feed_counts_before_any_event() -> None:
    stream = EventStream(Session(Clock()), None, None, ["task.succeeded"])
    assert list(stream.feed(b"retry: 700\nid: 41\n\n:\n\n")) == []
    assert stream.closed(None) == 0.7
    ask = stream.request()
    assert (ask.headers["Last-Event-ID"], ask.params) == ("41", {"type": ["task.succeeded"]})


def test_stream_ends_with_the_task() -> None:
    stream = EventStream(Session(Clock()), ID, "5", ())
    assert stream.request().headers["Last-Event-ID"] == "5"
    assert [event.id for event in stream.feed(an_event(6, "succeeded") + b"event: end\ndata: {}\n\n")] == ["6"]
    assert stream.ended
    assert stream.closed(None) == 0
    again = EventStream(Session(Clock()), ID, "6", ())
    assert again.opened(Response(204, {}, b"")) == 0
    assert again.ended


def test_stream_reconnects_but_not_without_end() -> None:
    clock = Clock()
    stream = EventStream(Session(clock), ID, None, ())
    assert [stream.closed(AWAY) for _ in range(6)] == [*PAUSES, PAUSES[-1]]
    assert stream.opened(problem(503, retry_after="5")) == 5
    list(stream.feed(b":\n\n"))
    assert stream.closed(AWAY) == PAUSES[0]
    clock.now += RETRY_WAITING_FOR + 1
    with pytest.raises(Unreachable):
        stream.closed(AWAY)


def test_refused_stream_raises() -> None:
    stream = EventStream(Session(Clock()), ID, None, ())
    with pytest.raises(Problem, match="not_found"):
        stream.opened(problem(404, "not_found", detail="there is no task with this id"))
    with pytest.raises(UnexpectedResponse):
        stream.opened(Response(200, {"content-type": "text/html"}, b"<html>"))
    with pytest.raises(UnexpectedResponse):
        list(stream.feed(b"data: {}\n\n"))
    with pytest.raises(UnexpectedResponse):
        list(EventStream(Session(Clock()), ID, None, ()).feed(b"x" * (MAX_EVENT + 1)))


def test_httpx_repeats_a_parameter_for_each_item() -> None:
    """The client relies on this form of a list."""
    assert str(httpx.URL("http://x", params={"state": ["a", "b"]})) == "http://x?state=a&state=b"


# ── values ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_missing_and_null_fields_get_their_defaults_and_unknown_ones_are_kept() -> None:
    task = read(Task, {**a_task(), "labels": None, "results": None, "progress": None, "brand_new": 1})
    assert (task.labels, task.results, task.progress, task.explanation) == ({}, (), None, "")
    assert task.document["brand_new"] == 1


def test_field_of_the_client_is_not_read_from_the_response() -> None:
    assert read(Task, {**a_task(), "replayed": True}).replayed is False


def test_task_of_an_event_is_read() -> None:
    event = read(Event, {"id": "1", "type": "task.running", "sequence": 3, "task_id": ID, "data": a_task()})
    assert (event.task, event.task_id) == (event.data, ID)


def test_error_quotes_at_most_80_characters_and_escapes_control_characters() -> None:
    error = refusal(Response(502, {}, ("\u202e\x1b[2J\u200b" + "x" * 500).encode()))
    assert not {"\u202e", "\x1b", "\u200b"} & set(str(error))
    assert "x" * 81 not in str(error)
