"""Media that a provider takes as files: downloaded before the purchase, checked as every URL of a client is."""

import asyncio
import base64
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.domain.errors import Refused
from service.domain.task import State, Task
from service.flows.concurrency import TaskPool
from service.flows.submission import run
from service.flows.submission.media import with_media
from service.http.client import Http
from service.http.ssrf.guard import Guard
from service.http.ssrf.policy import Rules
from service.providers.registry import DIALECTS
from tests.support.values import a_task
from tests.support.world import World

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
MADE = {"data": [{"b64_json": base64.b64encode(PNG).decode()}]}
OPENAI = {
    "ELKAPI_KEY": "",
    "DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL": "",
    "DOVECOTE_UPSTREAMS__ELKAPI__TYPICAL_SECONDS": "",
    "OPENAI_API_KEY": "sk-official-key",
    "DOVECOTE_UPSTREAMS__OPENAI__BASE_URL": "http://openai.test",
}
EDIT: dict[str, Any] = {"family": "openai", "operation": "image_to_image", "callback_url": None}


class Host(httpx.AsyncBaseTransport):
    """A host that answers by path, and records the bodies that it received."""

    def __init__(self, answers: dict[str, httpx.Response]) -> None:
        self._answers = answers
        self.sent: list[tuple[str, bytes]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/v1/models":
            self.sent.append((request.url.path, await request.aread()))
        found = self._answers.get(request.url.path)
        if found is None:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(found.status_code, headers=found.headers, stream=httpx.ByteStream(found.content))


@contextlib.asynccontextmanager
async def hosts(url: str, media: dict[str, httpx.Response], **more: str) -> AsyncIterator[tuple[World, Host, Host]]:
    """Open a world with OpenAI and a host of media."""
    async with World.opened(url, **{**OPENAI, **more}) as world:
        openai, pictures = Host({"/v1/images/edits": httpx.Response(200, json=MADE)}), Host(media)
        world.edge.hosts |= {"openai.test": openai, "media.test": pictures}
        yield world, openai, pictures


async def edit(world: World, image: str) -> Task:
    task = await world.submit(**EDIT, input={"prompt": "a dove", "image": image})
    await world.work()
    return await world.task(task)


async def test_medium_at_a_url_is_sent_as_a_file(database_url: str) -> None:
    media = {
        "/a": httpx.Response(302, headers={"location": "/b.png"}),
        "/b.png": httpx.Response(200, content=PNG, headers={"content-type": "application/octet-stream"}),
    }
    async with hosts(database_url, media) as (world, openai, pictures):
        task = await edit(world, "http://media.test/a")
        assert task.state is State.SUCCEEDED
        assert task.input["image"] == "http://media.test/a", "the stored task keeps the URL"
        assert [path for path, _ in pictures.sent] == ["/a", "/b.png"]
        [(_, body)] = openai.sent
        assert b'name="image"; filename="image-1.png"\r\nContent-Type: image/png\r\n\r\n' + PNG in body


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(httpx.Response(404), "HTTP 404", id="missing"),
        pytest.param(httpx.Response(200), "it is empty", id="empty"),
        pytest.param(httpx.Response(302, headers={"location": "/a"}), "HTTP 302", id="redirect without an end"),
    ],
)
async def test_medium_that_cannot_be_had_fails_the_task_before_the_purchase(
    database_url: str, answer: httpx.Response, words: str
) -> None:
    async with hosts(database_url, {"/a": answer}) as (world, openai, _):
        task = await edit(world, "http://media.test/a")
        assert (task.state, openai.sent) == (State.FAILED, [])
        assert task.failure is not None
        assert task.failure.code == "invalid_input"
        assert "input.image could not be downloaded from media.test" in (task.failure.message or "")
        assert words in (task.failure.message or "")


@pytest.mark.parametrize("answer", [httpx.Response(503), None], ids=["unavailable", "no connection"])
async def test_host_of_media_in_trouble_is_retried(database_url: str, answer: httpx.Response | None) -> None:
    async with hosts(database_url, {} if answer is None else {"/a": answer}) as (world, openai, _):
        task = await edit(world, "http://media.test/a")
        assert (task.state, openai.sent) == (State.QUEUED, [])
        assert "input.image could not be downloaded" in (task.last_error or "")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a.png", "http://localhost:9/a.png", "http://169.254.169.254/a"])
async def test_address_that_is_not_public_is_not_downloaded(database_url: str, url: str) -> None:
    async with hosts(database_url, {}) as (world, _, _pictures):
        http = Http.real(Guard(Rules()))
        try:
            guarded = dataclasses.replace(world.context, http=http)
            task = a_task(family="openai", operation="image_to_image", input={"prompt": "a dove", "image": url})
            with pytest.raises(Refused, match=r"input\.image could not be downloaded"):
                await with_media(guarded, guarded.upstreams["openai"], DIALECTS["openai/images"], task)
        finally:
            await http.close()


async def test_medium_that_is_no_data_is_refused_at_once(database_url: str) -> None:
    async with hosts(database_url, {}) as (world, _, _pictures):
        answer = await world.client.post(
            "/v1/tasks", json={**EDIT, "input": {"prompt": "a dove", "image": "data:image/png;base64,@@"}}
        )
        assert answer.status_code == 422
        assert "input.image" in answer.text


async def test_medium_at_what_is_no_url_refuses_the_task(sqlite_url: str) -> None:
    async with hosts(sqlite_url, {}) as (world, openai, _):
        task = await edit(world, "http://[::1/a.png")
        assert (task.state, task.failure is not None and task.failure.code) == (State.FAILED, "invalid_input")
        assert openai.sent == []


async def test_stop_while_media_are_fetched_leaves_the_task_queued(database_url: str) -> None:
    async with hosts(database_url, {}) as (world, openai, _):
        arrived = asyncio.Event()

        async def never(_: httpx.Request) -> httpx.Response:
            arrived.set()
            await asyncio.Event().wait()
            raise AssertionError

        world.edge.hosts["media.test"] = httpx.MockTransport(never)
        task = await world.submit(**EDIT, input={"prompt": "a dove", "image": "http://media.test/a.png"})
        pool = TaskPool(10)
        await run.run_due(world.context, pool)
        await arrived.wait()
        await pool.finish(within=0)
        assert [each.outcome for each in await world.submissions(task)] == ["unavailable"]
        assert (await world.task(task)).state is State.QUEUED
        assert openai.sent == []
