"""Read request bodies within limits of size and time."""

import asyncio
from typing import Any, Final

import orjson
from starlette.requests import Request

from service.domain.validation import quote
from service.web.problems import Problem

MAX_PAUSE: Final = 30.0
"""Seconds between two parts of a body."""
MAX_DURATION: Final = 300.0
"""Seconds for a whole body."""


async def read_body(request: Request, limit: int) -> bytes:
    """Return a request's body.

    :param limit: bytes
    :raises Problem: 413 when it is larger, as soon as that is known; 408 when it arrives too slowly
    """
    stated = request.headers.get("content-length", "0")
    if stated.isdigit() and int(stated[:20]) > limit:
        raise _too_large(limit)
    body = bytearray()
    now = asyncio.get_running_loop().time
    end = now() + MAX_DURATION
    try:
        async with asyncio.timeout(MAX_PAUSE) as timeout:
            async for chunk in request.stream():
                timeout.reschedule(min(now() + MAX_PAUSE, end))
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        detail = f"send the body without pauses over {MAX_PAUSE:.0f} s, within {MAX_DURATION:.0f} s"
        raise Problem(408, "too_slow", detail, headers={"Connection": "close"}) from None
    return bytes(body)


async def read_json(request: Request, limit: int) -> Any:
    """Return a parsed JSON body.

    :raises Problem: 408, 413, 415, or 400 with the position of the syntax error
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        stated = quote(kind) if kind else "no type"
        raise Problem(415, "unsupported_media_type", f"send Content-Type: application/json (got {stated})")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        detail = f"send the body without Content-Encoding (got {quote(encoding)})"
        raise Problem(415, "unsupported_media_type", detail, headers={"Accept-Encoding": "identity"})
    body = await read_body(request, limit)
    if body[:2] == b"\x1f\x8b":
        raise Problem(415, "unsupported_media_type", "the body is compressed with gzip: send it uncompressed")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem(400, "not_json", str(error)) from None


def _too_large(limit: int) -> Problem:
    # The rest of the body is not read, so the connection cannot be used again.
    return Problem(413, "too_large", f"send at most {limit} bytes", headers={"Connection": "close"})
