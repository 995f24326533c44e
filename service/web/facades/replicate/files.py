"""Replicate's files: they are uploads of Dovecote, which expire."""

from typing import Any, Final

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.events import rfc3339
from service.domain.media_references import upload_id, upload_name
from service.domain.uploads import Upload
from service.flows.assets import uploads
from service.store import uploads as upload_store
from service.web.facades.door import DoorRequest, DoorRoute, shown
from service.web.facades.uploads import find, store

_PAGE: Final = 100


def file_document(stored: Upload, base: str) -> dict[str, Any]:
    """Return an upload as Replicate shows a file. Its address stands in the input of a prediction then.

    :param base: the address of the door
    """
    name = upload_name(stored.id)
    about = {"id": name, "name": stored.name or "file", "content_type": stored.content_type, "size": stored.size}
    times = {"created_at": rfc3339(stored.created_at), "expires_at": rfc3339(stored.expires_at)}
    sums = {"etag": stored.sha256, "checksums": {"sha256": stored.sha256}}
    return {**about, **times, **sums, "metadata": {}, "urls": {"get": f"{base}/v1/files/{name}"}}


async def create(request: DoorRequest) -> Response:
    """Store a file."""
    said = await request.fields()
    stored = await store(request, said.get("content"), client=request.client)
    return shown(file_document(stored, request.base), 201)


async def list_files(request: DoorRequest) -> Response:
    """Return a page of files, newest first."""
    before = upload_id(request.http.query_params.get("cursor", ""))
    async with request.context.database.reading() as connection:
        found = await upload_store.page(
            connection, request.client, before=before, now=request.context.now(), most=_PAGE + 1
        )
    page = found[:_PAGE]
    following = f"{request.base}/v1/files?cursor={upload_name(page[-1].id)}" if len(found) > _PAGE else None
    results = [file_document(each, request.base) for each in page]
    return shown({"previous": None, "next": following, "results": results})


async def retrieve(request: DoorRequest) -> Response:
    """Return what is known of a file."""
    return shown(file_document(await find(request, request.http.path_params["id"]), request.base))


async def delete(request: DoorRequest) -> Response:
    """Delete a file."""
    stored = await find(request, request.http.path_params["id"])
    await uploads.delete(request.context, [stored.id])
    return Response(status_code=204)


_PATH: Final = "/v1/files"
ROUTES: Final = (
    DoorRoute(method="POST", path=_PATH, handler=create),
    DoorRoute(method="GET", path=_PATH, handler=list_files, scope=Scope.READ),
    DoorRoute(method="GET", path=f"{_PATH}/{{id}}", handler=retrieve, scope=Scope.READ),
    DoorRoute(method="DELETE", path=f"{_PATH}/{{id}}", handler=delete),
)
