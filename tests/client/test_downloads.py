"""Downloads of results: the kept copy with a key, the original without one, and on where a connection broke."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dovecote import AsyncClient, Client, DovecoteError
from dovecote import results as results_module
from tests.support.openapi import COMPONENTS, ID, sample

FILM = bytes(range(256)) * 2000
TASK = f"/v1/tasks/{ID}"
CONTENT = f"{TASK}/results/0/content"


class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that breaks off after some bytes."""

    def __init__(self, content: bytes, breaks_after: int | None = None) -> None:
        self._content, self._breaks_after = content, breaks_after

    def __iter__(self) -> Iterator[bytes]:
        yield self._content[: self._breaks_after]
        if self._breaks_after is not None:
            raise httpx.RemoteProtocolError("broke off")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for each in self:
            yield each


class Server:
    """Serves one task and its files, and records the requests."""

    def __init__(self, **result: Any) -> None:
        self.requests: list[httpx.Request] = []
        self.breaks = 0
        shown = {
            "kind": "video",
            "role": "result",
            "kept": "kept",
            "sha256": hashlib.sha256(FILM).hexdigest(),
            **result,
        }
        self.task = {
            **sample(COMPONENTS["Task"]),
            "id": ID,
            "family": "runway",
            "state": "succeeded",
            "results": [shown],
        }
        self.films: dict[str, Callable[[httpx.Request], httpx.Response]] = {}

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.path in self.films:
            return self.films[request.url.path](request)
        if request.url.path == TASK:
            return httpx.Response(200, json=self.task)
        start = int(request.headers.get("range", "bytes=0-")[6:-1])
        self.breaks -= 1
        body = Pieces(FILM[start:], 1000 if self.breaks >= 0 else None)
        headers = {"ETag": '"film"', "Content-Length": str(len(FILM) - start)}
        return httpx.Response(206 if start else 200, headers=headers, stream=body)


@pytest.fixture(params=["sync", "async"])
def save(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Save the results of the server's task, by each client."""

    async def at_once(_: float) -> None:
        return None

    monkeypatch.setattr(results_module.time, "sleep", lambda _: None)
    monkeypatch.setattr(results_module.asyncio, "sleep", at_once)

    def call(server: Server, **more: Any) -> list[bytes]:
        transport = httpx.MockTransport(server.answer)
        plain = {"httpx.Client": httpx.Client, "httpx.AsyncClient": httpx.AsyncClient}
        for name, kind in plain.items():
            monkeypatch.setattr(
                f"dovecote.results.{name}", lambda kind=kind, **given: kind(**{"transport": transport, **given})
            )
        if request.param == "sync":
            with Client("http://dovecote.test", "key", transport=transport) as client:
                files = client.results.save(ID, tmp_path, **more)
        else:

            async def run() -> Any:
                async with AsyncClient("http://dovecote.test", "key", transport=transport) as client:
                    return await client.results.save(ID, tmp_path, **more)

            files = asyncio.run(run())
        assert sorted(tmp_path.iterdir()) == sorted(files)
        return [path.read_bytes() for path in files]

    return call


def test_kept_copy_is_downloaded_with_the_key(save: Callable[..., list[bytes]]) -> None:
    server = Server(media_type="video/mp4")
    assert save(server) == [FILM]
    [_, request] = server.requests
    assert (request.url.path, request.headers["authorization"]) == (CONTENT, "Bearer key")


def test_download_goes_on_where_it_broke(save: Callable[..., list[bytes]]) -> None:
    server = Server()
    server.breaks = 3
    assert save(server) == [FILM]
    assert [each.headers.get("range") for each in server.requests[1:]] == [None, *(f"bytes={n}000-" for n in (1, 2, 3))]


def test_original_is_downloaded_without_the_key(save: Callable[..., list[bytes]]) -> None:
    server = Server(kept="lost", url="http://cdn.test/film.mp4", sha256=None)
    server.films["/film.mp4"] = lambda _: httpx.Response(200, stream=Pieces(FILM))
    assert save(server) == [FILM]
    assert "authorization" not in server.requests[-1].headers


def test_redirect_to_a_bucket_is_followed_without_the_key(save: Callable[..., list[bytes]]) -> None:
    server = Server()
    server.films[CONTENT] = lambda _: httpx.Response(307, headers={"Location": "http://bucket.test/film?signed"})
    server.films["/film"] = lambda _: httpx.Response(200, stream=Pieces(FILM))
    assert save(server) == [FILM]
    assert "authorization" not in server.requests[-1].headers


def test_text_and_data_url_are_written(save: Callable[..., list[bytes]]) -> None:
    server = Server(kept="off", url="data:image/png;base64,AAEC", sha256=None)
    server.task["results"].append({"kind": "text", "role": "result", "text": "words"})
    assert save(server) == [b"\0\1\2", b"words"]


def test_pending_copy_is_waited_for(save: Callable[..., list[bytes]]) -> None:
    server = Server()
    shown = server.task["results"][0]
    later = {**server.task, "results": [{**shown, "kept": "kept"}]}
    shown["kept"] = "pending"

    def answer(_: httpx.Request) -> httpx.Response:
        task, server.task = server.task, later
        return httpx.Response(200, json=task)

    server.films[TASK] = answer
    assert save(server) == [FILM]


@pytest.mark.parametrize("status", [404, 410, 416])
def test_file_that_cannot_be_had_is_an_error(save: Callable[..., list[bytes]], status: int, tmp_path: Path) -> None:
    server = Server()
    problem = {"status": status, "code": "not_kept", "title": "-", "detail": "gone"}
    server.films[CONTENT] = lambda _: httpx.Response(status, json=problem)
    with pytest.raises(DovecoteError, match="gone"):
        save(server)
    assert list(tmp_path.iterdir()) == []


def test_other_bytes_than_stated_are_no_file(save: Callable[..., list[bytes]], tmp_path: Path) -> None:
    server = Server(sha256="0" * 64)
    with pytest.raises(DovecoteError, match="another hash"):
        save(server)
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
