"""fal's storage: where a file can be put without a key, and its address in an input then. Files are uploads of Dovecote."""

import re
from typing import Final
from urllib.parse import quote

from starlette.responses import Response

from service.domain.media_references import upload_name
from service.web.facades.door import DoorRequest, DoorRoute, shown
from service.web.facades.uploads import at_address, is_stored, new_address, store_bytes
from service.web.problems import Problem
from service.web.request_body import read_body

_MAX_NAME: Final = 100
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


async def initiate(request: DoorRequest) -> Response:
    """Return where a file can be put, and the address that names it in an input then."""
    said = await request.fields()
    upload_id, query = new_address(request)
    name = _UNSAFE.sub("-", str(said.get("file_name") or "file"))[-_MAX_NAME:]
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
    upload_id, client = at_address(request)
    content = await read_body(request.http, request.context.settings.max_body, request.lease)
    if not await is_stored(request, upload_id):
        name = request.http.path_params["name"]
        await store_bytes(request, bytes(content), client=client, name=name, upload_id=upload_id)
    return shown({})


ROUTES: Final = (
    DoorRoute(method="POST", path="/storage/upload/initiate", handler=initiate),
    DoorRoute(method="POST", path="/storage/upload/initiate-multipart", handler=refuse_parts),
    DoorRoute(method="PUT", path="/storage/put/{id}/{name}", handler=put, is_open=True),
)
