"""Read, link and delete the kept copies of a task's results."""

import datetime as dt
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.changes import ResultsDeleted
from service.domain.events import rfc3339
from service.domain.task import Result, Task
from service.flows import apply as apply_module
from service.flows.apply import Applied, announce
from service.flows.assets import keep, provenance
from service.flows.context import Context
from service.object_errors import NoSuchObject, StorageError
from service.store import assets as asset_store
from service.store import queue
from service.store.assets import Asset
from service.web import kept_files
from service.web.api.models import ref
from service.web.api.route import ApiRequest, Endpoint, Parameter, ResponseSpec, json_response
from service.web.api.tasks import ID, LATEST, TAG, find, render
from service.web.problems import Problem

_MAX_NUMBER: Final = 10_000


async def content(request: ApiRequest) -> Response:
    """Serve the copy of a result."""
    task, _, asset = await _find(request)
    original = request.query.get("original") == "true"
    file_name = keep.disposition(task, asset.media_type or "")
    return await kept_files.answer(request.http, request.context, asset, file_name=file_name, original=original)


async def link(request: ApiRequest) -> Response:
    """Return a link by which the copy can be read without a key."""
    _, _, asset = await _find(request)
    context, settings = request.context, request.context.settings
    seconds = request.query.get("seconds", settings.results.link_seconds)
    if settings.results.redirect and not asset.marked:
        url = await kept_files.presigned(context, asset.object or "", seconds=seconds)
        if url is not None:
            until = context.now() + dt.timedelta(seconds=seconds)
            return json_response({"url": url, "expires_at": rfc3339(until)})
    path, valid_until = kept_files.link(context, asset, seconds)
    expires_at = rfc3339(dt.datetime.fromtimestamp(valid_until, dt.UTC))
    return json_response({"url": f"{settings.links_url or ''}{path}", "expires_at": expires_at})


async def show_provenance(request: ApiRequest) -> Response:
    """Return where a copy came from."""
    _, _, asset = await _find(request)
    objects = kept_files.storage_of(request.context)
    try:
        found = b"".join([block async for block in objects.read((asset.object or "") + provenance.SUFFIX)])
    except NoSuchObject:
        raise Problem(404, "not_kept", "the document is not in the storage any more") from None
    except StorageError as error:
        raise kept_files.trouble(error) from None
    return Response(found, media_type="application/json")


async def delete(request: ApiRequest) -> Response:
    """Delete the copies of a task's results."""
    task = await find(request)
    if any(each.kept is not None and each.kept.state != "deleted" for each in task.results):
        applied = await request.context.writers.requests.run(_delete, request.context, task)
        announce(request.context, applied)
        request.context.signals.wake("results")
        task = await find(request)
    return json_response(render(request, task), 202)


async def _delete(connection: AsyncConnection, context: Context, task: Task) -> list[Applied]:
    """Write in one transaction that the copies are deleted, and make their files due to be deleted."""
    applied = await apply_module.apply(context, connection, [ResultsDeleted(task_id=task.id)])
    await queue.delete_assets(connection, [task.id], now=context.now())
    return applied


async def _find(request: ApiRequest) -> tuple[Task, Result, Asset]:
    """Return the task, the result and the copy that the path names.

    :raises Problem: 404 when there is none
    """
    task = await find(request)
    stated = request.http.path_params["n"]
    number = int(stated) if stated.isascii() and stated.isdecimal() and len(stated) <= 5 else _MAX_NUMBER  # noqa: PLR2004 - digits of the largest number
    if number >= len(task.results):
        raise Problem(404, "not_found", f"the task has {len(task.results)} results; they are counted from 0")
    result = task.results[number]
    if result.kept is None or result.kept.state != "kept":
        raise Problem(404, "not_kept", _why_not(result))
    async with request.context.database.reading() as connection:
        asset = await asset_store.find(connection, result.kept.asset)
    if asset is None or asset.state != "kept":
        raise Problem(404, "not_kept", "the copy was deleted")
    return task, result, asset


def _why_not(result: Result) -> str:
    if result.kept is None:
        return "no copy of this result is made: it is a text, or its family is not kept"
    if result.kept.state == "pending":
        return "the copy is being fetched: wait for the event task.results_kept"
    if result.kept.state == "lost":
        return f"the file could not be fetched: {result.kept.lost_because}"
    return "the copy was deleted"


_NUMBER: Final = Parameter(
    name="n",
    place="path",
    schema={"type": "integer", "minimum": 0},
    description="Which of the task's results, counted from 0.",
)
_ORIGINAL: Final = Parameter(
    name="original",
    place="query",
    schema={"type": "string", "enum": ["true", "false"]},
    description='`true`: the file as the provider made it, where there is one with the mark "made by AI".',
)
_BYTES: Final = {"type": "string", "format": "binary"}
_HEADERS: Final = {"ETag": "The SHA-256 of the file.", "Content-Disposition": "The name of the file."}

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/tasks/{id}/results/{n}/content",
        handler=content,
        scope=Scope.READ,
        name="getResultContent",
        tag=TAG,
        summary="Get the kept copy of a result",
        description=(
            "Answers `Range`, `If-Range`, `If-None-Match` and `HEAD`. A browser may show pictures, videos and sounds; everything else is a download. With the setting `results.redirect` it leads to a presigned URL of the bucket."
        ),
        parameters=(
            ID,
            _NUMBER,
            _ORIGINAL,
            Parameter(
                name="Range", place="header", schema={"type": "string"}, description="One part: `bytes=0-1048575`."
            ),
        ),
        responses={
            200: ResponseSpec(description="The file.", schema=_BYTES, media_type="*/*", headers=_HEADERS),
            206: ResponseSpec(description="The part of the file.", schema=_BYTES, media_type="*/*", headers=_HEADERS),
            304: ResponseSpec(description="The caller has the file.", schema=None),
            307: ResponseSpec(
                description="The file is at the bucket.", schema=None, headers={"Location": "A presigned URL."}
            ),
        },
        problems=(404, 416, 422),
    ),
    Endpoint(
        method="GET",
        path="/v1/tasks/{id}/results/{n}/link",
        handler=link,
        scope=Scope.READ,
        name="getResultLink",
        tag=TAG,
        summary="Get a link to the kept copy of a result",
        description="Anybody who has the link can read the file until it expires, such as a browser.",
        parameters=(
            ID,
            _NUMBER,
            Parameter(
                name="seconds",
                place="query",
                schema={"type": "integer", "minimum": 10, "maximum": 7 * 86_400},
                description="Seconds for which it is valid; default: the setting `results.link_seconds`.",
            ),
        ),
        responses={200: ResponseSpec(description="The link.", schema=ref("ResultLink"))},
        problems=(404, 422),
    ),
    Endpoint(
        method="GET",
        path="/v1/tasks/{id}/results/{n}/provenance",
        handler=show_provenance,
        scope=Scope.READ,
        name="getResultProvenance",
        tag=TAG,
        summary="Get where the kept copy of a result came from",
        parameters=(ID, _NUMBER),
        responses={200: ResponseSpec(description="The provenance.", schema=ref("Provenance"))},
        problems=(404, 422),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/tasks/{id}/results",
        handler=delete,
        scope=Scope.SUBMIT,
        name="deleteResults",
        tag=TAG,
        summary="Delete the kept copies of a task's results",
        description=(
            "No more of them are fetched. The task keeps the addresses at the provider, and its history has the event "
            "`results_deleted`. The files are deleted from the storage in the background."
        ),
        parameters=(ID,),
        responses={202: LATEST},
        problems=(404,),
    ),
)
