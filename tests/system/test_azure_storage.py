"""Object storage at a server that speaks Azure's protocol: whole objects, presigned URLs, and what is killed in the middle."""

import asyncio
import contextlib
import hashlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from service.object_errors import NoSuchObject, StorageError
from service.objects import BLOCK, Objects, open_objects
from tests.support.azurite import CONTAINER, Azurite, azure_server

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("azure")]
UPLOAD = """
import asyncio, itertools, sys
from pathlib import Path
from service.objects import BLOCK, open_objects

async def endless():
    for number in itertools.count():
        if number == 24:
            print("under way", flush=True)
        yield bytes(BLOCK)
        await asyncio.sleep(0.01 if number > 24 else 0)

objects = open_objects(sys.argv[1], Path(), endpoint=sys.argv[2])
asyncio.run(objects.put("results/1/killed", endless(), limit=2**40))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with azure_server(tmp_path_factory.mktemp("azurite")) as started:
        yield started


@pytest.fixture
def objects(server: Azurite, monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    with contextlib.closing(open_objects(f"az://{CONTAINER}/dove", Path(), endpoint=server.url)) as opened:
        yield opened


async def stream(content: bytes, failure: Exception | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 300_000):
        yield content[start : start + 300_000]
    if failure is not None:
        raise failure


async def test_object_is_stored_read_listed_and_deleted(objects: Objects) -> None:
    content = os.urandom(12 * BLOCK + 5)
    stored = await objects.put("results/1/0", stream(content), limit=len(content), content_type="video/mp4")
    assert stored.sha256 == hashlib.sha256(content).hexdigest()
    assert b"".join([block async for block in objects.read("results/1/0")]) == content
    part = b"".join([block async for block in objects.read("results/1/0", 6 * BLOCK - 1, 6 * BLOCK + 1)])
    assert part == content[6 * BLOCK - 1 : 6 * BLOCK + 1]
    await objects.put("results/10/0", stream(b"a dove"), limit=6)
    assert [each.name async for each in objects.list("results/1")] == ["results/1/0"]
    await objects.delete(["results/1/0", "results/10/0", "results/none"])
    assert [each async for each in objects.list()] == []
    await objects.check()


async def test_presigned_url_is_read_by_anybody_with_its_type(objects: Objects) -> None:
    name = '"a dove.mp4"'
    await objects.put(
        "kept", stream(b"a dove"), limit=6, content_type="video/mp4", disposition=f"inline; filename={name}"
    )
    url = await objects.presigned("kept", seconds=60)
    assert url is not None
    async with httpx.AsyncClient() as client:
        answer = await client.get(url, headers={"Range": "bytes=2-5"})
        assert (answer.status_code, answer.content) == (206, b"dove")
        assert answer.headers["content-type"] == "video/mp4"
        assert answer.headers["content-disposition"] == f"inline; filename={name}"
        assert (await client.get(url.replace("kept", "other"))).status_code == 403
    await objects.delete(["kept"])


async def test_stream_that_breaks_off_leaves_no_object(objects: Objects) -> None:
    with pytest.raises(RuntimeError, match="broke"):
        await objects.put("cut", stream(bytes(12 * BLOCK), RuntimeError("broke")), limit=99 * BLOCK)
    with pytest.raises(NoSuchObject):
        await objects.size("cut")


async def test_killed_upload_leaves_no_object(objects: Objects, server: Azurite) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        UPLOAD,
        f"az://{CONTAINER}/dove",
        server.url,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **server.environment},
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"under way\n"
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert [each async for each in objects.list()] == []
    await objects.put("results/1/killed", stream(b"whole"), limit=5)  # the next attempt
    assert [block async for block in objects.read("results/1/killed")] == [b"whole"]
    await objects.delete(["results/1/killed"])


async def test_killed_server_is_a_storage_error_until_it_is_back(objects: Objects, server: Azurite) -> None:
    await asyncio.to_thread(server.kill)
    with pytest.raises(StorageError) as caught:
        await objects.size("kept")
    assert not isinstance(caught.value, NoSuchObject)
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(server.make_container)  # the emulator writes its lists late, and a kill loses them
    await objects.check()
