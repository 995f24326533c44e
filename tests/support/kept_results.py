"""A world that keeps results, whose sandbox is reached over real sockets, so that files can break off."""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx

from service.domain.changes import StatusReported
from service.domain.task import Result, ResultKind, Source, State, Task, Update
from service.flows.apply import settle
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
    # The world stores files in a folder of its own. On PostgreSQL the settings require that some storage is named.
    storage = {} if database_url.startswith("sqlite") else {"DOVECOTE_STORAGE__URL": "file:///of-the-world"}
    settings = {"DOVECOTE_RESULTS__KEEP": "all", **storage, **settings}
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


class Files(httpx.AsyncBaseTransport):
    """A host of files: answers each path with a content, or with what a function makes of the request."""

    def __init__(self, files: Mapping[str, bytes | Callable[[httpx.Request], httpx.Response]]) -> None:
        self.files = dict(files)
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        found = self.files.get(request.url.path)
        if found is None:
            return httpx.Response(404, stream=httpx.ByteStream(b""))
        if isinstance(found, bytes):
            return httpx.Response(200, stream=httpx.ByteStream(found))
        return found(request)


async def ended_with(world: World, *results: Result, **fields: Any) -> Task:
    """Return a task that ended with these results, and let what is due at once be done."""
    task = await world.submit("[drop][stuck]", **fields)
    await world.work()
    update = Update(state=State.SUCCEEDED, results=results)
    await settle(world.context, StatusReported(task_id=task.id, source=Source.POLL, update=update))
    await world.work()
    return await world.task(task)


async def kept_file(world: World, content: bytes, kind: ResultKind = "video") -> Task:
    """Return a task whose result is a kept file with this content."""
    world.edge.hosts["cdn.test"] = Files({"/file": content})
    return await ended_with(world, Result(kind, "http://cdn.test/file"))
