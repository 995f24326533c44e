"""Uploads: files that tasks take as their media."""

import asyncio
import dataclasses
import datetime as dt
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from dovecote.calls import page_of, value_of
from dovecote.protocol import Call, FileBody, Request, Session, send
from dovecote.values import Page

_BLOCK: Final = 256 * 1024
_PATH: Final = "/v1/uploads"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file that the server stores. A task takes it as ``{"upload": upload.id}`` in place of a URL."""

    id: str
    name: str = ""
    content_type: str = ""
    """The type that the server has recognised."""
    size: int = 0
    """Bytes."""
    sha256: str = ""
    created_at: dt.datetime | None = None
    expires_at: dt.datetime | None = None
    """When it is deleted. A task that takes it may make this later."""
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    """The whole upload as JSON."""


UploadOrId = Upload | str


def body_of(file: str | Path | bytes) -> FileBody:
    """Return the body of a request for a file: its bytes, or a path that is read while it is sent.

    :raises OSError: when the file cannot be read
    """
    if isinstance(file, bytes):
        return FileBody(len(file), content=file)
    path = Path(file)
    return FileBody(path.stat().st_size, path=path)


def create(session: Session, file: str | Path | bytes, name: str | None) -> Call[Upload]:
    """Upload a file. Where a response is lost, the file may be stored twice: the server deletes it when it expires."""
    body = body_of(file)
    stated = name if name is not None else "" if body.path is None else body.path.name
    request = Request(method="POST", path=_PATH, params={"name": stated} if stated else {}, file=body)
    return value_of(Upload, (yield from send(session, request)))


def list_uploads(session: Session, limit: int | None, cursor: str | None) -> Call[Page[Upload]]:
    """List one page of uploads, newest first."""
    params = {name: value for name, value in {"limit": limit, "cursor": cursor}.items() if value is not None}
    return page_of(Upload, "uploads", (yield from send(session, Request(method="GET", path=_PATH, params=params))))


def get(session: Session, upload: UploadOrId) -> Call[Upload]:
    """Get an upload."""
    return value_of(Upload, (yield from send(session, Request(method="GET", path=_path(upload)))))


def delete(session: Session, upload: UploadOrId) -> Call[Upload]:
    """Delete an upload; return it as it was."""
    return value_of(Upload, (yield from send(session, Request(method="DELETE", path=_path(upload)))))


def _path(upload: UploadOrId) -> str:
    """Return the path of an upload.

    :raises ValueError: when it is no id, which might lead to another path
    """
    name = upload.id if isinstance(upload, Upload) else upload
    if not (name.isascii() and name.replace("_", "").isalnum()):
        raise ValueError(f"{name[:80]!r} is not the id of an upload, such as upl_…")
    return f"{_PATH}/{name}"


def blocks(body: FileBody) -> Iterator[bytes]:
    """Yield the bytes of a file."""
    if body.path is None:
        yield body.content
        return
    with body.path.open("rb") as opened:
        while block := opened.read(_BLOCK):
            yield block


async def async_blocks(body: FileBody) -> AsyncIterator[bytes]:
    """Yield the bytes of a file, and read it in a thread."""
    if body.path is None:
        yield body.content
        return
    opened = await asyncio.to_thread(body.path.open, "rb")
    try:
        while block := await asyncio.to_thread(opened.read, _BLOCK):
            yield block
    finally:
        await asyncio.to_thread(opened.close)
