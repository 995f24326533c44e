"""A world that keeps results, whose sandbox is reached over real sockets, so that files can break off."""

import contextlib
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx

from service.domain.task import Task
from service.http.single import SingleTransport
from service.sandbox import running
from service.sandbox.served_files import content
from service.store import assets as asset_store
from service.store.assets import Asset
from tests.support.world import JOB_SECONDS, World


class Forwarded(httpx.AsyncBaseTransport):
    """Sends requests for a host name to a server on loopback."""

    def __init__(self, url: str) -> None:
        self._url = httpx.URL(url)
        self._transport = SingleTransport()
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        there = request.url.copy_with(host=self._url.host, port=self._url.port)
        sent = httpx.Request(request.method, there, headers=request.headers, content=await request.aread())
        sent.extensions = {"timeout": request.extensions.get("timeout", {})}
        return await self._transport.handle_async_request(sent)


@contextlib.asynccontextmanager
async def keeping(database_url: str, **settings: str) -> AsyncIterator[World]:
    """Open a world that keeps results."""
    settings = {"DOVECOTE_RESULTS__KEEP": "all", **settings}
    async with World.opened(database_url, **settings) as world, running(world.sandbox) as url:
        world.edge.hosts["sandbox.test"] = Forwarded(url)
        yield world


async def finished(world: World, prompt: str = "a dove", **fields: Any) -> Task:
    """Submit a task and let it end, with what is due at once."""
    task = await world.submit(prompt, **fields)
    await world.until(JOB_SECONDS)
    return await world.task(task)


async def assets_of(world: World, task: Task) -> list[Asset]:
    """Return the copies of a task's results."""
    async with world.context.database.reading() as connection:
        return await asset_store.of_task(connection, task.id)


async def stored(world: World, name: str | None) -> bytes:
    """Return the content of a stored file."""
    assert world.context.objects is not None
    assert name is not None
    return b"".join([block async for block in world.context.objects.read(name)])


async def names(world: World) -> list[str]:
    """Return the names of all stored files."""
    assert world.context.objects is not None
    return sorted([each.name async for each in world.context.objects.list()])


def sha256(ending: str, size: int) -> str:
    """Return the hash of a file that the sandbox serves."""
    return hashlib.sha256(content(ending, size)).hexdigest()
