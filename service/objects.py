"""Object storage: a local folder, or a bucket at S3, Google or Azure. It stores bytes by name and knows no task.

Every call of the library runs in a thread of its own. Its asynchronous functions may abort a process that ends soon after one
of them, see docs/decisions/0031.
"""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import functools
import hashlib
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

import obstore
from obstore.exceptions import NotSupportedError
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

from service.object_errors import NoSuchObject, ObjectTooLarge, StorageAway, StorageError, StorageFull, translated

PART: Final = 5 * 2**20
"""Bytes that are stored at once: the smallest part that S3 accepts. An upload has at most three of them in memory."""
BLOCK: Final = 2**20
"""Bytes that are read at once."""
MIN_FREE: Final = 2**30
"""Bytes of a disk that a local folder leaves free: the database may be on the same disk."""
HALF_WRITTEN_AGE: Final = 3600.0
"""Seconds without a write after which a half-written file counts as left behind by a killed process."""
_READERS: Final = 16
_WRITERS: Final = 32
"""Threads. An upload occupies one while its stream is slow, so that reads have threads of their own."""
_STOP_WITHIN: Final = 30.0
"""Seconds in which a cancelled upload ends: the limit of the library's own attempts, and a little more."""
_CONNECT_TIMEOUT: Final = "5s"
_TIMEOUT: Final = "20s"
"""The limit of one request: a part, or a block."""
_RETRY: Final[Any] = {"max_retries": 3, "retry_timeout": dt.timedelta(seconds=15)}
_NAME: Final = re.compile(r"[A-Za-z0-9._=-]+(/[A-Za-z0-9._=-]+)*", re.ASCII)
_CHECK_SPACE_EVERY: Final = 16 * PART

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """An object that was stored whole."""

    size: int
    sha256: str


@dataclasses.dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object as a listing shows it."""

    name: str
    size: int
    modified_at: dt.datetime


class Objects:
    """Objects by name. A name has segments of letters, digits and ``. _ = -``, separated by slashes."""

    def __init__(
        self,
        store: LocalStore | S3Store | GCSStore | AzureStore,
        folder: Path | None = None,
        *,
        min_free: int = MIN_FREE,
    ) -> None:
        """Use an open store; see :func:`open_objects`.

        :param folder: the folder of a local store
        :param min_free: bytes of the disk that a local store leaves free
        """
        self._store = store
        self._folder = folder
        self._min_free = min_free
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="objects-read")
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="objects-write")

    @property
    def local(self) -> bool:
        """Whether the objects are files of this machine, so that no URL of theirs can be given away."""
        return self._folder is not None

    async def put(
        self,
        name: str,
        content: AsyncIterator[bytes],
        *,
        limit: int,
        content_type: str | None = None,
        disposition: str | None = None,
    ) -> Stored:
        """Store a stream as an object. The object becomes visible when it is whole, and never in part.

        :param limit: bytes that are accepted
        :param content_type: the type that a presigned URL answers with
        :param disposition: the ``Content-Disposition`` that a presigned URL answers with
        :raises ObjectTooLarge: when the stream has more bytes
        :raises StorageFull: when there is no space left
        :raises StorageError: for every other failure of the storage
        :raises Exception: an exception of the stream is raised as it is
        """
        _check(name)
        loop = asyncio.get_running_loop()
        source = _Source(loop, content, limit, self._require_space)
        attributes = {"Content-Type": content_type, "Content-Disposition": disposition}
        work = loop.run_in_executor(self._writers, self._put, name, source, attributes)
        try:
            failures = await asyncio.shield(work)
        except asyncio.CancelledError:
            source.stop()
            await asyncio.wait({work}, timeout=_STOP_WITHIN)
            raise
        if failures:
            raise failures.pop()  # no name for it here: its traceback has this frame, and large buffers
        return Stored(source.size, source.digest.hexdigest())

    def _put(self, name: str, source: "_Source", attributes: Mapping[str, str | None]) -> list[BaseException]:
        """Store a stream, and return the failure. That of the stream counts more than that of the library's clean-up."""
        given = {key: value for key, value in attributes.items() if value is not None and not self.local}
        try:
            with translated():
                obstore.put(
                    self._store,
                    name,
                    iter(source),
                    use_multipart=True,
                    chunk_size=PART,
                    max_concurrency=2,
                    attributes=given or None,
                )
            if self._folder is not None:
                _flush(self._folder / name)
        except BaseException as error:  # noqa: BLE001 - raised again by the caller
            return [source.take_failure() or error]
        return []

    def _require_space(self) -> None:
        if self._folder is not None and shutil.disk_usage(self._folder).free < self._min_free:
            raise StorageFull(f"less than {self._min_free} bytes would be left free on the disk of the objects")

    async def size(self, name: str) -> int:
        """Return the size of an object.

        :raises NoSuchObject: when there is none
        """
        found = await self._run(functools.partial(obstore.head, self._store, _check(name)))
        return int(found["size"])

    async def read(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes of an object from one position up to, but not including, another; up to the end by default.

        :raises NoSuchObject: when there is none, or no more
        """
        end = await self.size(name) if end is None else end
        while start < end:
            until = min(start + BLOCK, end)
            block = await self._run(functools.partial(self._block, name, start, until))
            if not block:
                raise StorageError("an object is shorter than it was")
            yield block
            start += len(block)

    def _block(self, name: str, start: int, end: int) -> bytes:
        return bytes(obstore.get_range(self._store, _check(name), start=start, end=end))

    async def inspect(self, name: str, read: Callable[[BinaryIO], _T]) -> _T:
        """Call a function with an object as a file, in a thread, and return its answer.

        :raises NoSuchObject: when there is none
        """

        def call() -> _T:
            file: Any = obstore.open_reader(self._store, _check(name), buffer_size=BLOCK)
            return read(file)

        return await self._run(call)

    async def delete(self, names: Iterable[str]) -> None:
        """Delete objects. One that is gone already is no error."""
        for name in names:
            with contextlib.suppress(NoSuchObject):
                await self._run(functools.partial(obstore.delete, self._store, _check(name)))

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """Yield the objects whose name begins with whole segments, such as ``results/7``. A half-written file is none."""
        pages = await self._run(lambda: iter(obstore.list(self._store, prefix or None, chunk_size=500)))
        while (page := await self._run(lambda: next(pages, None))) is not None:
            for each in page:
                yield ObjectInfo(each["path"], each["size"], each["last_modified"])

    async def presigned(self, name: str, *, seconds: float) -> str | None:
        """Return a URL by which anybody can read an object for a time; None where the storage has none."""
        if isinstance(self._store, LocalStore):
            return None
        sign = functools.partial(obstore.sign, self._store, "GET", _check(name), dt.timedelta(seconds=seconds))
        try:
            return str(await self._run(sign))
        except NotSupportedError:
            return None

    async def sweep(self, *, older_than: float = HALF_WRITTEN_AGE) -> int:
        """Delete the half-written files that killed processes left in a local folder, and return how many.

        A bucket has none: its parts of uploads that were never completed are removed by a rule of the bucket.

        :param older_than: seconds without a write
        """
        folder = self._folder
        return 0 if folder is None else await self._run(lambda: _sweep(folder, time.time() - older_than))  # noqa: TID251 - the ages of files

    async def check(self) -> None:
        """Write, read and delete a small object.

        :raises StorageError: when that fails
        """
        name = f"check/{os.getpid()}"
        await self.put(name, _once(b"dovecote"), limit=64)
        found = b"".join([block async for block in self.read(name)])
        await self.delete([name])
        if found != b"dovecote":
            raise StorageError("an object was read back with other bytes than were written")

    async def _run(self, call: Callable[[], _T]) -> _T:
        def translating() -> _T:
            with translated():
                return call()

        return await asyncio.get_running_loop().run_in_executor(self._readers, translating)

    def close(self) -> None:
        """Stop the threads. Calls that run end by themselves, within the limits of the library."""
        for threads in (self._readers, self._writers):
            threads.shutdown(wait=False, cancel_futures=True)


def open_objects(
    url: str | None,
    folder: Path,
    *,
    endpoint: str | None = None,
    region: str | None = None,
    key_id: str | None = None,
    secret: str | None = None,
    min_free: int = MIN_FREE,
) -> Objects:
    """Open a storage. Nothing is sent. A bucket finds what is not given here in the usual variables of its provider.

    :param url: ``s3://bucket/prefix``, ``gs://…``, ``az://…`` or ``file:///folder``; None is the folder
    :param folder: the local folder where no URL is given
    :param endpoint: the address of a server that speaks the protocol of S3 or Azure
    :raises StorageAway: when the folder cannot be made
    :raises StorageError: for a URL or a setting that the library does not know
    """
    if url is None or url.startswith("file://"):
        return _open_folder(folder if url is None else Path(url.removeprefix("file://")), min_free)
    names = ("endpoint", "region", "access_key_id", "secret_access_key")
    values = zip(names, (endpoint, region, key_id, secret), strict=True)
    given: dict[str, Any] = {name: value for name, value in values if value is not None}
    with translated():
        store = obstore.store.from_url(
            url,
            client_options={
                "timeout": _TIMEOUT,
                "connect_timeout": _CONNECT_TIMEOUT,
                "allow_http": (endpoint or "").startswith("http://"),
            },
            retry_config=_RETRY,
            **given,
        )
    if not isinstance(store, S3Store | GCSStore | AzureStore):
        raise StorageError("the URL is none of s3://, gs://, az:// and file://")
    return Objects(store)


def _open_folder(folder: Path, min_free: int) -> Objects:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageAway(f"the folder {str(folder)[:160]} cannot be made: {error.strerror}") from None
    folder = folder.resolve()
    return Objects(LocalStore(folder, automatic_cleanup=True), folder, min_free=min_free)


class _Source:
    """The stream of an upload. A thread iterates over it, and each block is read in the event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        content: AsyncIterator[bytes],
        limit: int,
        require_space: Callable[[], None],
    ) -> None:
        self.size = 0
        self.digest = hashlib.sha256()
        self._failure: BaseException | None = None
        self._loop = loop
        self._content = content
        self._limit = limit
        self._require_space = require_space
        self._reading: Future[bytes] | None = None
        self._stopped = False

    def __iter__(self) -> Iterator[bytes]:
        checked_at = -_CHECK_SPACE_EVERY
        try:
            while True:
                if self.size - checked_at >= _CHECK_SPACE_EVERY:
                    self._require_space()
                    checked_at = self.size
                if self._stopped:
                    raise StorageError("the upload was stopped")  # noqa: TRY301 - recorded below, as all others
                self._reading = asyncio.run_coroutine_threadsafe(self._read_block(), self._loop)
                if self._stopped:  # since the look above: then this read was not there to be cancelled
                    self._reading.cancel()
                block = self._reading.result()
                if not block:
                    return
                self.size += len(block)
                if self.size > self._limit:
                    raise ObjectTooLarge(self._limit)  # noqa: TRY301 - as above
                self.digest.update(block)
                yield block
        except GeneratorExit:
            raise
        except BaseException as error:
            self._failure, self._reading = error, None
            raise

    def take_failure(self) -> BaseException | None:
        """Return the failure of the stream, and forget it: a cycle of references would keep its buffers in memory."""
        failure, self._failure = self._failure, None
        return failure

    async def _read_block(self) -> bytes:
        """Return about :data:`BLOCK` bytes; fewer at the end, and none after it."""
        block = bytearray()
        async for chunk in self._content:
            block += chunk
            if len(block) >= BLOCK:
                break
        return bytes(block)

    def stop(self) -> None:
        """Make the thread end the upload."""
        self._stopped = True
        if self._reading is not None:
            self._reading.cancel()


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _check(name: str) -> str:
    if _NAME.fullmatch(name) is None or {".", ".."} & set(name.split("/")):
        raise ValueError(f"{name[:80]!r} is no name of an object")
    return name


def _flush(path: Path) -> None:
    """Write a file and its entry in its folder to the disk."""
    with translated():
        for each in (path, path.parent):
            descriptor = os.open(each, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _sweep(folder: Path, before: float) -> int:
    """Delete the library's unfinished files, ``NAME#1``, that were written last before a time."""
    swept = 0
    for path in folder.rglob("*#*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and path.stat().st_mtime < before:
                path.unlink()
                swept += 1
    return swept
