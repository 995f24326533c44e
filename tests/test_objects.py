"""Object storage in a local folder: objects are whole or not there, and nothing is left behind."""

import asyncio
import contextlib
import gc
import hashlib
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import obstore
import pytest

import service.objects
from service.object_errors import NoSuchObject, ObjectTooLarge, StorageAway, StorageError, StorageFull
from service.objects import BLOCK, Objects, open_objects
from tests.support.waiting import LIMIT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def objects(folder: Path) -> Iterator[Objects]:
    with contextlib.closing(open_objects(None, folder, min_free=0)) as opened:
        yield opened


async def stream(content: bytes, *, size: int = 300_000, failure: Exception | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]
    if failure is not None:
        raise failure


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("size", [0, 1, BLOCK, 12 * BLOCK + 7], ids=["empty", "byte", "block", "parts"])
async def test_object_is_read_as_it_was_stored(objects: Objects, size: int) -> None:
    content = os.urandom(size)
    stored = await objects.put("results/a/0", stream(content), limit=size)
    assert (stored.size, stored.sha256) == (size, hashlib.sha256(content).hexdigest())
    assert await objects.size("results/a/0") == size
    assert b"".join([block async for block in objects.read("results/a/0")]) == content


async def test_range_of_an_object_is_read(objects: Objects) -> None:
    content = os.urandom(3 * BLOCK)
    await objects.put("a", stream(content), limit=len(content))
    for start, end in [(0, 1), (BLOCK - 1, BLOCK + 1), (5, 3 * BLOCK), (7, 7)]:
        assert b"".join([block async for block in objects.read("a", start, end)]) == content[start:end]


async def test_object_that_is_not_there_is_named(objects: Objects) -> None:
    with pytest.raises(NoSuchObject):
        await objects.size("nothing")
    with pytest.raises(NoSuchObject):
        await anext(objects.read("nothing"))
    await objects.delete(["nothing"])


class Broke(Exception):
    pass


async def test_stream_that_breaks_off_leaves_nothing(objects: Objects, folder: Path) -> None:
    with pytest.raises(Broke):
        await objects.put("a/b", stream(bytes(9 * BLOCK), failure=Broke()), limit=100 * BLOCK)
    assert files(folder) == []
    with pytest.raises(NoSuchObject):
        await objects.size("a/b")


@pytest.mark.parametrize("size", [100, 7 * BLOCK], ids=["small", "parts"])
async def test_failed_upload_leaves_nothing_in_memory(objects: Objects, size: int) -> None:
    """Without a garbage collection: it is rare in a server, and each failure has large buffers."""
    failures = [Broke()]
    found = weakref.ref(failures[0])
    gc.disable()
    try:
        with contextlib.suppress(Broke):
            await objects.put("a", broken(failures, size), limit=100 * BLOCK)
        await asyncio.sleep(0)
        assert (failures, found()) == ([], None)
    finally:
        gc.enable()


async def broken(failures: list[Exception], size: int) -> AsyncIterator[bytes]:
    yield bytes(size)
    raise failures.pop()


async def test_stream_beyond_the_limit_leaves_nothing(objects: Objects, folder: Path) -> None:
    with pytest.raises(ObjectTooLarge, match="more than 100 bytes"):
        await objects.put("a", stream(bytes(101)), limit=100)
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += BLOCK
            yield bytes(BLOCK)

    with pytest.raises(ObjectTooLarge):
        await objects.put("a", endless(), limit=7 * BLOCK)
    assert read <= 9 * BLOCK
    assert files(folder) == []


async def test_failed_overwrite_keeps_the_old_object(objects: Objects) -> None:
    await objects.put("a", stream(b"old"), limit=9)
    with pytest.raises(Broke):
        await objects.put("a", stream(b"new", failure=Broke()), limit=9)
    assert b"".join([block async for block in objects.read("a")]) == b"old"


async def test_cancelled_upload_leaves_nothing(objects: Objects, folder: Path) -> None:
    waiting = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield bytes(6 * BLOCK)
        waiting.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(objects.put("a", stuck(), limit=100 * BLOCK))
    await asyncio.wait_for(waiting.wait(), LIMIT)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files(folder) == []


async def test_slow_uploads_do_not_delay_a_read(objects: Objects) -> None:
    await objects.put("small", stream(b"small"), limit=9)
    begun = asyncio.Semaphore(0)

    async def stuck() -> AsyncIterator[bytes]:
        begun.release()
        await asyncio.Event().wait()
        yield b""

    tasks = [asyncio.create_task(objects.put(f"slow/{n}", stuck(), limit=9)) for n in range(20)]
    for _ in tasks:
        await asyncio.wait_for(begun.acquire(), LIMIT)
    assert await asyncio.wait_for(objects.size("small"), LIMIT) == 5
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_objects_are_listed_by_whole_segments(objects: Objects) -> None:
    names = ["results/1/0", "results/1/1", "results/10/0", "uploads/1"]
    for name in names:
        await objects.put(name, stream(b"x"), limit=9)
    assert sorted([each.name async for each in objects.list("results/1")]) == names[:2]
    assert sorted([each.name async for each in objects.list()]) == names
    assert [each async for each in objects.list("nothing")] == []
    await objects.delete(names)
    assert [each async for each in objects.list()] == []


async def test_disk_that_would_be_filled_is_left_alone(folder: Path) -> None:
    with (
        contextlib.closing(open_objects(None, folder, min_free=2**62)) as objects,
        pytest.raises(StorageFull, match="would be left free"),
    ):
        await objects.put("a", stream(b"x"), limit=9)
    assert files(folder) == []


async def test_failure_of_the_storage_is_a_storage_error(objects: Objects, folder: Path) -> None:
    (folder / "a").write_text("a file where a folder is wanted")
    with pytest.raises(StorageError):
        await objects.put("a/b", stream(b"x"), limit=9)


async def test_local_folder_has_no_presigned_url(objects: Objects) -> None:
    assert objects.local
    assert await objects.presigned("a", seconds=60) is None


async def test_presigned_url_of_a_bucket_is_limited_in_time(tmp_path: Path) -> None:
    bucket = open_objects(
        "s3://bucket/dove", tmp_path, endpoint="http://127.0.0.1:9", region="us-east-1", key_id="id", secret="secret"
    )
    with contextlib.closing(bucket):
        url = await bucket.presigned("results/1/0", seconds=60)
        assert url is not None
        assert url.startswith("http://127.0.0.1:9/bucket/dove/results/1/0?")
        assert "X-Amz-Expires=60" in url
        assert not bucket.local


async def test_failure_of_a_bucket_names_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = open_objects(
        "s3://bucket", tmp_path, endpoint="http://127.0.0.1:9", region="us-east-1", key_id="id", secret="secret"
    )
    monkeypatch.setattr("service.objects._RETRY", {"max_retries": 0})
    with contextlib.closing(bucket), pytest.raises(StorageError) as raised:
        await bucket.size("a")
    assert "127.0.0.1" not in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a b", "ä", "a#1", "a?b", "a%2fb"])
async def test_name_that_is_no_name_is_refused(objects: Objects, name: str) -> None:
    with pytest.raises(ValueError, match="no name of an object"):
        await objects.put(name, stream(b"x"), limit=9)
    with pytest.raises(ValueError, match="no name of an object"):
        await objects.size(name)


@pytest.mark.parametrize("url", ["ftp://host/x", "s3://", "memory:///", "https://example.com/x", "nonsense"])
def test_url_of_no_storage_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        open_objects(url, tmp_path)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageAway, match="cannot be made"):
        open_objects(None, tmp_path / "file" / "objects")


def test_folder_is_readable_by_its_owner_only(folder: Path, objects: Objects) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700


async def test_storage_is_checked_by_a_round_trip(objects: Objects, folder: Path) -> None:
    await objects.check()
    assert files(folder) == []
    (folder / "check").write_text("")
    with pytest.raises(StorageError):
        await objects.check()


_UPLOAD = """
import asyncio, sys
from pathlib import Path
from service.objects import open_objects

async def content():
    yield bytes(12 << 20)
    print("begun", flush=True)
    await asyncio.Event().wait()

asyncio.run(open_objects(None, Path(sys.argv[1]), min_free=0).put("a/killed", content(), limit=1 << 30))
"""


async def test_half_written_file_of_a_killed_process_is_swept(objects: Objects, folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _UPLOAD, folder, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"begun\n"
    process.send_signal(signal.SIGKILL)
    await process.wait()
    [left] = files(folder)
    assert "#" in left
    with pytest.raises(NoSuchObject):
        await objects.size("a/killed")
    assert [each async for each in objects.list()] == []
    assert await objects.sweep() == 0  # it may still be written
    os.utime(folder / left, (time.time() - 7200,) * 2)
    assert await objects.sweep() == 1
    assert files(folder) == []


_EXIT = """
import asyncio, sys
from pathlib import Path
from service.objects import open_objects

async def content():
    yield bytes(6 << 20)

async def main():
    objects = open_objects(None, Path(sys.argv[1]), min_free=0)
    await objects.put("a", content(), limit=1 << 30)
    await objects.size("a")

asyncio.run(main())
"""


def test_process_that_ends_right_after_a_call_ends_well(folder: Path) -> None:
    for _ in range(3):
        subprocess.run([sys.executable, "-c", _EXIT, str(folder)], check=True)  # noqa: S603


def test_library_is_used_by_its_synchronous_functions_only() -> None:
    """Its asynchronous functions abort a process that ends at once after them."""
    source = Path(service.objects.__file__).read_text(encoding="utf-8")
    assert [name for name in dir(obstore) if name.endswith("_async") and name in source] == []
