"""Both clients against a whole Dovecote over real sockets."""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import inspect
import itertools
import operator
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from dovecote import (
    AsyncClient,
    Client,
    ConfigurationError,
    InvalidWebhook,
    Problem,
    UnexpectedResponse,
    Unreachable,
    WaitTimeout,
    async_resources,
    calls,
    protocol,
    resources,
    verify_webhook,
)
from dovecote.settings import Settings
from service.flows.webhooks.signing import signed_headers
from service.sandbox import running
from tests.support.breakage import Server, answering, close_at_once, request_of, reset
from tests.support.world import JOB_SECONDS, RECEIVER_URL, WEBHOOK_SECRET, World

TASK_REQUEST = ("runway", "text_to_video")
DOVE = {"prompt": "a dove"}
TASK_ID = "01a1fdfb-6590-78b2-9217-c49a4ce509c0"


ITERATORS = {"list", "events", "stream", "watch", "messages.list", "callbacks.list"}


class Caller:
    """Calls a client of either kind."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self.client = client

    async def __call__(self, method: str, *given: Any, **named: Any) -> Any:
        """Call a method, such as ``endpoints.list``. Return all items of an iterator."""
        called = operator.attrgetter(method)(self.client)
        if isinstance(self.client, Client):
            if method in ITERATORS:
                return await asyncio.to_thread(lambda: list(called(*given, **named)))
            return await asyncio.to_thread(called, *given, **named)
        if method in ITERATORS:
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


async def test_submitted_task_can_be_waited_for_and_listed(world: World, call: Caller) -> None:
    task = await call("submit", *TASK_REQUEST, input=DOVE, labels={"project": "intro"}, callback_url=RECEIVER_URL)
    assert (task.state, task.input, task.labels, task.ended) == ("queued", DOVE, {"project": "intro"}, False)
    waiting = asyncio.create_task(call("wait", task, timeout=60))
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


async def test_list_loads_every_page(call: Caller) -> None:
    ids = [(await call("submit", *TASK_REQUEST, input=DOVE)).id for _ in range(5)]
    assert [each.id for each in await call("list", limit=2)] == sorted(ids, reverse=True)
    page = await call("page", limit=2)
    assert ([each.id for each in page.items], page.next) == (sorted(ids, reverse=True)[:2], sorted(ids)[-2])


async def test_feed_and_stream_yield_each_event_once_and_in_order(world: World, call: Caller) -> None:
    first, second = [await call("submit", *TASK_REQUEST, input=DOVE) for _ in range(2)]
    await world.until(JOB_SECONDS * 2)
    everything = await call("events")
    assert len({each.id for each in everything}) == len(everything)
    for task in (first, second):
        sequences = [each.sequence for each in everything if each.task.id == task.id]
        assert sequences == sorted(set(sequences))
        assert len(sequences) > 1
    assert everything[-1].task.state == "succeeded"
    assert await call("events", everything[1].id) == everything[2:]
    succeeded = await call("events", types=["task.succeeded"])
    assert {each.task.id for each in succeeded} == {first.id, second.id}
    streamed = await call("stream", first)
    assert streamed == [each for each in everything if each.task.id == first.id]
    assert await call("stream", first, after=streamed[-2].id) == streamed[-1:]
    assert await call("stream", first, after=streamed[-1].id) == []


async def test_stream_yields_events_as_they_happen(world: World, call: Caller) -> None:
    task = await call("submit", *TASK_REQUEST, input=DOVE)
    streaming = asyncio.create_task(call("stream", task))
    while not world.context.signals.watched:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.01)
    await world.until(JOB_SECONDS * 2)
    events = await asyncio.wait_for(streaming, 60)
    types = [event.type for event in events]
    assert (types[0], *types[-2:]) == ("task.submitted", "task.succeeded", "task.settled")


async def test_feed_can_be_followed_without_end(world: World, kind: str, url: str) -> None:
    """The first events of an endless iterator arrive by long polls and by a stream."""
    async with calling(kind, url) as call:
        for method, named in (("events", {"follow": True}), ("stream", {"after": "0"})):
            got: list[Any] = []
            if isinstance(call.client, Client):
                taking = asyncio.create_task(asyncio.to_thread(take, call.client, method, named, got))
            else:
                taking = asyncio.create_task(take_async(call.client, method, named, got))
            await call("submit", *TASK_REQUEST, input=DOVE)
            await world.until(JOB_SECONDS * 2)
            await asyncio.wait_for(taking, 60)
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


async def test_cancel_of_open_task_succeeds_and_of_ended_task_is_refused(world: World, call: Caller) -> None:
    task = await call("submit", *TASK_REQUEST, input=DOVE)
    assert (await call("cancel", task)).state == "cancelled"
    done = await call("submit", *TASK_REQUEST, input=DOVE)
    await world.until(JOB_SECONDS * 2)
    with pytest.raises(Problem) as caught:
        await call("cancel", done.id)
    assert (caught.value.status, caught.value.code) == (409, "already_ended")


async def test_problem_lists_every_mistake(call: Caller) -> None:
    with pytest.raises(Problem) as caught:
        await call("submit", *TASK_REQUEST, input={"promt": "x", "duration": "long"})
    assert caught.value.code == "invalid_request"
    assert {each.path for each in caught.value.errors} >= {"input.promt", "input.duration"}
    with pytest.raises(Problem, match="not_found"):
        await call("get", TASK_ID)
    with pytest.raises(Problem, match="not_found"):
        await call("stream", TASK_ID)


async def test_same_idempotency_key_makes_one_task(call: Caller) -> None:
    first, second = [await call("submit", *TASK_REQUEST, input=DOVE, idempotency_key="intro-1") for _ in range(2)]
    assert first.id == second.id
    assert (first.replayed, second.replayed) == (False, True)
    with pytest.raises(Problem, match="idempotency_key_reused"):
        await call("submit", *TASK_REQUEST, input={"prompt": "another"}, idempotency_key="intro-1")
    assert len(await call("list")) == 1


async def test_wait_with_timeout_raises_and_keeps_the_task(call: Caller) -> None:
    task = await call("submit", *TASK_REQUEST, input=DOVE)
    with pytest.raises(WaitTimeout) as caught:
        await call("wait", task, timeout=0.2)
    assert caught.value.task == task


async def test_watch_yields_every_change_until_the_end(world: World, call: Caller) -> None:
    task = await call("submit", *TASK_REQUEST, input=DOVE)
    watching = asyncio.create_task(call("watch", task, interval=30))
    await world.until(JOB_SECONDS * 2)
    seen = await asyncio.wait_for(watching, 60)
    assert seen[-1].state == "succeeded"
    assert all(calls.differs(new, old) for old, new in itertools.pairwise(seen))


async def test_history_and_refresh_of_a_task(world: World, call: Caller) -> None:
    task = await call("submit", *TASK_REQUEST, input=DOVE)
    await world.until(JOB_SECONDS * 2)
    history = await call("history", task)
    assert [each.type for each in history][:2] == ["accepted", "submitting"]
    assert [each.sequence for each in history] == list(range(1, len(history) + 1))
    assert await call("history", task, after=2) == history[2:]
    assert (await call("refresh", task)).succeeded


async def test_catalogue_has_families_and_upstreams(call: Caller) -> None:
    families = {each.name: each for each in await call("families")}
    operation = families["runway"].operation("text2video")
    assert operation is not None
    assert (operation.name, "prompt" in operation.input["properties"]) == ("text_to_video", True)
    assert families["runway"].operation("nonsense") is None
    upstreams = await call("upstreams")
    assert upstreams[0].name in operation.upstreams
    assert all(circuit.state == "closed" for each in upstreams for circuit in each.circuits)


async def test_job_that_was_bought_elsewhere_is_adopted(world: World, call: Caller) -> None:
    own = await call("submit", *TASK_REQUEST, input=DOVE)
    await world.work()
    known = {"upstream": "elkapi", "external_id": (await call("get", own)).external_id}
    again = await call("adopt", *TASK_REQUEST, **known)
    assert (again.id, again.replayed, again.adopted) == (own.id, True, False)
    task = await call("adopt", *TASK_REQUEST, upstream="elkapi", external_id="job-1", labels={"of": "the shop"})
    assert (task.adopted, task.external_id, task.labels, task.replayed) == (True, "job-1", {"of": "the shop"}, False)
    assert task.forward_callbacks_to == (await call("get", task)).forward_callbacks_to
    assert (task.forward_callbacks_to or "").startswith("http://dovecote.test/callbacks/")


async def test_models_of_an_upstream_are_listed_and_an_unlisted_one_is_warned_of(call: Caller) -> None:
    found = await call("models", "elkapi")
    assert (found.upstream, "gen4_turbo" in found.models, found.error) == ("elkapi", True, None)
    assert await call("models", (await call("upstreams"))[0]) == found
    with pytest.raises(Problem, match="no upstream"):
        await call("models", "no such upstream")
    task = await call("submit", *TASK_REQUEST, input={**DOVE, "model": "gen9"})
    assert [warning.code for warning in task.warnings] == ["model_not_listed"]


async def test_endpoint_is_created_changed_tested_rotated_and_deleted(world: World, call: Caller) -> None:
    made = await call("endpoints.create", RECEIVER_URL, events=["task.succeeded"], description="shop")
    assert (made.url, made.events, made.description) == (RECEIVER_URL, ("task.succeeded",), "shop")
    assert made.secret is not None
    assert made.secret not in repr(made)
    [listed] = await call("endpoints.list")
    assert (listed.id, listed.secret) == (made.id, None)
    disabled = await call("endpoints.update", made, enabled=False)
    assert (disabled.enabled, disabled.disabled_reason) == (False, "client")
    assert (await call("endpoints.update", made.id, enabled=True, events=[])).events == ()
    rotated = await call("endpoints.rotate_secret", made)
    assert rotated.secret not in {None, made.secret}
    assert rotated.previous_secret_until is not None
    message = await call("endpoints.test", made)
    assert (message.type, message.endpoint_id) == ("endpoint.test", made.id)
    assert (await call("messages.get", message)).id == message.id
    assert (await call("endpoints.get", made)).enabled
    assert (await call("endpoints.delete", made)).id == made.id
    assert await call("endpoints.list") == []
    with pytest.raises(Problem, match="not_found"):
        await call("endpoints.get", made)


async def test_webhook_secret_is_shown_and_rotated(world: World, call: Caller) -> None:
    before = await call("webhook_secret.get")
    assert (before.secret, before.previous_secret_until) == (WEBHOOK_SECRET, None)
    assert before.secret not in repr(before)
    rotated = await call("webhook_secret.rotate", overlap=60)
    assert rotated.secret != before.secret
    assert rotated.previous_secret_until == world.clock.now + dt.timedelta(seconds=60)
    assert await call("webhook_secret.get") == rotated
    again = await call("webhook_secret.rotate")
    assert again.previous_secret_until == world.clock.now + dt.timedelta(days=1)
    assert (await call("webhook_secret.rotate", overlap=0)).previous_secret_until is None
    with pytest.raises(Problem, match="overlap"):
        await call("webhook_secret.rotate", overlap=-1)


async def test_message_is_listed_and_replayed(world: World, call: Caller) -> None:
    task = await call("submit", *TASK_REQUEST, input=DOVE, callback_url=RECEIVER_URL)
    await world.until(JOB_SECONDS * 2)
    [message] = await call("messages.list", task=task.id, limit=1)
    assert (message.type, message.task_id, message.url) == ("task.succeeded", task.id, RECEIVER_URL)
    whole = await call("messages.get", message.id)
    assert whole.body["data"]["id"] == task.id
    attempts = len(whole.deliveries)
    assert (await call("messages.replay", message)).state == "pending"
    await world.until(JOB_SECONDS * 3)
    assert len((await call("messages.get", message)).deliveries) > attempts
    state = (await call("messages.get", message)).state
    assert await call("messages.replay_all", state=[state], type=["task.failed"]) == 0
    page = await call("messages.page", type="task.succeeded", limit=10)
    assert ([each.id for each in page.items], page.next) == ([message.id], None)


async def test_input_and_retry_are_refused_where_none_is_awaited(call: Caller) -> None:
    task = await call("submit", *TASK_REQUEST, input=DOVE)
    for method, more, code in (
        ("send_input", {"input": {"x": 1}}, "not_awaited"),
        ("retry", {"confirm_double_payment": True}, "not_unconfirmed"),
        ("retry", {"confirm_double_payment": False}, "invalid_request"),
    ):
        with pytest.raises(Problem) as caught:
            await call(method, task, **more)
        assert caught.value.code == code


async def test_api_key_comes_from_the_environment(
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
                assert key not in repr(call.client._settings)
            async with calling(kind, "", api_key="") as call:
                with pytest.raises(Problem, match="unauthorized"):
                    await call("list")


# ── what breaks ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow two retries only: the third pause exceeds every limit."""
    monkeypatch.setattr(protocol, "PAUSES", (0.01, 0.02, 1000))


@pytest.mark.parametrize(
    "handle",
    [close_at_once, reset, answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")],
    ids=["connection closed", "connection reset", "body cut off"],
)
async def test_missing_response_is_retried_and_then_raises(short_pauses: None, kind: str, handle: Any) -> None:
    errors: list[tuple[Exception, float]] = []
    more = {"retry_for": 600, "on_retry": lambda *given: errors.append(given)}
    async with Server.running(handle) as server, calling(kind, server.url, **more) as call:
        for asked in (call("get", TASK_ID), call("submit", *TASK_REQUEST)):
            server.connections = 0
            errors.clear()
            with pytest.raises(Unreachable, match=server.url):
                await asked
            assert len(errors) == 2
            assert server.connections == 3
            assert {type(error) for error, _ in errors} == {Unreachable}


@pytest.mark.parametrize("method", ["get", "wait", "submit", "stream", "list", "events", "watch", "families"])
async def test_refused_connection_raises_without_a_long_retry(
    kind: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test counts the pauses, so it needs no clock."""
    monkeypatch.setattr(protocol, "PAUSES", (0.01, 0.6, 0.6, 5.0))
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    given = {"submit": TASK_REQUEST, "list": (), "events": (), "families": ()}.get(method, (TASK_ID,))
    pauses: list[float] = []
    async with calling(kind, url, on_retry=lambda _, seconds: pauses.append(seconds)) as call:
        with pytest.raises(Unreachable, match="cannot connect") as caught:
            await call(method, *given, **({"follow": True} if method == "events" else {}))
    assert not caught.value.sent
    assert sum(pauses) <= 1


async def test_foreign_response_is_recognized(short_pauses: None, kind: str) -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>"
    async with Server.running(answering(page)) as server, calling(kind, server.url) as call:
        for method in ("get", "stream"):
            with pytest.raises(UnexpectedResponse, match="<html>"):
                await call(method, TASK_ID)


async def test_submit_with_lost_response_makes_one_task(world: World, kind: str, url: str) -> None:
    """A proxy passes the request on and loses the first response."""
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


@pytest.mark.parametrize("url", ["ftp://x", "x", "http://", "http://user:secret@x", "http://[", "//host", "http://x:0"])
def test_unusable_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="DOVECOTE_URL") as caught:
        Client(url)
    assert isinstance(caught.value, ValueError)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["a key", "clé-with-letters", "line\nbreak"])
def test_unusable_api_key_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match="DOVECOTE_API_KEY") as caught:
        Client("http://x", key)
    assert key not in str(caught.value)


def test_proxy_of_the_environment_is_not_used_for_loopback() -> None:
    for url, environment in (("http://127.0.0.1:1", False), ("http://localhost", False), ("https://x.example", True)):
        assert Settings.resolve(url, None, 1).client_arguments()["trust_env"] is environment


async def test_api_key_does_not_follow_a_redirect() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(307, headers={"Location": "http://elsewhere.example/"})

    with (
        Client("http://x", "k" * 20, transport=httpx.MockTransport(answer)) as client,
        pytest.raises(UnexpectedResponse),
    ):
        client.get(TASK_ID)
    assert len(seen) == 1


# ── webhooks ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_webhook_is_verified_and_forgeries_are_refused(world: World) -> None:
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
        for body in ("[]", "{}", '{"type":"task.succeeded","data":{}}', "null")
    ]
    for forged in forgeries:
        with pytest.raises(InvalidWebhook):
            verify_webhook(*forged)
    for secret in ("", "whsec_x", "whsec_"):
        with pytest.raises(ValueError, match="whsec_…"):
            verify_webhook(headers, message.body, secret)


@pytest.mark.parametrize("body_format", ["standard", "cloudevents"])
async def test_webhook_of_an_endpoint_is_read_in_both_formats(world: World, call: Caller, body_format: str) -> None:
    requests: list[httpx.Request] = []

    def receive(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(204, stream=httpx.ByteStream(b""))

    world.edge.hosts["receiver.test"] = httpx.MockTransport(receive)
    endpoint = await call("endpoints.create", RECEIVER_URL, format=body_format, events=["task.succeeded"])
    task = await call("submit", *TASK_REQUEST, input=DOVE)
    await world.until(JOB_SECONDS * 2)
    await call("endpoints.test", endpoint)
    assert endpoint.secret is not None
    read = [verify_webhook(dict(request.headers), request.content, endpoint.secret) for request in requests]
    finished, tested = sorted(read, key=lambda each: each.type, reverse=True)
    assert (finished.type, tested.type) == ("task.succeeded", "endpoint.test")
    assert finished.task is not None
    assert (finished.task.id, finished.task.succeeded) == (task.id, True)
    assert finished.timestamp is not None
    [ended] = [each for each in await call("history", task.id) if each.type == "succeeded"]
    assert finished.sequence == ended.sequence
    assert (tested.task, tested.document["data"]["endpoint_id"]) == (None, endpoint.id)


def test_both_clients_have_the_same_methods() -> None:
    for one, other in (
        (Client, AsyncClient),
        (resources.Endpoints, async_resources.AsyncEndpoints),
        (resources.Messages, async_resources.AsyncMessages),
        (resources.WebhookSecrets, async_resources.AsyncWebhookSecrets),
    ):
        assert public(one) == public(other)


def public(kind: type) -> dict[str, tuple[list[str], str | None]]:
    """Return the parameters and the documentation of each public method."""
    return {
        name: (list(inspect.signature(each).parameters), inspect.getdoc(each))
        for name, each in vars(kind).items()
        if not name.startswith("_")
    }
