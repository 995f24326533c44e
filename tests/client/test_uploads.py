"""Uploads by both clients: a file is streamed with its length, and read anew for each attempt."""

from pathlib import Path

import httpx
import pytest

from dovecote import AsyncClient, Client

SHOWN = {
    "id": "upl_aghltqmk3nzhfd5a2sywqjfxqm",
    "name": "cat.bin",
    "content_type": "application/octet-stream",
    "size": 3,
}


class Server:
    """A server that is away for the first requests."""

    def __init__(self, away: int = 0) -> None:
        self.away, self.requests = away, list[tuple[httpx.Request, bytes]]()

    def answer(self, request: httpx.Request, body: bytes) -> httpx.Response:
        self.requests.append((request, body))
        if len(self.requests) <= self.away:
            problem = {"status": 503, "code": "unavailable", "title": "", "detail": ""}
            return httpx.Response(503, json=problem, headers={"Retry-After": "0"})
        return httpx.Response(201, json=SHOWN)

    def respond(self, request: httpx.Request) -> httpx.Response:
        return self.answer(request, request.read())

    async def respond_async(self, request: httpx.Request) -> httpx.Response:
        return self.answer(request, await request.aread())


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_file_is_read_anew_for_each_attempt(tmp_path: Path, kind: str) -> None:
    path, content, server = tmp_path / "cat.bin", bytes(range(256)) * 4000, Server(away=1)
    path.write_bytes(content)
    if kind == "sync":
        with Client("http://dovecote.test", "key", transport=httpx.MockTransport(server.respond)) as client:
            upload = client.upload(path)
    else:
        transport = httpx.MockTransport(server.respond_async)
        async with AsyncClient("http://dovecote.test", "key", transport=transport) as other:
            upload = await other.upload(str(path))
    assert upload.id == SHOWN["id"]
    assert [body for _, body in server.requests] == [content, content]
    for request, _ in server.requests:
        assert request.headers["content-length"] == str(len(content))
        assert request.headers["content-type"] == "application/octet-stream"
        assert request.url.params["name"] == "cat.bin"


def test_file_that_cannot_be_read_sends_nothing(tmp_path: Path) -> None:
    server = Server()
    with (
        Client("http://dovecote.test", "key", transport=httpx.MockTransport(server.respond)) as client,
        pytest.raises(FileNotFoundError),
    ):
        client.upload(tmp_path / "nothing.png")
    assert server.requests == []


@pytest.mark.parametrize("name", ["../tasks", "upl_x/y", "upl_ü", "a?b"])
def test_text_that_is_no_id_reaches_no_path(name: str) -> None:
    server = Server()
    with (
        Client("http://dovecote.test", "key", transport=httpx.MockTransport(server.respond)) as client,
        pytest.raises(ValueError, match="not the id of an upload"),
    ):
        client.uploads.get(name)
