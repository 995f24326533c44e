"""Answers that are passed on while the upstream streams them: on real sockets, with a server that the test holds."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx
import pytest

from tests.support.breakage import Server, request_of
from tests.support.doors import KEY, Stand, doors_on_sockets
from tests.support.processes import until
from tests.support.waiting import LIMIT

HEADERS = {"Authorization": f"Bearer {KEY}"}
CHAT: dict[str, Any] = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
RESPONSE: dict[str, Any] = {"model": "gpt-6-luna", "input": "Hi", "stream": True}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def chat_piece(text: str | None, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}
    document = {"id": "chatcmpl-theirs", "model": "gpt-6-luna", "choices": [choice]}
    return b"data: " + json.dumps(document).encode() + b"\n\n"


CHAT_END = (
    chat_piece(None, "stop") + b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}\n\n'
)
CHAT_DONE = CHAT_END + b"data: [DONE]\n\n"


def response_piece(text: str) -> bytes:
    document = {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": text}
    return b"event: response.output_text.delta\ndata: " + json.dumps(document).encode() + b"\n\n"


def response_done(text: str) -> bytes:
    message = {"type": "message", "id": "m", "content": [{"type": "output_text", "text": text}]}
    response = {"id": "resp_theirs", "status": "completed", "output": [{"type": "reasoning", "id": "r"}, message]}
    document = {"type": "response.completed", "response": response}
    return b"event: response.completed\ndata: " + json.dumps(document).encode() + b"\n\n"


class Upstream:
    """An upstream that streams what the test hands it."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.asked: list[dict[str, Any]] = []
        self.url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _, body = (await request_of(reader)).partition(b"\r\n\r\n")
        if not head.startswith(b"POST"):
            return
        self.asked.append(json.loads(body))
        writer.write(HEAD)
        while (piece := await self.pieces.get()) is not None:
            writer.write(piece)
            await writer.drain()

    def say(self, *pieces: bytes) -> None:
        for each in pieces:
            self.pieces.put_nowait(each)

    def close(self) -> None:
        self.pieces.put_nowait(None)


@contextlib.asynccontextmanager
async def streaming(database_url: str, **settings: str) -> AsyncIterator[tuple[Upstream, Stand, httpx.AsyncClient]]:
    upstream = Upstream()
    foreground = {"DOVECOTE_UPSTREAMS__OPENAI_LIKE__DIALECTS": "openai/chat,openai/responses-foreground"}
    async with (
        Server.running(upstream.handle) as server,
        doors_on_sockets(database_url, upstream_url=server.url, **foreground, **settings) as stand,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{stand.port}/openai", headers=HEADERS, timeout=LIMIT) as client,
    ):
        yield upstream, stand, client


async def events_of(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """Yield the documents of a stream; an empty one at its end."""
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield {} if line == "data: [DONE]" else json.loads(line.removeprefix("data: "))


def text_in(document: dict[str, Any]) -> str:
    return "".join(each["delta"].get("content", "") for each in document.get("choices", ()))


async def next_text(events: AsyncIterator[dict[str, Any]]) -> str:
    return text_in(await asyncio.wait_for(anext(events), LIMIT))


async def task_of(client: httpx.AsyncClient, response: httpx.Response) -> dict[str, Any]:
    task: dict[str, Any] = (await client.get(f"../v1/tasks/{response.headers['dovecote-task']}")).json()
    return task


async def test_chat_is_passed_on_while_it_comes_and_kept(sqlite_url: str) -> None:
    async with streaming(sqlite_url) as (upstream, _, client):
        async with client.stream("POST", "/v1/chat/completions", json=CHAT) as response:
            events = events_of(response)
            upstream.say(chat_piece("Once"))
            assert await next_text(events) == "Once"
            assert (await task_of(client, response))["state"] == "submitting"
            half = chat_piece(" upon ü")
            upstream.say(half[:40])
            upstream.say(half[40:])
            assert await next_text(events) == " upon ü"
            upstream.say(CHAT_DONE)
            upstream.close()
            last = [each async for each in events]
        assert (text_in(last[0]), last[0]["choices"][0]["finish_reason"], last[-1]) == ("", "stop", {})
        task = await task_of(client, response)
        assert [each["text"] for each in task["results"]] == ["Once upon ü"]
        assert (upstream.asked[0]["stream"], len(upstream.asked)) == (True, 1)
        assert task["usage"] | {"output_tokens": 4.0} == task["usage"]


async def test_response_is_passed_on_while_it_comes_and_kept(sqlite_url: str) -> None:
    async with streaming(sqlite_url) as (upstream, _, client):
        async with client.stream("POST", "/v1/responses", json=RESPONSE) as response:
            events = events_of(response)
            upstream.say(response_piece("Once"))
            kinds = [(await asyncio.wait_for(anext(events), LIMIT))["type"] for _ in range(5)]
            assert kinds[-1] == "response.output_text.delta"
            upstream.say(response_piece(" upon"), response_done("Once upon a time"))
            upstream.close()
            rest = [each async for each in events]
        deltas = [each["delta"] for each in rest if each["type"] == "response.output_text.delta"]
        assert (deltas, rest[-1]["type"]) == ([" upon", " a time"], "response.completed")
        assert rest[-1]["response"]["output"][0]["content"][0]["text"] == "Once upon a time"
        assert [each["sequence_number"] for each in rest] == list(range(5, 5 + len(rest)))
        assert upstream.asked[0]["stream"] is True


@pytest.mark.parametrize("marked", [True, False], ids=["asks again", "goes away"])
async def test_result_survives_a_client_that_breaks_off(sqlite_url: str, *, marked: bool) -> None:
    async with streaming(sqlite_url) as (upstream, _, client):
        async with client.stream("POST", "/v1/chat/completions", json=CHAT) as response:
            upstream.say(chat_piece("Once"))
            assert await next_text(events_of(response)) == "Once"
        repeat = {"x-stainless-retry-count": "1"} if marked else {}
        if marked:  # the repeat hears the answer from its beginning
            async with client.stream("POST", "/v1/chat/completions", json=CHAT, headers=repeat) as again:
                events = events_of(again)
                assert await next_text(events) == "Once"
                upstream.say(chat_piece(" more"), CHAT_DONE)
                upstream.close()
                assert "".join([text_in(each) async for each in events]) == " more"
                assert again.headers["dovecote-task"] == response.headers["dovecote-task"]
        else:
            upstream.say(chat_piece(" more"), CHAT_DONE)
            upstream.close()

        async def ended() -> bool:
            return bool((await task_of(client, response))["state"] == "succeeded")

        await until(ended)
        assert [each["text"] for each in (await task_of(client, response))["results"]] == ["Once more"]
        assert len(upstream.asked) == 1


async def test_upstream_that_breaks_off_is_told_at_once_and_not_paid_twice(sqlite_url: str) -> None:
    async with streaming(sqlite_url) as (upstream, _, client):
        async with client.stream("POST", "/v1/chat/completions", json=CHAT) as response:
            events = events_of(response)
            upstream.say(chat_piece("Once"))
            assert await next_text(events) == "Once"
            upstream.close()
            last = [each async for each in events]
        assert "error" in last[0]
        assert response.headers["dovecote-task"] in last[0]["error"]["message"]
        task = await task_of(client, response)
        assert (task["state"], len(upstream.asked)) == ("unconfirmed", 1)


async def test_held_request_whose_upstream_breaks_off_is_told_at_once_and_not_paid_twice(sqlite_url: str) -> None:
    async with streaming(sqlite_url) as (upstream, _, client):
        asking = asyncio.create_task(client.post("/v1/chat/completions", json={**CHAT, "stream": False}))
        upstream.say(b'data: {"choices": [')
        upstream.close()
        answer = await asyncio.wait_for(asking, LIMIT)
        assert (answer.status_code, answer.headers["x-should-retry"]) == (504, "false")
        assert answer.headers["dovecote-task"] in answer.json()["error"]["message"]
        mark = {"x-stainless-retry-count": "1"}
        again = await client.post("/v1/chat/completions", json={**CHAT, "stream": False}, headers=mark)
        assert again.headers["dovecote-task"] == answer.headers["dovecote-task"]
        assert (again.status_code, len(upstream.asked)) == (504, 1)


def refusing(code: str) -> bytes:
    return b'data: {"error": {"message": "no", "type": "server_error", "code": "' + code.encode() + b'"}}\n\n'


async def test_error_within_a_stream_is_shown(sqlite_url: str) -> None:
    async with streaming(sqlite_url) as (upstream, _, client):
        async with client.stream("POST", "/v1/chat/completions", json=CHAT) as response:
            upstream.say(chat_piece("Once"), refusing("content_policy_violation"))
            upstream.close()
            found = [each async for each in events_of(response)]
        assert "error" in found[-2]
        assert found[-1] == {}
        assert len(upstream.asked) == 1


async def test_upstream_that_ignores_the_wish_for_a_stream_answers_in_one_piece(sqlite_url: str) -> None:
    message = {"role": "assistant", "content": "All at once."}
    body = json.dumps({"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()

    async def whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        await writer.drain()

    async with (
        Server.running(whole) as server,
        doors_on_sockets(sqlite_url, upstream_url=server.url) as stand,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{stand.port}/openai", headers=HEADERS, timeout=LIMIT) as client,
    ):
        answer = await client.post("/v1/chat/completions", json=CHAT)
        lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
        documents: Iterable[dict[str, Any]] = [json.loads(each) for each in lines[:-1]]
        assert ("".join(map(text_in, documents)), lines[-1]) == ("All at once.", "[DONE]")
