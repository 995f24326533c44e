"""Store the uploads of clients, and delete them when they expire."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Collection
from uuid import UUID

from service.domain.media_types import HEAD, extension, sniff
from service.domain.uploads import Upload
from service.flows.context import Context, log
from service.object_errors import ObjectTooLarge, StorageError
from service.objects import Objects
from service.store import uploads as upload_store

_UNKNOWN = "application/octet-stream"
_PLAIN = (_UNKNOWN, "text/plain", "application/zip")
MAX_NAME = 200
"""Characters of a file name."""
_MAX_EXPIRED = 100
"""Uploads that are deleted in one step."""


class NoStorage(Exception):
    """There is no place for files: neither a storage is set, nor is there a SQLite database with a folder beside it."""


class QuotaReached(Exception):
    """The uploads of a client have no room for another one."""


class UploadEmpty(Exception):
    """The file has no bytes."""


def storage_of(context: Context) -> Objects:
    """Return the storage.

    :raises NoStorage: when there is none
    """
    if context.objects is None:
        raise NoStorage("there is no storage for files: set storage.url")
    return context.objects


async def store(
    context: Context,
    content: AsyncIterator[bytes],
    *,
    client: str,
    name: str,
    stated_size: int | None,
    upload_id: UUID | None = None,
) -> Upload:
    """Store a file of a client as it arrives.

    :param stated_size: its bytes, where the client states them
    :param upload_id: its id, where the client knows it already
    :raises NoStorage: when there is no place for files
    :raises QuotaReached: when the client has too many
    :raises ObjectTooLarge: when the file is too large, as soon as that is known
    :raises UploadEmpty: when no byte came
    :raises StorageError: when the storage fails; nothing is kept then
    """
    settings, objects = context.settings.uploads, storage_of(context)
    if stated_size is not None and stated_size > settings.max_size:
        raise ObjectTooLarge(settings.max_size)
    now, upload_id = context.now(), upload_id or context.new_id()
    begun = Upload(
        id=upload_id,
        client=client,
        name=name[:MAX_NAME],
        content_type=_UNKNOWN,
        size=settings.max_size if stated_size is None else stated_size,
        object=f"uploads/{upload_id}",
        created_at=now,
        expires_at=now + settings.kept_for,
    )
    if not await context.writers.requests.run(upload_store.add, begun, settings.quota):
        raise QuotaReached(
            f"your uploads would have more than {settings.quota} bytes: delete some, or wait until they expire"
        )
    try:
        return await _received(context, objects, begun, content)
    except BaseException:
        await asyncio.shield(delete(context, [upload_id]))
        raise


async def _received(context: Context, objects: Objects, begun: Upload, content: AsyncIterator[bytes]) -> Upload:
    head = bytearray()
    async for part in content:
        head += part
        if len(head) >= HEAD:
            break
    if not head:
        raise UploadEmpty
    content_type = _type_of(bytes(head[:HEAD]), begun.name)
    stored = await objects.put(begun.object, _all(bytes(head), content), limit=begun.size, content_type=content_type)
    now = context.now()
    upload = dataclasses.replace(
        begun,
        content_type=content_type,
        size=stored.size,
        sha256=stored.sha256,
        stored_at=now,
        expires_at=now + context.settings.uploads.kept_for,
    )
    if not await context.writers.requests.run(upload_store.finish, upload):
        raise StorageError("the upload took longer than it may be kept")
    log.info("upload stored upload=%s client=%s bytes=%d type=%s", upload.id, upload.client, upload.size, content_type)
    return upload


async def _all(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield a file whose beginning has been read already."""
    yield head
    async for part in rest:
        yield part


_MODELS = {"obj": "model/obj", "stl": "model/stl", "usdz": "model/vnd.usdz+zip"}
"""Types of 3D models, which have no certain first bytes, by the extension of the file's name."""


def _type_of(head: bytes, name: str) -> str:
    """Return the type of a file: by its first bytes, and by its name where these are those of a text or an archive."""
    found = sniff(head)
    return _MODELS.get(name.rpartition(".")[2].lower(), found) if found in _PLAIN else found


def file_name(upload: Upload) -> str:
    """Return a name for an upload that is safe in a URL, with the extension of its type."""
    return f"input.{extension(upload.content_type)}"


async def expire_due(context: Context) -> int:
    """Delete uploads that have expired; return how many."""
    if context.objects is None:
        return 0
    claimed = await context.writers.journeys.run(upload_store.claim_expired, now=context.now(), most=_MAX_EXPIRED)
    await _remove(context, claimed)
    return len(claimed)


async def delete(context: Context, ids: Collection[UUID]) -> int:
    """Delete uploads with their objects; return how many there were. What cannot be deleted now is deleted later."""
    claimed = await context.writers.journeys.run(upload_store.claim, ids, now=context.now())
    await _remove(context, claimed)
    return len(claimed)


async def _remove(context: Context, claimed: Collection[Upload]) -> None:
    """Delete the objects of claimed uploads, then their rows. A row whose object cannot be deleted is claimed again later."""
    removed = []
    for upload in claimed:
        try:
            if not upload.shared:
                await storage_of(context).delete([upload.object])
        except (StorageError, NoStorage) as error:
            log.warning("upload cannot be deleted now upload=%s error=%s", upload.id, error)
            continue
        removed.append(upload.id)
    if removed:
        await context.writers.journeys.run(upload_store.remove, removed)
