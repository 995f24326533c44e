"""Read request bodies, never more than is allowed."""

from typing import Any

import orjson
from starlette.requests import Request

from service.web.problems import Problem


async def read_body(request: Request, cap: int) -> bytes:
    """Read a request's body.

    :param cap: bytes
    :raises Problem: 413 when it is larger, as soon as that is known
    """
    stated = request.headers.get("content-length", "0")
    if stated.isdigit() and int(stated) > cap:
        raise _too_large(cap)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > cap:
            raise _too_large(cap)
    return bytes(body)


async def read_json(request: Request, cap: int) -> Any:
    """Read a JSON body.

    :raises Problem: 413, 415, or 400 with the place where it stops to be JSON
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem(415, "unsupported_media_type", f"send it as application/json, not {kind or 'without a type'}")
    body = await read_body(request, cap)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem(400, "not_json", str(error)) from None


def _too_large(cap: int) -> Problem:
    # The rest is not read: the connection cannot go on.
    return Problem(413, "too_large", f"at most {cap} bytes are taken", headers={"Connection": "close"})
