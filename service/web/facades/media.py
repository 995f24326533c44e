"""Serve the outputs of tasks at doors: as bytes, as base64, or by a redirect to their address."""

import asyncio
import base64
from typing import Final

from starlette.responses import RedirectResponse, Response

from service.domain.errors import UpstreamError
from service.domain.task import Task
from service.flows.assets import keep
from service.flows.context import log
from service.flows.submission.media_sources import download
from service.flows.upstreams import outputs
from service.flows.webhooks.formats.shapes import base64_of, bytes_of
from service.store import assets as asset_store
from service.web import kept_files
from service.web.facades.door import DoorRequest
from service.web.problems import RETRY_AFTER, Problem

_BINARY: Final = "application/octet-stream"


async def media_response(request: DoorRequest, task: Task, url: str) -> Response:
    """Return an output: its bytes where Dovecote has a copy or its upstream wants a key, else a redirect.

    :raises Problem: 502 when the upstream does not give it
    """
    kept = next((each.kept for each in task.results if each.url == url), None)
    if kept is not None and kept.state == "kept":
        async with request.context.database.reading() as connection:
            asset = await asset_store.find(connection, kept.asset)
        if asset is not None and asset.state == "kept":
            name = keep.disposition(task, asset.media_type or "")
            return await kept_files.answer(request.http, request.context, asset, file_name=name)
    if url[:5].lower() == "data:":
        found = await asyncio.to_thread(bytes_of, url)
        if found is None:
            raise Problem(502, "upstream_unavailable", "the output cannot be read")
        return Response(found[0], media_type=found[1])
    if outputs.holder_of(request.context, task, url) is None:
        return RedirectResponse(url, 302)
    try:
        content, kind = await outputs.fetch(request.context, task, url)
    except UpstreamError as error:
        detail = f"{task.upstream} does not give the output ({error.message or error.code}); repeat the request later"
        raise Problem(502, "upstream_unavailable", detail, headers={"Retry-After": RETRY_AFTER}) from error
    return Response(content, media_type=kind or _BINARY)


async def as_base64(request: DoorRequest, task: Task, url: str) -> str | None:
    """Return an output as base64; None where it cannot be fetched, so that its address must do."""
    encoded = base64_of(url)
    if encoded is not None:
        return encoded
    try:
        if outputs.holder_of(request.context, task, url) is not None:
            content, _ = await outputs.fetch(request.context, task, url)
            return base64.b64encode(content).decode()
        return base64_of(await download(request.context, "output", url))
    except UpstreamError as error:
        log.info("output not fetched task=%s error=%s", task.id, error.code)
        return None
