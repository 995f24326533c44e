"""Upload files that tasks take as media, read what is known of them, and delete them."""

from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.events import rfc3339
from service.domain.media_references import upload_id, upload_name
from service.domain.uploads import Upload
from service.domain.validation import Mistake
from service.flows.assets import uploads
from service.flows.assets.uploads import MAX_NAME, NoStorage, QuotaReached, UploadEmpty
from service.object_errors import ObjectTooLarge, StorageError, StorageFull
from service.store import uploads as upload_store
from service.web.api.lookup import existing, page_size
from service.web.api.models import ref
from service.web.api.route import (
    LIMIT,
    ApiRequest,
    Endpoint,
    Parameter,
    ResponseSpec,
    address_of,
    invalid,
    json_response,
)
from service.web.problems import Problem, unavailable
from service.web.request_body import stream_body

_MULTIPART: Final = "multipart/form-data"


async def create(request: ApiRequest) -> Response:
    """Store the body of the request as an upload."""
    kind = request.http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == _MULTIPART:
        detail = "send the bytes of the file as the body, without a form: curl --data-binary @FILE"
        raise Problem(415, "unsupported_media_type", detail)
    if request.http.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        raise Problem(415, "unsupported_media_type", "send the body without Content-Encoding")
    stated = request.http.headers.get("content-length", "")
    size = int(stated[:20]) if stated.isascii() and stated.isdecimal() else None
    if size == 0:
        raise _empty()
    try:
        upload = await uploads.store(
            request.context,
            _body(request),
            client=request.client,
            name=request.query.get("name", ""),
            stated_size=size,
        )
    except ObjectTooLarge as error:
        detail = f"send at most {error.limit} bytes"
        raise Problem(413, "too_large", detail, headers={"Connection": "close"}) from None
    except QuotaReached as error:
        raise Problem(409, "quota_reached", str(error), headers={"Connection": "close"}) from None
    except UploadEmpty:
        raise _empty() from None
    except NoStorage as error:
        raise Problem(409, "no_storage", str(error), headers={"Connection": "close"}) from None
    except StorageFull:
        raise Problem(507, "storage_full", "the storage has no room for it", headers={"Connection": "close"}) from None
    except StorageError:
        raise unavailable("the storage does not answer; repeat the request later") from None
    return json_response(show(upload), 201, {"Location": address_of(request, f"uploads/{upload_name(upload.id)}")})


async def _body(request: ApiRequest) -> AsyncIterator[bytes]:
    try:
        async for part in stream_body(request.http):
            yield part
    except ClientDisconnect:
        raise Problem(400, "disconnected", "the connection was closed before the file was complete") from None


def _empty() -> Problem:
    return invalid([Mistake("body", "has no bytes: send the content of a file")])


async def list_uploads(request: ApiRequest) -> Response:
    """Return a page of uploads."""
    size = page_size(request)
    before = None
    if "cursor" in request.query:
        before = upload_id(request.query["cursor"])
        if before is None:
            raise invalid([Mistake("cursor", "is no cursor of this list: send `next` of the page before")])
    async with request.context.database.reading() as connection:
        found = await upload_store.page(
            connection, request.sees_only, before=before, now=request.context.now(), most=size + 1
        )
    shown = found[:size]
    following = upload_name(shown[-1].id) if len(found) > size else None
    return json_response({"uploads": [show(each) for each in shown], "next": following})


async def get(request: ApiRequest) -> Response:
    """Return what is known of an upload."""
    return json_response(show(await _find(request)))


async def delete(request: ApiRequest) -> Response:
    """Delete an upload, and return it as it was."""
    upload = await _find(request)
    await uploads.delete(request.context, [upload.id])
    return json_response(show(upload))


async def _find(request: ApiRequest) -> Upload:
    """Return the upload that the path names.

    :raises Problem: 404 where there is none, where it is another client's, and where it has expired
    """
    wanted: UUID | None = upload_id(request.http.path_params["id"])
    found: Upload | None = None
    if wanted is not None:
        async with request.context.database.reading() as connection:
            found = (await upload_store.by_id(connection, [wanted])).get(wanted)
    if found is not None and (
        request.sees_only not in {None, found.client}
        or found.task_id is not None
        or not found.usable(request.context.now())
    ):
        found = None
    return existing(found, "upload")


def show(upload: Upload) -> dict[str, Any]:
    """Return an upload as the API shows it."""
    return {
        "id": upload_name(upload.id),
        "name": upload.name,
        "content_type": upload.content_type,
        "size": upload.size,
        "sha256": upload.sha256,
        "created_at": rfc3339(upload.created_at),
        "expires_at": rfc3339(upload.expires_at),
    }


_TAG: Final = "Uploads"
_NAME: Final = {"type": "string", "pattern": "^upl_[a-z2-7]{26}$", "examples": ["upl_aghltqmk3nzhfd5a2sywqjfxqm"]}
_ID: Final = Parameter(name="id", place="path", schema=_NAME, description="The upload's id.")

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/uploads",
        handler=create,
        scope=Scope.SUBMIT,
        name="createUpload",
        tag=_TAG,
        summary="Upload a file",
        description=(
            'The body is the file. A task takes it in place of a URL: `"image": {"upload": "upl_…"}`. It is kept until '
            "`expires_at`, and at least until the deadline of each task that takes it. Its type is recognised by its bytes."
        ),
        parameters=(
            Parameter(
                name="name",
                place="query",
                schema={"type": "string", "maxLength": MAX_NAME, "examples": ["cat.png"]},
                description="The name of the file, for your own use.",
            ),
        ),
        body={"type": "string", "contentMediaType": "application/octet-stream"},
        body_type="application/octet-stream",
        responses={
            201: ResponseSpec(
                description="Stored.", schema=ref("Upload"), headers={"Location": "The upload's address."}
            )
        },
        problems=(400, 409, 413, 415, 422, 507),
    ),
    Endpoint(
        method="GET",
        path="/v1/uploads",
        handler=list_uploads,
        scope=Scope.READ,
        name="listUploads",
        tag=_TAG,
        summary="List uploads",
        description="Newest first. `next` is the cursor of the next page.",
        parameters=(
            LIMIT,
            Parameter(name="cursor", place="query", schema=_NAME, description="`next` of the previous page."),
        ),
        responses={200: ResponseSpec(description="A page of uploads.", schema=ref("UploadList"))},
        problems=(422,),
    ),
    Endpoint(
        method="GET",
        path="/v1/uploads/{id}",
        handler=get,
        scope=Scope.READ,
        name="getUpload",
        tag=_TAG,
        summary="Get an upload",
        parameters=(_ID,),
        responses={200: ResponseSpec(description="The upload.", schema=ref("Upload"))},
        problems=(404,),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/uploads/{id}",
        handler=delete,
        scope=Scope.SUBMIT,
        name="deleteUpload",
        tag=_TAG,
        summary="Delete an upload",
        description="A task that takes it and has not been submitted yet fails before the purchase.",
        parameters=(_ID,),
        responses={200: ResponseSpec(description="The upload, as it was.", schema=ref("Upload"))},
        problems=(404,),
    ),
)
