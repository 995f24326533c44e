"""fal's storage: where a file can be put without a key, and its address in an input then. Files are uploads of Dovecote."""

import hmac
import re
from typing import Final
from urllib.parse import quote, urlencode

from starlette.responses import Response

from service.domain import media_references
from service.domain.media_references import upload_name
from service.store import uploads as upload_store
from service.web.facades.door import DoorRequest, DoorRoute, shown
from service.web.facades.uploads import store_bytes
from service.web.problems import Problem
from service.web.request_body import read_body

_SECONDS: Final = 3600
"""Seconds for which a file can be put at its address."""
_MAX_NAME: Final = 100
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


async def initiate(request: DoorRequest) -> Response:
    """Return where a file can be put, and the address that names it in an input then."""
    said = await request.fields()
    if request.context.objects is None:
        raise Problem(400, "no_storage", "there is no storage for files: give a URL or a data: URL instead")
    upload_id = request.context.new_id()
    until = int(request.context.now().timestamp()) + _SECONDS
    name = _UNSAFE.sub("-", str(said.get("file_name") or "file"))[-_MAX_NAME:]
    proof = request.context.tokens.sign_upload(upload_id, request.client, until)
    query = urlencode({"client": request.client, "until": until, "proof": proof})
    path = f"{upload_name(upload_id)}/{quote(name)}"
    address = f"{request.base}/storage/put/{path}?{query}"
    return shown({"upload_url": address, "file_url": f"{request.base}/storage/files/{path}"})


async def refuse_parts(request: DoorRequest) -> Response:
    """Refuse a file that its client would send in parts: over 90 MB."""
    await request.fields()
    raise Problem(
        413, "too_large", "files in parts are not taken here: upload the file at POST /v1/uploads, or give its URL"
    )


async def put(request: DoorRequest) -> Response:
    """Store a file, to the holder of its address."""
    query = request.http.query_params
    client, until, proof = (query.get(name, "") for name in ("client", "until", "proof"))
    upload_id = media_references.upload_id(request.http.path_params["id"])
    is_number = until.isascii() and until.isdecimal() and len(until) < 12  # noqa: PLR2004 - digits of a Unix second
    if upload_id is None or not is_number:
        raise Problem(403, "forbidden", "the address is incomplete")
    expected = request.context.tokens.sign_upload(upload_id, client, int(until))
    if not hmac.compare_digest(proof.encode(), expected.encode()):
        raise Problem(403, "forbidden", "the address is not valid")
    if request.context.now().timestamp() >= int(until):
        raise Problem(403, "forbidden", "the address has expired: request a new one")
    content = await read_body(request.http, request.context.settings.max_body, request.lease)
    async with request.context.database.reading() as connection:
        known = await upload_store.by_id(connection, [upload_id])
    if not known:
        name = request.http.path_params["name"]
        await store_bytes(request, bytes(content), client=client, name=name, upload_id=upload_id)
    return shown({})


ROUTES: Final = (
    DoorRoute(method="POST", path="/storage/upload/initiate", handler=initiate),
    DoorRoute(method="POST", path="/storage/upload/initiate-multipart", handler=refuse_parts),
    DoorRoute(method="PUT", path="/storage/put/{id}/{name}", handler=put, is_open=True),
)
