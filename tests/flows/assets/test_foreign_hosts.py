"""Files are fetched from public addresses only, over real sockets, with a canary that nobody may reach."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from service.flows.assets.download import Download, Origin, Unfetchable
from service.flows.context import Context
from service.http.client import Http
from service.http.ssrf.guard import Guard
from service.settings.results import ResultsSettings
from tests.support.breakage import Handle, Server, request_of
from tests.support.disguises import LEADS_TO, PRIVATE_HOSTS, spellings
from tests.support.edges import Canary, ConnectionMonitor, Names, listening_ears, singing_canary
from tests.support.world import World


@pytest.fixture
def monitor() -> Iterator[ConnectionMonitor]:
    with listening_ears() as listening:
        yield listening


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    async with singing_canary() as watching:
        yield watching


@pytest.fixture
async def context(sqlite_url: str) -> AsyncIterator[Context]:
    """Yield a context whose files come over real sockets. The name servers know only the canary's address."""
    names = Names({**LEADS_TO, **{host: ["127.0.0.1", "::1"] for host in ("public.example", "localhost", "db")}})
    async with World.opened(sqlite_url) as world:
        guard = Guard(ResultsSettings().rules, names)
        http = Http.real(guard, files_guard=guard)
        try:
            yield dataclasses.replace(world.context, http=http)
        finally:
            await http.close()


async def fetched(context: Context, url: str, **origin: Any) -> bytes | str:
    """Return the content of a file, or why it cannot be fetched."""
    download = Download(context, Origin(url=url, **origin), limit=2**20)
    try:
        return b"".join([chunk async for chunk in download.chunks()])
    except Unfetchable as error:
        return error.reason


async def test_no_spelling_of_a_private_address_is_fetched(
    context: Context, canary: Canary, monitor: ConnectionMonitor
) -> None:
    reached = {}
    urls = [url for url in spellings(canary.port) if not url.startswith("data:")]
    assert len(urls) > 100
    for url in [*urls, *(f"http://{name}:{canary.port}/" for name in LEADS_TO)]:
        found = await fetched(context, url)
        if isinstance(found, bytes):
            reached[url] = found
    assert reached == {}
    assert (canary.connections, monitor.connects) == (0, [])


def redirecting(location: str) -> Handle:
    """Return what answers every request by a redirect."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()

    return handle


async def test_redirect_to_a_private_address_is_not_followed(context: Context, canary: Canary) -> None:
    upstream = context.upstreams["elkapi"]
    for host in PRIVATE_HOSTS:
        location = f"http://{host}:{canary.port}/film.mp4"
        async with Server.running(redirecting(location)) as server:
            settings = upstream.settings.model_copy(update={"base_url": server.url})
            own = dataclasses.replace(upstream, settings=settings)
            found = await fetched(context, f"{server.url}/film", upstream=own, dialect=own.dialects[0])
            assert isinstance(found, str), (host, found)
    assert canary.connections == 0


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://api.example.com/v1/videos/1/content", "/v1/videos/1/content"),
        ("https://API.example.com:443/a?b=c", "/a?b=c"),
        ("http://api.example.com/a", None),
        ("https://api.example.com:8443/a", None),
        ("https://api.example.com.evil.test/a", None),
        ("https://evil.test/api.example.com/a", None),
        ("https://api.example.com@evil.test/a", None),
        ("https://api.example.com\\@evil.test/a", None),
        ("//api.example.com/a", None),
        ("https://api.example.com", None),
        ("https://api.example.com:x/a", None),
    ],
)
def test_only_a_file_at_the_upstreams_own_host_gets_its_key(context: Context, url: str, path: str | None) -> None:
    upstream = context.upstreams["elkapi"]
    settings = upstream.settings.model_copy(update={"base_url": "https://api.example.com"})
    own = dataclasses.replace(upstream, settings=settings)
    assert Origin(url=url, upstream=own, dialect=own.dialects[0]).own_path(url) == path


def test_base_url_with_a_path_bounds_where_the_key_goes(context: Context) -> None:
    upstream = context.upstreams["elkapi"]
    settings = upstream.settings.model_copy(update={"base_url": "https://host.test/v1/projects/a"})
    origin = Origin(url="", upstream=dataclasses.replace(upstream, settings=settings), dialect=upstream.dialects[0])
    assert origin.own_path("https://host.test/v1/projects/a/films/1") == "/films/1"
    assert origin.own_path("https://host.test/v1/projects/ab/films/1") is None
    assert origin.own_path("https://host.test/other") is None


async def test_redirects_without_end_are_given_up(context: Context) -> None:
    upstream = context.upstreams["elkapi"]
    async with Server.running(redirecting("/again")) as server:
        settings = upstream.settings.model_copy(update={"base_url": server.url})
        own = dataclasses.replace(upstream, settings=settings)
        found = await fetched(context, f"{server.url}/film", upstream=own, dialect=own.dialects[0])
    assert found == "it is redirected too often"
    assert isinstance(context.http.files, httpx.AsyncClient)
