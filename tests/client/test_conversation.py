"""What the client says and understands, without a network and with a clock that the test holds."""

import itertools
import json
from collections.abc import Generator
from typing import Any

import httpx
import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from service.client import Problem, StillOpen, Task, UnexpectedAnswer, Unreachable, conversation
from service.client.conversation import LONGEST_POLL, PATIENCE, PAUSES, RESTART, Ask, Pause, Reply
from service.client.events import LARGEST, Block, Parser, TooLarge
from service.client.following import Following

ID = "01a1fdfb-6590-78b2-9217-c49a4ce509c0"
AWAY = Unreachable("nobody there")


def a_task(state: str = "running", **more: Any) -> dict[str, Any]:
    return {"id": ID, "family": "runway", "operation": "text_to_video", "state": state, "sequence": 3, **more}


def ok(document: Any, status: int = 200) -> Reply:
    return Reply(status, {"content-type": "application/json"}, json.dumps(document).encode())


def problem(status: int, code: str = "unavailable", retry_after: str = "", **more: Any) -> Reply:
    headers = {"content-type": "application/problem+json"} | ({"retry-after": retry_after} if retry_after else {})
    return Reply(status, headers, json.dumps({"status": status, "code": code, "title": "No", **more}).encode())


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def talk(
    clock: Clock, talk: Generator[Any, Any, Any], *answers: Reply | Unreachable
) -> tuple[Any, list[Ask], list[float]]:
    """Hold a conversation: give what came out, what was asked, and the pauses. A question takes as long as it may wait."""
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
                clock.now += step.waits if isinstance(answer, Reply) and answer.status == 200 else 0
    except StopIteration as end:
        return end.value, asks, pauses
    except Exception as error:  # noqa: BLE001 - it is looked at by the test
        return error, asks, pauses


# ── one question ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_submit_whose_answer_got_lost_is_repeated_with_the_same_key() -> None:
    clock = Clock()
    lost = (AWAY, problem(503), Reply(502, {}, b"<html>"), ok(a_task("queued"), 202))
    task, asks, pauses = talk(clock, conversation.submit(clock, {"family": "runway", "input": None}, None), *lost)
    assert task.id == ID
    assert asks[0].document == {"family": "runway"}
    assert len({ask.headers["Idempotency-Key"] for ask in asks}) == 1
    assert len(asks) == 4
    assert pauses == list(PAUSES[:3])


def test_every_submit_has_a_key_of_its_own_or_the_one_that_was_given() -> None:
    keys = set()
    for given_key in (None, None, "mine"):
        clock = Clock()
        _, [ask], _ = talk(clock, conversation.submit(clock, {}, given_key), ok(a_task(), 202))
        keys.add(ask.headers["Idempotency-Key"])
    assert len(keys) == 3
    assert "mine" in keys


def test_who_stays_away_is_given_up() -> None:
    clock = Clock()
    error, asks, pauses = talk(clock, conversation.get(clock, ID), AWAY)
    assert error is AWAY
    assert PATIENCE - PAUSES[-1] <= sum(pauses) <= PATIENCE
    assert len(asks) == len(pauses) + 1


def test_the_server_says_when_to_come_again() -> None:
    clock = Clock()
    _, _, pauses = talk(
        clock, conversation.get(clock, ID), problem(503, retry_after="5"), problem(429, retry_after="1"), ok(a_task())
    )
    assert pauses == [5.0, 1.0]
    error, asks, pauses = talk(clock, conversation.get(clock, ID), problem(503, retry_after="3600"))
    assert (type(error), len(asks), pauses) == (Problem, 1, [])
    assert error.retry_after == 3600


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 422, 500])
def test_what_is_refused_is_refused_at_once(status: int) -> None:
    mistakes = [{"path": "input.promt", "message": "unknown field"}]
    refused = problem(status, "invalid_request", detail="input.promt: unknown field", errors=mistakes)
    clock = Clock()
    error, asks, _ = talk(clock, conversation.submit(clock, {}, None), refused)
    assert len(asks) == 1
    assert (error.status, error.code, error.detail) == (status, "invalid_request", "input.promt: unknown field")
    assert [(each.path, each.message) for each in error.errors] == [("input.promt", "unknown field")]
    assert "input.promt" in str(error)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'"x"', b'{"detail":"x"}', b'{"code":"x","errors":[1]}', b"\xff"]
)
def test_what_is_no_problem_is_told_apart(body: bytes) -> None:
    clock = Clock()
    error, _, _ = talk(clock, conversation.get(clock, ID), Reply(404, {}, body))
    assert isinstance(error, UnexpectedAnswer)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b"{}", b'{"id":1}', b'{"state":"x","id":"x"}'])
def test_what_is_no_task_is_told_apart(body: bytes) -> None:
    clock = Clock()
    for asked in (conversation.get(clock, ID), conversation.wait(clock, ID, 10)):
        error, _, _ = talk(clock, asked, Reply(200, {}, body))
        assert isinstance(error, UnexpectedAnswer)
    error, _, _ = talk(clock, conversation.page_of_tasks(clock, {}, None), Reply(200, {}, body))
    assert isinstance(error, UnexpectedAnswer)


@pytest.mark.parametrize("name", ["../keys", "x", "", f"{ID}/cancel", f"{ID}?"])
def test_an_id_cannot_lead_elsewhere(name: str) -> None:
    clock = Clock()
    error, asks, _ = talk(clock, conversation.get(clock, name), ok(a_task()))
    assert isinstance(error, ValueError)
    assert asks == []


# ── waiting ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_waiting_goes_on_until_the_end() -> None:
    clock = Clock()
    task, asks, _ = talk(clock, conversation.wait(clock, ID, None), *[ok(a_task())] * 5, ok(a_task("failed")))
    assert (task.state, len(asks)) == ("failed", 6)
    assert {ask.params["wait"] for ask in asks} == {LONGEST_POLL}


def test_waiting_survives_a_restart_and_not_for_ever() -> None:
    clock = Clock()
    task, asks, pauses = talk(clock, conversation.wait(clock, ID, None), *[AWAY] * 30, ok(a_task("succeeded")))
    assert (task.state, len(asks)) == ("succeeded", 31)
    assert PATIENCE < sum(pauses) < RESTART
    error, _, pauses = talk(clock, conversation.wait(clock, ID, None), AWAY)
    assert error is AWAY
    assert RESTART - PAUSES[-1] <= sum(pauses) <= RESTART


@pytest.mark.parametrize("seconds", [0, 0.4, 7, 100.5])
@pytest.mark.parametrize("answer", [ok(a_task()), AWAY, problem(503, retry_after="5")])
def test_waiting_ends_in_time(seconds: float, answer: Any) -> None:
    clock = Clock()
    error, asks, _ = talk(clock, conversation.wait(clock, Task.read(a_task("queued")), seconds), answer)
    assert isinstance(error, StillOpen)
    assert isinstance(error, TimeoutError)
    assert seconds - 5 <= clock.now <= seconds
    assert error.task is not None
    assert error.task.state == ("queued" if answer is AWAY or answer.status == 503 else "running")
    assert asks[-1].waits <= 5 or answer.status == 200
    assert all(ask.waits == ask.params["wait"] for ask in asks)


def test_who_has_ended_is_asked_for_once() -> None:
    clock = Clock()
    task, asks, _ = talk(clock, conversation.wait(clock, ID, 0), ok(a_task("succeeded")))
    assert (task.ended, task.succeeded, len(asks)) == (True, True, 1)


def test_a_list_is_asked_for_by_its_filters() -> None:
    clock = Clock()
    filters = {"state": ["running", "queued"], "family": None, "labels": {"a": "b", "c": "d"}}
    document = {"tasks": [a_task()], "next": None}
    page, [ask], _ = talk(clock, conversation.page_of_tasks(clock, filters, "x"), ok(document))
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
def test_a_stream_is_read_the_same_however_it_is_cut(cuts: list[int]) -> None:
    parser, found = Parser(), []
    places = [0, *sorted(cuts), len(STREAM)]
    for begin, end in itertools.pairwise(places):
        found += parser.feed(STREAM[begin:end])
    assert found == BLOCKS
    assert (parser.retry, parser.last_id) == (1.5, "")


@given(st.binary(max_size=200))
def test_nothing_breaks_the_parser(anything: bytes) -> None:
    list(Parser().feed(anything))


def test_an_event_without_end_is_given_up() -> None:
    for piece in (b"x" * 1024 * 1024, b"data: " + b"x" * 1024 * 1024 + b"\n"):
        parser = Parser()
        with pytest.raises(TooLarge):  # noqa: PT012 - somewhere on the way
            for _ in range(LARGEST // len(piece) + 2):
                list(parser.feed(piece))


# ── a stream over many connections ─────────────────────────────────────────────────────────────────────────────────

HEAD = Reply(200, {"content-type": "text/event-stream"}, b"")


def an_event(number: int, state: str = "running") -> bytes:
    document = {"id": str(number), "type": f"task.{state}", "sequence": number, "task_id": ID, "data": a_task(state)}
    return f"id: {number}\nevent: task.{state}\ndata: {json.dumps(document)}\n\n".encode()


def test_it_goes_on_after_the_last_event_that_was_dealt_with() -> None:
    following = Following(Clock(), ID, None, ())
    assert "Last-Event-ID" not in following.connect().headers
    assert following.opened(HEAD) is None
    events = following.take(an_event(1) + an_event(2))
    assert next(events).id == "1"
    events.close()  # in the middle of the second
    following.broke(AWAY)
    assert "Last-Event-ID" not in following.connect().headers  # the first was not done with either
    assert [event.id for event in following.take(an_event(1) + an_event(2)[:20])] == ["1"]
    following.broke(None)
    assert following.connect().headers["Last-Event-ID"] == "1"
    assert [event.id for event in following.take(an_event(2))] == ["2"]
    assert following.connect().headers["Last-Event-ID"] == "2"


def test_the_cursor_of_a_feed_counts_before_any_event() -> None:
    following = Following(Clock(), None, None, ["task.succeeded"])
    assert list(following.take(b"retry: 700\nid: 41\n\n:\n\n")) == []
    assert following.broke(None) == 0.7
    ask = following.connect()
    assert (ask.headers["Last-Event-ID"], ask.params) == ("41", {"type": ["task.succeeded"]})


def test_it_is_over_at_the_end() -> None:
    following = Following(Clock(), ID, "5", ())
    assert following.connect().headers["Last-Event-ID"] == "5"
    assert [event.id for event in following.take(an_event(6, "succeeded") + b"event: end\ndata: {}\n\n")] == ["6"]
    assert following.over
    assert following.broke(None) == 0
    again = Following(Clock(), ID, "6", ())
    assert again.opened(Reply(204, {}, b"")) == 0
    assert again.over


def test_it_comes_again_and_not_for_ever() -> None:
    clock = Clock()
    following = Following(clock, ID, None, ())
    assert [following.broke(AWAY) for _ in range(6)] == [*PAUSES, PAUSES[-1]]
    assert following.opened(problem(503, retry_after="5")) == 5
    list(following.take(b":\n\n"))
    assert following.broke(AWAY) == PAUSES[0]
    clock.now += RESTART + 1
    with pytest.raises(Unreachable):
        following.broke(AWAY)


def test_what_is_refused_for_good_is_told() -> None:
    following = Following(Clock(), ID, None, ())
    with pytest.raises(Problem, match="not_found"):
        following.opened(problem(404, "not_found", detail="there is no task with this id"))
    with pytest.raises(UnexpectedAnswer):
        following.opened(Reply(200, {"content-type": "text/html"}, b"<html>"))
    with pytest.raises(UnexpectedAnswer):
        list(following.take(b"data: {}\n\n"))
    with pytest.raises(UnexpectedAnswer):
        list(Following(Clock(), ID, None, ()).take(b"x" * (LARGEST + 1)))


def test_httpx_sends_what_is_meant() -> None:
    """The wire form of the two kinds of values: a list is repeated, and what is None is not sent."""
    assert str(httpx.URL("http://x", params={"state": ["a", "b"]})) == "http://x?state=a&state=b"
