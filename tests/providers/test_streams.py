"""Event streams: parsed while they come, wherever they are cut, and the charges that they state."""

import json
import random
from typing import Any

import pytest

from service.providers import stream as stream_module
from service.providers.capabilities import Streams
from service.providers.dialect import Dialect
from service.providers.registry import DIALECTS
from service.providers.stream import Event, Parser, charged_document, events_in
from service.providers.wire import Call, Reply

TEXT = (
    ': hi\r\n\r\ndata: {"a": "ü"}\n\nevent: x\rdata: {"b": 1}\r\rdata: {"type": "y",\ndata: "c": "€"}\r\n\r\n\n\n'
    'data: [1]\n\ndata: {"cut": 1}\n'
)


def test_events_are_the_same_wherever_the_stream_is_cut() -> None:
    whole = Parser().feed(TEXT.encode())
    assert [each.name for each in whole] == ["", "x", "y", ""]
    assert whole == events_in(TEXT)[0][:4]
    body = TEXT.encode()
    for cut in range(1, len(body)):
        parser = Parser()
        assert parser.feed(body[:cut]) + parser.feed(body[cut:]) == whole, cut
    one_by_one = Parser()
    assert [event for byte in body for event in one_by_one.feed(bytes([byte]))] == whole


def test_any_line_ends_are_read_alike_wherever_the_stream_is_cut() -> None:
    chance = random.Random(5)
    for _ in range(1500):
        pieces = [chance.choice(["\r", "\n", "\r\n", "data: 1", "event: x", "é", ":", ""]) for _ in range(12)]
        body = "".join([*pieces, "data: 2\n\n", "data: 3"]).encode()
        cuts = sorted(chance.choices(range(len(body)), k=4))
        parser = Parser()
        parts = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        found = [event for part in parts for event in parser.feed(part)]
        assert found == events_in(body.decode())[0], (body, cuts)


def test_large_event_is_searched_once_in_however_many_parts_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []

    class Counting:
        def search(self, text: str) -> Any:
            searched.append(len(text))
            return pattern.search(text)

        def finditer(self, text: str) -> Any:
            searched.append(len(text))
            return pattern.finditer(text)

    pattern = stream_module._BLANK_LINE
    monkeypatch.setattr(stream_module, "_BLANK_LINE", Counting())
    parser, body = Parser(), b'data: {"a": "' + b"x" * 1_000_000 + b'"}\n\n'
    found = [event for start in range(0, len(body), 1000) for event in parser.feed(body[start : start + 1000])]
    assert len(found) == 1
    assert sum(searched) < 3 * len(body)


@pytest.mark.parametrize(
    ("events", "usage"),
    [
        ([{"choices": []}, {"choices": [], "usage": {"prompt_tokens": 3}}], {"prompt_tokens": 3}),
        ([{"usage": {"prompt_tokens": 1}}, {"usage": {"prompt_tokens": 2}}, {"usage": None}], {"prompt_tokens": 2}),
        ([{"type": "response.completed", "response": {"usage": {"input_tokens": 4}}}], {"input_tokens": 4}),
    ],
    ids=["last event", "several events", "response"],
)
def test_charges_are_those_of_the_last_usage(events: list[Any], usage: dict[str, int]) -> None:
    body = "".join(f"data: {json.dumps(each)}\n\n" for each in events).encode()
    reply = Reply(200, {"Content-Type": "text/event-stream; charset=utf-8"}, body)
    assert charged_document(reply) == {"usage": usage}
    assert charged_document(Reply(200, {}, b'{"usage": {"a": 1}}')) == {"usage": {"a": 1}}


STREAMING = [each for each in DIALECTS.values() if isinstance(each, Streams)]
ODD: list[Any] = [None, [], "text", 3, {}, {"choices": None}, {"choices": [None, 3, {"delta": "x"}]}, {"delta": 5}]


@pytest.mark.parametrize("dialect", STREAMING, ids=[each.facts.key for each in STREAMING])
def test_streaming_dialect_asks_for_a_stream_and_reads_odd_events(dialect: Dialect) -> None:
    assert isinstance(dialect, Streams)
    call = Call(method="POST", path="/x", json={"model": "m"}, creates=True)
    streamed = dialect.streamed(call)
    assert (streamed.json["stream"], streamed.json["model"], streamed.creates) == (True, "m", True)
    assert call.json == {"model": "m"}
    assert dialect.facts.synchronous
    for document in ODD:
        for name in ("", "response.output_text.delta", "error"):
            assert dialect.read_pieces(Event(name, document)) == []


def test_pieces_are_those_of_their_texts() -> None:
    chat, responses = DIALECTS["openai/chat"], DIALECTS["openai/responses-foreground"]
    assert isinstance(chat, Streams)
    assert isinstance(responses, Streams)
    choices = [{"index": 1, "delta": {"content": "a"}}, {"index": 0, "delta": {"role": "assistant", "content": ""}}]
    assert [(each.index, each.text) for each in chat.read_pieces(Event("", {"choices": choices}))] == [(1, "a")]
    delta = {"output_index": 2, "delta": "\ud800b"}
    [piece] = responses.read_pieces(Event("response.output_text.delta", delta))
    assert piece.index == 2
    assert "\ud800" not in piece.text
