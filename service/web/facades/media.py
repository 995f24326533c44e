"""Serve the outputs of tasks at doors: as bytes, as base64, or by a redirect to their address."""

import asyncio
import base64

from starlette.responses import RedirectResponse, Response

from service.domain.errors import UpstreamError
from service.domain.media_types import served_type, well_formed
from service.domain.task import Task
from service.flows.assets import keep
from service.flows.context import log
from service.flows.submission.media_sources import MAX_MEDIUM, download
from service.flows.upstreams import outputs
from service.flows.webhooks.formats.shapes import base64_of, bytes_of
from service.object_errors import StorageError
from service.store import assets as asset_store
from service.store.assets import Asset
from service.web import kept_files
from service.web.facades.door import DoorRequest
from service.web.problems import RETRY_AFTER, Problem


async def media_response(request: DoorRequest, task: Task, url: str) -> Response:
    """Return an output: its bytes where Dovecote has a copy or its upstream wants a key, else a redirect.

    :raises Problem: 502 when the upstream does not give it
    """
    asset = await _copy(request, task, url)
    if asset is not None:
        name = keep.disposition(task, asset.media_type or "")
        return await kept_files.answer(request.http, request.context, asset, file_name=name)
    if url[:5].lower() == "data:":
        found = await asyncio.to_thread(bytes_of, url)
        if found is None:
            raise Problem(502, "upstream_unavailable", "the output cannot be read")
        return _shown(*found)
    if outputs.holder_of(request.context, task, url) is None:
        return RedirectResponse(url, 302)
    try:
        content, kind = await outputs.fetch(request.context, task, url)
    except UpstreamError as error:
        detail = f"{task.upstream} does not give the output ({error.message or error.code}); repeat the request later"
        raise Problem(502, "upstream_unavailable", detail, headers={"Retry-After": RETRY_AFTER}) from error
    return _shown(content, kind)


def _shown(content: bytes, stated: str) -> Response:
    """Return an output with the type that its upstream states, as far as it is one that no browser runs."""
    return Response(content, media_type=served_type(well_formed(stated)))


async def _copy(request: DoorRequest, task: Task, url: str) -> Asset | None:
    """Return the kept copy of a result; None where there is none."""
    kept = next((each.kept for each in task.results if each.url == url), None)
    if kept is None or kept.state != "kept" or request.context.objects is None:
        return None
    async with request.context.database.reading() as connection:
        asset = await asset_store.find(connection, kept.asset)
    return asset if asset is not None and asset.state == "kept" else None


async def as_base64(request: DoorRequest, task: Task, url: str) -> str | None:
    """Return an output as base64; None where it cannot be fetched, so that its address must do."""
    encoded = base64_of(url)
    if encoded is not None:
        return encoded
    asset = await _copy(request, task, url)
    if asset is not None and (asset.size or 0) <= MAX_MEDIUM:
        objects = kept_files.storage_of(request.context)
        try:
            content = b"".join([part async for part in objects.read(asset.object or "")])
            return base64.b64encode(content).decode()
        except StorageError as error:
            log.warning("kept result cannot be read error=%s", error)
    try:
        if outputs.holder_of(request.context, task, url) is not None:
            content, _ = await outputs.fetch(request.context, task, url)
            return base64.b64encode(content).decode()
        return base64_of(await download(request.context, "output", url))
    except UpstreamError as error:
        log.info("output not fetched task=%s error=%s", task.id, error.code)
        return None
