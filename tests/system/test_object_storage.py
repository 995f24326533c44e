"""Object storage at a real S3 server: whole objects, presigned URLs, and what a dead server looks like."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from service.object_errors import NoSuchObject, StorageError
from service.objects import BLOCK, Objects, open_objects
from tests.support.radosgw import BUCKET, KEY, SECRET, Radosgw, s3_server

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("s3")]


@pytest.fixture(scope="module")
def server() -> Iterator[Radosgw]:
    with s3_server() as started:
        yield started


def opened(server: Radosgw, secret: str = SECRET) -> Objects:
    url = f"s3://{BUCKET}/dove"
    return open_objects(url, Path(), endpoint=server.url, region="us-east-1", key_id=KEY, secret=secret)


async def stream(content: bytes, failure: Exception | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 300_000):
        yield content[start : start + 300_000]
    if failure is not None:
        raise failure


async def test_object_is_stored_read_listed_and_deleted(server: Radosgw) -> None:
    content = os.urandom(17 * BLOCK + 5)
    with contextlib.closing(opened(server)) as objects:
        stored = await objects.put("results/1/0", stream(content), limit=len(content), content_type="video/mp4")
        assert stored.sha256 == hashlib.sha256(content).hexdigest()
        assert b"".join([block async for block in objects.read("results/1/0")]) == content
        assert (
            b"".join([block async for block in objects.read("results/1/0", 6 * BLOCK - 1, 6 * BLOCK + 1)])
            == (content[6 * BLOCK - 1 : 6 * BLOCK + 1])
        )
        await objects.put("results/10/0", stream(b""), limit=0)
        assert [each.name async for each in objects.list("results/1")] == ["results/1/0"]
        await objects.delete(["results/1/0", "results/10/0", "results/none"])
        assert [each async for each in objects.list()] == []
        await objects.check()


async def test_stream_that_breaks_off_leaves_no_object(server: Radosgw) -> None:
    with contextlib.closing(opened(server)) as objects:
        with pytest.raises(RuntimeError, match="broke"):
            await objects.put("cut", stream(bytes(12 * BLOCK), RuntimeError("broke")), limit=99 * BLOCK)
        with pytest.raises(NoSuchObject):
            await objects.size("cut")


async def test_presigned_url_is_read_by_anybody_and_no_forged_one(server: Radosgw) -> None:
    with contextlib.closing(opened(server)) as objects:
        await objects.put("film", stream(b"0123456789"), limit=10, content_type="video/mp4", disposition="attachment")
        url = await objects.presigned("film", seconds=60)
        assert url is not None
        async with httpx.AsyncClient() as client:
            answer = await client.get(url, headers={"Range": "bytes=2-4"})
            forged = await client.get(url[:-4] + ("0000" if url[-4:] != "0000" else "1111"))
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (206, b"234", "video/mp4")
    assert answer.headers["content-disposition"] == "attachment"
    assert forged.status_code == 403


async def test_wrong_secret_is_a_storage_error_without_the_secret(server: Radosgw) -> None:
    with contextlib.closing(opened(server, "another-secret")) as objects, pytest.raises(StorageError) as raised:
        await objects.check()
    assert "another-secret" not in str(raised.value)


async def test_killed_server_is_noticed_within_its_limits(server: Radosgw) -> None:
    begun = asyncio.Event()

    async def content() -> AsyncIterator[bytes]:
        yield bytes(6 * BLOCK)
        begun.set()
        for _ in range(20):
            yield bytes(BLOCK)

    with contextlib.closing(opened(server)) as objects:
        storing = asyncio.create_task(objects.put("killed", content(), limit=99 * BLOCK))
        await begun.wait()
        await asyncio.to_thread(server.kill_gateway)
        try:
            async with asyncio.timeout(90):
                with pytest.raises(StorageError):
                    await storing
                with pytest.raises(StorageError):
                    await objects.size("killed")
        finally:
            await asyncio.to_thread(server.start_gateway)
        with pytest.raises(NoSuchObject):
            await objects.size("killed")
