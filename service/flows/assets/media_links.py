"""Links by which a provider fetches a medium that Dovecote stores."""

import datetime as dt
from collections.abc import AsyncIterator
from uuid import NAMESPACE_URL, uuid5

from service.domain.media_references import Path, place
from service.domain.media_types import sniff
from service.domain.task import Task
from service.domain.uploads import Upload
from service.flows.assets.uploads import NoStorage, file_name, storage_of
from service.flows.context import Context
from service.store import uploads as upload_store
from service.store.assets import Asset

MARGIN = dt.timedelta(hours=1)
"""How long after the deadline of its task a medium can still be fetched."""
_MAX_PRESIGNED = 7 * 86_400.0
"""Seconds for which a presigned URL can be valid at S3."""


async def link_to(context: Context, upload: Upload) -> str:
    """Return the URL at which anybody can read an upload until it expires.

    :raises NoStorage: when there is no storage
    :raises StorageError: when the storage gives no presigned URL
    """
    settings = context.settings
    if settings.links_are_own:
        return f"{settings.public_url}/callbacks/media/{context.tokens.make_link(upload.id)}/{file_name(upload)}"
    seconds = min(max((upload.expires_at - context.now()).total_seconds(), 60.0), _MAX_PRESIGNED)
    url = await storage_of(context).presigned(upload.object, seconds=seconds)
    if url is None:
        raise NoStorage("there is no address from which a provider could fetch a file: set public_url")
    return url


async def store_inline(context: Context, task: Task, path: Path, content: bytes) -> Upload:
    """Store a medium that a task's input has as ``data:``. A further attempt to submit the task finds the same upload.

    :raises NoStorage: when there is no storage
    :raises StorageError: when the storage fails
    """
    now = context.now()
    upload_id = uuid5(NAMESPACE_URL, f"dovecote:task/{task.id}/{place(path)}")
    async with context.database.reading() as connection:
        known = (await upload_store.by_id(connection, [upload_id])).get(upload_id)
    if known is not None and known.usable(now):
        return known
    name, content_type = f"uploads/{upload_id}", sniff(content)
    stored = await storage_of(context).put(name, _once(content), limit=len(content), content_type=content_type)
    upload = Upload(
        id=upload_id,
        client=task.client,
        name=place(path),
        content_type=content_type,
        size=stored.size,
        sha256=stored.sha256,
        object=name,
        task_id=task.id,
        created_at=now,
        stored_at=now,
        expires_at=task.deadline_at + MARGIN,
    )
    await context.writers.journeys.run(upload_store.put, upload)
    return upload


async def share_kept(context: Context, task: Task, path: Path, asset: Asset) -> Upload:
    """Return an upload of a task that is the kept copy of a result. The file is not copied, and stays with the result."""
    now = context.now()
    upload = Upload(
        id=uuid5(NAMESPACE_URL, f"dovecote:task/{task.id}/{place(path)}"),
        client=task.client,
        name=place(path),
        content_type=asset.media_type or "application/octet-stream",
        size=asset.size or 0,
        sha256=asset.sha256,
        object=asset.object or "",
        shared=True,
        task_id=task.id,
        created_at=now,
        stored_at=now,
        expires_at=task.deadline_at + MARGIN,
    )
    await context.writers.journeys.run(upload_store.put, upload)
    return upload


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
