"""Serve the copies of results: ranges, conditions, and nothing that a browser would run at the address of the API."""

import math
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from service.domain import media_types
from service.flows.assets import keep
from service.flows.assets.marks import SUFFIX as MARKED
from service.flows.context import Context, log
from service.object_errors import NoSuchObject, StorageError
from service.objects import Objects
from service.store import assets as asset_store
from service.store import tasks as task_store
from service.store.assets import Asset
from service.web.file_response import begun, matches, wanted_part
from service.web.problems import Problem, unavailable

_POLICY: Final = "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""A browser shows the file, and runs nothing in it: no script, no form, no frame, at an origin of its own."""
PRESIGNED_SECONDS: Final = 900


async def answer(
    request: Request, context: Context, asset: Asset, *, file_name: str, original: bool = False, public: bool = False
) -> Response:
    """Return the answer to a request for a copy.

    :param file_name: the ``Content-Disposition``
    :param original: whether the file as the provider made it is wanted, where there is a marked one
    :param public: whether it came by a link, so that pages of other hosts may show the file
    """
    objects = storage_of(context)
    name = asset.object or ""
    size, etag = asset.size or 0, f'"{asset.sha256}"'
    if asset.marked and not original:
        name += MARKED
        size, etag = await _size(objects, name), f'"{asset.sha256}-marked"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Type": media_types.served_type(asset.media_type or ""),
        "Content-Disposition": file_name,
        "Content-Security-Policy": _POLICY,
        "Cache-Control": "private, no-cache",
        "Cross-Origin-Resource-Policy": "cross-origin" if public else "same-origin",
    }
    if matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    if context.settings.results.redirect:
        url = await presigned(context, name, seconds=PRESIGNED_SECONDS)
        if url is not None:
            return RedirectResponse(url, 307, {"Cache-Control": "no-store"})
    wanted = wanted_part(request.headers, size, etag)
    start, end = wanted or (0, size)
    if wanted is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    status = 200 if wanted is None else 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    try:
        return StreamingResponse(await begun(objects, name, start, end), status, headers)
    except StorageError as error:
        raise trouble(error) from None


def storage_of(context: Context) -> Objects:
    """Return the storage of files.

    :raises Problem: 404 where there is none
    """
    if context.objects is None:
        raise Problem(404, "not_kept", "this Dovecote has no storage of files")
    return context.objects


async def presigned(context: Context, name: str, *, seconds: float) -> str | None:
    """Return a URL of the bucket by which anybody can read a file for a time; None where the storage has none.

    :raises Problem: 404 where there is no storage; 503 when it does not answer
    """
    try:
        return await storage_of(context).presigned(name, seconds=seconds)
    except StorageError as error:
        raise trouble(error) from None


async def _size(objects: Objects, name: str) -> int:
    try:
        return await objects.size(name)
    except StorageError as error:
        raise trouble(error) from None


def trouble(error: StorageError) -> Problem:
    """Return the error response for a file that cannot be read."""
    log.warning("kept result cannot be read error=%s", error)
    if isinstance(error, NoSuchObject):
        return Problem(404, "not_kept", "the file is not in the storage any more")
    return unavailable("the storage of files does not answer; repeat the request")


async def serve_link(request: Request) -> Response:
    """Serve a copy to the holder of a signed link."""
    context: Context = request.app.state.context
    found = context.tokens.read_result_link(request.path_params["token"])
    if found is None:
        raise Problem(404, "not_found", "there is no such link")
    asset_id, until = found
    if context.now().timestamp() >= until:
        raise Problem(410, "link_expired", "the link has expired: request a new one")
    async with context.database.reading() as connection:
        asset = await asset_store.find(connection, asset_id)
        task = None if asset is None else await task_store.find(connection, asset.task_id)
    if asset is None or task is None or asset.state != "kept":
        raise Problem(404, "not_kept", "the copy was deleted")
    original = request.query_params.get("original") == "true"
    file_name = keep.disposition(task, asset.media_type or "")
    return await answer(request, context, asset, file_name=file_name, original=original, public=True)


def link(context: Context, asset: Asset, seconds: float) -> tuple[str, int]:
    """Return the path of a signed link to a copy, and the Unix second until which it is valid."""
    until = math.floor(context.now().timestamp() + seconds)
    return f"/results/{context.tokens.make_result_link(asset.id, until)}", until


ROUTES: Final = [Route("/results/{token}", serve_link, methods=["GET"])]
