"""The outermost layer: the same response for every form of a path, one Host, and a response also at a stop."""

import asyncio
import functools
import logging
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest

from service.web.security_headers import SecurityHeaders
from tests.support.world import TASK_REQUEST, World


async def asgi(app: Any, *headers: tuple[bytes, bytes], path: str = "/v1/tasks", method: str = "GET") -> list[Any]:
    """Send one request without a client library, and return the messages of the answer."""
    scope = {"type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode()}
    scope |= {
        "query_string": b"",
        "headers": list(headers),
        "scheme": "http",
        "server": ("localhost", 80),
        "root_path": "",
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


@pytest.mark.parametrize("slashes", ["", "/", "//"])
@pytest.mark.parametrize(
    "path", ["/v1/tasks", "/v1/events", "/healthz", "/readyz", "/docs", "/openapi.json", "/v1/families"]
)
async def test_path_is_served_with_and_without_slashes_at_its_end(
    api: httpx.AsyncClient, path: str, slashes: str
) -> None:
    assert (await api.get(path + slashes)).status_code == 200


@pytest.mark.parametrize("slash", ["", "/"])
async def test_location_of_a_submit_leads_to_the_task_from_both_forms_of_the_path(
    api: httpx.AsyncClient, slash: str
) -> None:
    answer = await api.post(f"/v1/tasks{slash}", json=TASK_REQUEST)
    location = answer.headers["location"]
    assert not location.startswith(("/", "http"))
    behind_a_proxy = httpx.URL(f"https://proxy.example/prefix/v1/tasks{slash}").join(location)
    assert str(behind_a_proxy) == f"https://proxy.example/prefix/v1/tasks/{answer.json()['id']}"


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/v1/uploads", b"\x89PNG bytes", "image/png"),
        ("/v1/endpoints", b'{"url": "http://receiver.test/"}', "application/json"),
        ("/v1/tasks", orjson.dumps(TASK_REQUEST), "application/json"),
    ],
)
async def test_location_of_a_new_object_keeps_the_prefix_of_a_proxy(
    api: httpx.AsyncClient, path: str, body: bytes, kind: str, slash: str
) -> None:
    answer = await api.post(f"{path}{slash}", content=body, headers={"Content-Type": kind})
    assert answer.is_success, answer.text
    behind_a_proxy = httpx.URL(f"https://proxy.example/prefix{path}{slash}").join(answer.headers["location"])
    assert str(behind_a_proxy) == f"https://proxy.example/prefix{path}/{answer.json()['id']}"


@pytest.mark.parametrize("slash", ["", "/"])
async def test_location_of_the_erasure_of_an_open_task_keeps_the_prefix_of_a_proxy(
    api: httpx.AsyncClient, slash: str
) -> None:
    task_id = (await api.post("/v1/tasks", json=TASK_REQUEST)).json()["id"]
    answer = await api.delete(f"/v1/tasks/{task_id}{slash}")
    assert answer.status_code == 202
    behind_a_proxy = httpx.URL(f"https://proxy.example/prefix/v1/tasks/{task_id}{slash}")
    found = behind_a_proxy.join(answer.headers["location"])
    assert str(found) == f"https://proxy.example/prefix/v1/erasures/{answer.json()['id']}"


async def test_location_begins_with_the_setting_api_url(database_url: str) -> None:
    async with World.opened(database_url, DOVECOTE_API_URL="https://api.example/dovecote/") as world:
        answer = await world.client.post("/v1/tasks", json=TASK_REQUEST)
        assert answer.headers["location"] == f"https://api.example/dovecote/v1/tasks/{answer.json()['id']}"


async def test_no_answer_redirects_to_another_host(api: httpx.AsyncClient) -> None:
    for path in ("/", "//evil.example", "/v1/tasks/", "/callbacks/x/", "/docs/"):
        answer = await api.get(path, headers={"Host": "evil.example"})
        assert "evil.example" not in answer.headers.get("location", "")
        assert "x" not in answer.headers.get("location", "")


async def test_request_with_two_hosts_is_refused(world: World) -> None:
    app = world.client._transport.app  # type: ignore[attr-defined]
    [start, body] = await asgi(app, (b"host", b"localhost"), (b"host", b"evil.example"))
    assert start["status"] == 400
    assert (b"connection", b"close") in start["headers"]
    assert b"more than one Host" in body["body"]


async def test_request_that_is_cancelled_is_answered_503(world: World) -> None:
    """A stopping server cancels the remaining requests."""
    entered = asyncio.Event()

    async def waiting(*_: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    asking = asyncio.create_task(asgi(SecurityHeaders(waiting), (b"host", b"localhost")))
    await entered.wait()
    asking.cancel()
    [start, body] = await asking
    headers = dict(start["headers"])
    assert (start["status"], headers[b"retry-after"], headers[b"connection"]) == (503, b"5", b"close")
    assert b'"code":"unavailable"' in body["body"]


async def test_cancelled_submit_is_answered_503_while_the_database_waits(world: World) -> None:
    app, entered = world.client._transport.app, asyncio.Event()  # type: ignore[attr-defined]

    async def waiting(*_: Any, **__: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    world.context.writers.requests.batch = waiting  # type: ignore[method-assign,assignment]
    asking = asyncio.create_task(
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost").post(
            "/v1/tasks", json=TASK_REQUEST
        )
    )
    await entered.wait()
    asking.cancel()
    answer = await asking
    assert (answer.status_code, answer.headers["connection"]) == (503, "close")
    assert "may have been carried out" in answer.json()["detail"]


async def test_cancelled_submit_at_a_door_is_answered_as_one_that_may_exist(sqlite_url: str) -> None:
    """A client repeats a 503 at once, and the repeat could make a second task."""
    async with World.opened(sqlite_url, DOVECOTE_DOORS__RUNWAYML="true") as world:
        entered = asyncio.Event()

        async def waiting(*_: Any, **__: Any) -> None:
            entered.set()
            await asyncio.Event().wait()

        world.context.writers.requests.batch = waiting  # type: ignore[method-assign,assignment]
        body = {"model": "gen4.5", "promptText": "a dove", "ratio": "1280:720", "duration": 5}
        asking = asyncio.create_task(world.client.post("/runwayml/v1/text_to_video", json=body))
        await entered.wait()
        asking.cancel()
        answer = await asking
    assert (answer.status_code, answer.headers["x-should-retry"]) == (504, "false")


async def test_cancellation_after_the_start_of_an_answer_stays_a_cancellation() -> None:
    async def started(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.Event().wait()

    asking = asyncio.create_task(asgi(SecurityHeaders(started), (b"host", b"localhost")))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_unexpected_error_is_logged_once(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    task = await world.submit()
    monkeypatch.setattr("service.web.api.tasks.show_task", broken)
    with caplog.at_level(logging.INFO):
        assert (await world.client.get(f"/v1/tasks/{task.id}")).json()["code"] == "internal_error"
    assert len([record for record in caplog.records if record.exc_info]) == 1


async def _next_of(messages: Iterator[Any]) -> Any:
    return next(messages)


async def test_client_that_hangs_up_during_its_body_is_no_error(world: World, caplog: pytest.LogCaptureFixture) -> None:
    app = world.client._transport.app  # type: ignore[attr-defined]
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"100")]
    for path in ("/v1/tasks", "/v1/endpoints", f"/v1/tasks/{uuid4()}/input", "/v1/messages/replay"):
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
        }
        messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
        with caplog.at_level(logging.INFO):
            receive = functools.partial(_next_of, messages)
            await app({**scope, "headers": headers, "scheme": "http"}, receive, lambda _: asyncio.sleep(0))
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
