"""The files of finished jobs: ranges as providers have them, and each fault of a file."""

import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest

from service.sandbox import Faults, Sandbox, running
from service.sandbox.served_files import content


@contextlib.asynccontextmanager
async def served(**faults: object) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """Serve a sandbox with a finished job, and yield a client and the path of the job's file."""
    sandbox = Sandbox(seconds=0, faults=Faults(**faults))  # type: ignore[arg-type]
    async with running(sandbox) as url, httpx.AsyncClient(base_url=url) as client:
        order = {"prompt": "a dove", "model": "gen4", "callback_url": "https://me.invalid/"}
        key = {"Authorization": "Bearer sandbox-key"}
        assert (await client.post("/runway/pro/generate", json=order, headers=key)).status_code == 200
        [job] = sandbox.ledger.jobs
        yield client, f"/sandbox/files/{job.id}.mp4"


async def test_filebytes_is_the_size_of_the_file() -> None:
    async with served(filebytes=700_000) as (client, path):
        answer = await client.get(path)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.content == content("mp4", 700_000)


@pytest.mark.parametrize(("asked", "start", "end"), [("bytes=0-0", 0, 1), ("bytes=300000-", 300_000, 700_000)])
async def test_range_of_a_file_is_served(asked: str, start: int, end: int) -> None:
    async with served(filebytes=700_000) as (client, path):
        whole = await client.get(path)
        part = await client.get(path, headers={"Range": asked, "If-Range": whole.headers["etag"]})
        other = await client.get(path, headers={"Range": asked, "If-Range": '"other"'})
    assert (part.status_code, part.content) == (206, content("mp4", 700_000)[start:end])
    assert part.headers["content-range"] == f"bytes {start}-{end - 1}/700000"
    assert (other.status_code, len(other.content)) == (200, 700_000)


async def test_range_that_ends_before_it_begins_is_ignored() -> None:
    async with served() as (client, path):
        assert (await client.get(path, headers={"Range": "bytes=5-2"})).status_code == 200
        assert (await client.get(path, headers={"Range": "bytes=5-5"})).status_code == 206


async def test_filegone_deletes_the_file() -> None:
    async with served(filegone=0.0) as (client, path):
        assert (await client.get(path)).status_code == 404


async def test_file503_is_unavailable_at_first() -> None:
    async with served(file_unavailable=2) as (client, path):
        assert [(await client.get(path)).status_code for _ in range(3)] == [503, 503, 200]


async def test_filereset_breaks_off_in_the_middle() -> None:
    async with served(filereset=1, filebytes=600_000) as (client, path):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(path)
        assert len((await client.get(path)).content) == 600_000


async def test_filepage_is_a_page_of_the_wrong_type() -> None:
    async with served(filepage=True) as (client, path):
        answer = await client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
    assert b"<html>" in answer.content


async def test_filechunked_has_no_length() -> None:
    async with served(filechunked=True, filebytes=300_000) as (client, path):
        answer = await client.get(path)
    assert "content-length" not in answer.headers
    assert len(answer.content) == 300_000


async def test_fileshort_announces_more_than_comes() -> None:
    async with served(fileshort=True) as (client, path):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(path)
