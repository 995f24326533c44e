"""Both clients against a whole Dovecote over real sockets: what they say is understood, and what they hear is right."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.client import (
    AsyncClient,
    Client,
    NotGenuine,
    Problem,
    StillOpen,
    UnexpectedAnswer,
    Unreachable,
    conversation,
    verify_webhook,
)
from service.client.connection import Connection
from service.flows.webhooks.signing import signed_headers
from service.sandbox import running
from tests.support.breakage import Server, answering, close_at_once, request_of, reset
from tests.support.world import JOB_SECONDS, RECEIVER_URL, WEBHOOK_SECRET, World

TASK_REQUEST = ("runway", "text_to_video")
DOVE = {"prompt": "a dove"}


class Caller:
    """Calls a client, of either kind, from a test."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self.client = client

    async def __call__(self, method: str, *given: Any, **named: Any) -> Any:
        """Call a method; of what goes on, give all of it."""
        called = getattr(self.client, method)
        if isinstance(self.client, Client):
            if method in {"list", "events", "stream"}:
                return await asyncio.to_thread(lambda: list(called(*given, **named)))
            return await asyncio.to_thread(called, *given, **named)
        if method in {"list", "events", "stream"}:
            return [each async for each in called(*given, **named)]
        return await called(*given, **named)


@contextlib.asynccontextmanager
async def calling(kind: str, url: str, **more: Any) -> AsyncIterator[Caller]:
    if kind == "sync":
        with Client(url, **more) as client:
            yield Caller(client)
    else:
        async with AsyncClient(url, **more) as client:
            yield Caller(client)


@dataclasses.dataclass
class Served:
    app: Any


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def url(world: World) -> AsyncIterator[str]:
    async with running(Served(world.client._transport.app)) as url:  # type: ignore[attr-defined]
        yield url
        world.context.signals.close()


@pytest.fixture
async def call(kind: str, url: str) -> AsyncIterator[Caller]:
    async with calling(kind, url) as caller:
        yield caller


async def test_a_task_is_submitted_waited_for_and_found_again(world: World, call: Caller) -> None:
    task = await call("submit", *TASK_REQUEST, input=DOVE, labels={"project": "intro"}, callback_url=RECEIVER_URL)
    assert (task.state, task.input, task.labels, task.ended) == ("queued", DOVE, {"project": "intro"}, False)
    waiting = asyncio.create_task(call("wait", task, timeout=20))
    await world.until(JOB_SECONDS * 2)
    done = await waiting
    assert (done.state, done.succeeded, done.id) == ("succeeded", True, task.id)
    assert done.urls == (done.results[0].url,)
    assert done.finished_at is not None
    assert done.document["state"] == "succeeded"
    assert await call("get", task.id) == done
    other = await call("submit", *TASK_REQUEST, input=DOVE)
    assert [each.id for each in await call("list")] == sorted([other.id, task.id], reverse=True)
    assert [each.id for each in await call("list", labels={"project": "intro"}, state=["succeeded", "failed"])] == [
        task.id
    ]
    assert await call("list", family="suno") == []


async def test_a_list_is_gone_through_page_by_page(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [(await call("submit", *TASK_REQUEST, input=DOVE)).id for _ in range(5)]
    ask = conversation.page_of_tasks
    monkeypatch.setattr(
        conversation, "page_of_tasks", lambda clock, filters, cursor: ask(clock, {**filters, "limit": 2}, cursor)
    )
    assert [each.id for each in await call("list")] == sorted(ids, reverse=True)


async def test_events_are_given_once_and_in_order_in_both_ways(world: World, call: Caller) -> None:
    first, second = [await call("submit", *TASK_REQUEST, input=DOVE) for _ in range(2)]
    await world.until(JOB_SECONDS * 2)
    everything = await call("events")
    assert [int(each.id) for each in everything] == sorted({int(each.id) for each in everything})
    assert everything[-1].task.state == "succeeded"
    assert await call("events", everything[1].id) == everything[2:]
    succeeded = await call("events", types=["task.succeeded"])
    assert {each.task.id for each in succeeded} == {first.id, second.id}
    streamed = await call("stream", first)
    assert streamed == [each for each in everything if each.task.id == first.id]
    assert await call("stream", first, after=streamed[-2].id) == streamed[-1:]
    assert await call("stream", first, after=streamed[-1].id) == []


async def test_a_stream_brings_news_as_they_happen(world: World, call: Caller) -> None:
    task = await call("submit", *TASK_REQUEST, input=DOVE)
    streaming = asyncio.create_task(call("stream", task))
    while not world.context.signals.watched:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.01)
    await world.until(JOB_SECONDS * 2)
    events = await asyncio.wait_for(streaming, 10)
    assert (events[0].type, events[-1].type) == ("task.submitted", "task.succeeded")


async def test_the_feed_is_followed(world: World, kind: str, url: str) -> None:
    """Of what never ends, take a few: by long polls and by a stream."""
    async with calling(kind, url) as call:
        for method, named in (("events", {"follow": True}), ("stream", {"after": "0"})):
            got: list[Any] = []
            if isinstance(call.client, Client):
                taking = asyncio.create_task(asyncio.to_thread(take, call.client, method, named, got))
            else:
                taking = asyncio.create_task(take_async(call.client, method, named, got))
            await call("submit", *TASK_REQUEST, input=DOVE)
            await world.until(JOB_SECONDS * 2)
            await asyncio.wait_for(taking, 10)
            assert [each.id for each in got] == [each.id for each in (await call("events"))[:2]]


def take(client: Client, method: str, named: dict[str, Any], got: list[Any]) -> None:
    for event in getattr(client, method)(**named):
        got.append(event)
        if len(got) == 2:
            return


async def take_async(client: AsyncClient, method: str, named: dict[str, Any], got: list[Any]) -> None:
    async for event in getattr(client, method)(**named):
        got.append(event)
        if len(got) == 2:
            return


async def test_a_task_is_cancelled(world: World, call: Caller) -> None:
    task = await call("submit", *TASK_REQUEST, input=DOVE)
    assert (await call("cancel", task)).state == "cancelled"
    done = await call("submit", *TASK_REQUEST, input=DOVE)
    await world.until(JOB_SECONDS * 2)
    with pytest.raises(Problem) as caught:
        await call("cancel", done.id)
    assert (caught.value.status, caught.value.code) == (409, "already_ended")


async def test_every_mistake_is_told(call: Caller) -> None:
    with pytest.raises(Problem) as caught:
        await call("submit", *TASK_REQUEST, input={"promt": "x", "duration": "long"})
    assert caught.value.code == "invalid_request"
    assert {each.path for each in caught.value.errors} >= {"input.promt", "input.duration"}
    with pytest.raises(Problem, match="not_found"):
        await call("get", "01a1fdfb-6590-78b2-9217-c49a4ce509c0")
    with pytest.raises(Problem, match="not_found"):
        await call("stream", "01a1fdfb-6590-78b2-9217-c49a4ce509c0")


async def test_the_same_wish_is_one_task(call: Caller) -> None:
    first, second = [await call("submit", *TASK_REQUEST, input=DOVE, idempotency_key="intro-1") for _ in range(2)]
    assert first.id == second.id
    with pytest.raises(Problem, match="idempotency_key_reused"):
        await call("submit", *TASK_REQUEST, input={"prompt": "another"}, idempotency_key="intro-1")
    assert len(await call("list")) == 1


async def test_what_takes_longer_goes_on_without_you(call: Caller) -> None:
    task = await call("submit", *TASK_REQUEST, input=DOVE)
    began = time.monotonic()
    with pytest.raises(StillOpen) as caught:
        await call("wait", task, timeout=0.2)
    assert time.monotonic() - began < 3
    assert caught.value.task == task


async def test_a_key_is_needed_where_keys_are_and_comes_from_the_environment(
    database_url: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "alice-key-that-is-long-enough"
    async with World.opened(database_url, DOVECOTE_API_KEYS=f"alice={key}") as world:  # noqa: SIM117 - it is too long
        async with running(Served(world.client._transport.app)) as url:  # type: ignore[attr-defined]
            async with calling(kind, url) as call:
                with pytest.raises(Problem, match="unauthorized"):
                    await call("list")
            monkeypatch.setenv("DOVECOTE_API_KEY", key)
            monkeypatch.setenv("DOVECOTE_URL", url)
            async with calling(kind, "") as call:
                assert await call("list") == []
                assert key not in repr(call.client._connection)


# ── what breaks ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "PAUSES", (0.01, 0.02))
    for asked in (conversation.asked,):
        monkeypatch.setattr(asked, "__kwdefaults__", {"patience": 0.5})


@pytest.mark.parametrize("handle", [close_at_once, reset, answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")])
async def test_no_answer_is_told_apart_after_some_tries(impatient: None, kind: str, handle: Any) -> None:
    async with Server.running(handle) as server, calling(kind, server.url) as call:
        for asked in (call("get", "01a1fdfb-6590-78b2-9217-c49a4ce509c0"), call("submit", *TASK_REQUEST)):
            server.connections = 0
            with pytest.raises(Unreachable, match=server.url):
                await asked
            assert server.connections > 1


async def test_another_service_is_told_apart(impatient: None, kind: str) -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>"
    async with Server.running(answering(page)) as server, calling(kind, server.url) as call:
        for method in ("get", "stream"):
            with pytest.raises(UnexpectedAnswer, match="<html>"):
                await call(method, "01a1fdfb-6590-78b2-9217-c49a4ce509c0")


async def test_a_submit_whose_answer_is_lost_on_the_way_is_one_task(world: World, kind: str, url: str) -> None:
    """A proxy that passes the request on, and loses the first answer."""
    port = int(url.rsplit(":", 1)[1])
    lost = False

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal lost
        ahead, behind = await asyncio.open_connection("127.0.0.1", port)
        behind.write(await request_of(reader))
        answer = await ahead.read(65536)
        if lost:
            writer.write(answer)
        lost = True
        behind.close()

    async with Server.running(proxy) as server, calling(kind, server.url) as call:
        task = await call("submit", *TASK_REQUEST, input=DOVE)
        assert server.connections == 2
    [only] = (await world.client.get("/v1/tasks")).json()["tasks"]
    assert only["id"] == task.id


@pytest.mark.parametrize("url", ["ftp://x", "x", "http://", "http://user:secret@x"])
def test_what_is_no_url_is_a_mistake(url: str) -> None:
    with pytest.raises(ValueError, match="DOVECOTE_URL") as caught:
        Client(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["a key", "clé-with-letters", "line\nbreak"])
def test_what_is_no_key_is_a_mistake(key: str) -> None:
    with pytest.raises(ValueError, match="DOVECOTE_API_KEY") as caught:
        Client("http://x", key)
    assert key not in str(caught.value)


def test_a_proxy_is_for_the_way_out() -> None:
    for url, environment in (("http://127.0.0.1:1", False), ("http://localhost", False), ("https://x.example", True)):
        assert Connection.chosen(url, None, 1).settings()["trust_env"] is environment


async def test_the_key_follows_no_redirect() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(307, headers={"Location": "http://elsewhere.example/"})

    with (
        Client("http://x", "k" * 20, transport=httpx.MockTransport(answer)) as client,
        pytest.raises(UnexpectedAnswer),
    ):
        client.get("01a1fdfb-6590-78b2-9217-c49a4ce509c0")
    assert len(seen) == 1


# ── webhooks ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_webhook_is_read(world: World) -> None:
    task = await world.submit()
    await world.until(JOB_SECONDS * 2)
    [message] = await world.messages(task)
    headers = {**signed_headers(WEBHOOK_SECRET, str(message.id), world.clock(), message.body), "Host": "x"}
    other = "whsec_" + "b3RoZXItc2VjcmV0LW9mLXRoZS10ZXN0cw=="
    for given in (WEBHOOK_SECRET, [other, WEBHOOK_SECRET]):
        read = verify_webhook({name.title(): value for name, value in headers.items()}, message.body.encode(), given)
        assert (read.id, read.type, read.sequence) == (str(message.id), "task.succeeded", message.sequence)
        assert (read.task.id, read.task.succeeded, len(read.task.urls)) == (str(task.id), True, 1)
    with Client("http://x") as client:
        assert client.verify_webhook(headers, message.body, WEBHOOK_SECRET) == read
    forgeries: list[tuple[dict[str, str], Any, Any]] = [
        (headers, message.body + " ", WEBHOOK_SECRET),
        (headers, message.body, other),
        (headers, message.body, []),
        (headers, b"\xff", WEBHOOK_SECRET),
        ({**headers, "webhook-signature": "v1"}, message.body, WEBHOOK_SECRET),
        ({**headers, "webhook-timestamp": "1"}, message.body, WEBHOOK_SECRET),
        ({}, message.body, WEBHOOK_SECRET),
    ]
    forgeries += [
        (signed_headers(WEBHOOK_SECRET, "1", world.clock(), body), body, WEBHOOK_SECRET)
        for body in ("[]", "{}", '{"type":"x","data":{}}', "null")
    ]
    for forged in forgeries:
        with pytest.raises(NotGenuine):
            verify_webhook(*forged)
    for secret in ("", "whsec_x", "whsec_"):
        with pytest.raises(ValueError, match="whsec_…"):
            verify_webhook(headers, message.body, secret)
