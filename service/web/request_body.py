"""Read request bodies, never more than is allowed."""

import asyncio
from typing import Any, Final

import orjson
from starlette.requests import Request

from service.web.problems import Problem

LONGEST_PAUSE: Final = 30.0
"""Seconds that may pass between two pieces of a body."""
LONGEST_BODY: Final = 300.0
"""Seconds that a whole body may take."""


async def read_body(request: Request, cap: int) -> bytes:
    """Read a request's body.

    :param cap: bytes
    :raises Problem: 413 when it is larger, as soon as that is known; 408 when it comes too slowly
    """
    stated = request.headers.get("content-length", "0")
    if stated.isdigit() and int(stated) > cap:
        raise _too_large(cap)
    body = bytearray()
    now = asyncio.get_running_loop().time
    end = now() + LONGEST_BODY
    try:
        async with asyncio.timeout(LONGEST_PAUSE) as patience:
            async for chunk in request.stream():
                patience.reschedule(min(now() + LONGEST_PAUSE, end))
                body += chunk
                if len(body) > cap:
                    raise _too_large(cap)
    except TimeoutError:
        detail = f"at most {LONGEST_PAUSE:.0f} s may pass without a byte, and {LONGEST_BODY:.0f} s for all of it"
        raise Problem(408, "too_slow", detail, headers={"Connection": "close"}) from None
    return bytes(body)


async def read_json(request: Request, cap: int) -> Any:
    """Read a JSON body.

    :raises Problem: 408, 413, 415, or 400 with the place where it stops to be JSON
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
