"""Serve a stored file: ranges, conditional requests, and a type in which no browser runs a script."""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Final

from starlette.responses import Response, StreamingResponse

from service.domain.media_types import is_inert, served_type
from service.objects import Objects
from service.web.problems import Problem

_RANGE: Final = re.compile(
    r"\s*bytes\s*=\s*(?:([0-9]{1,18})\s*-\s*([0-9]{0,18})|-\s*([0-9]{1,18}))\s*", re.ASCII | re.IGNORECASE
)


def wanted_range(stated: str | None, size: int) -> tuple[int, int] | None:
    """Return the part of a file that a ``Range`` header asks for, as start and end.

    None where it asks for the whole file: also for several parts, and for a header of another form, which RFC 9110 allows.

    :raises ValueError: when the part lies outside of the file
    """
    found = None if stated is None else _RANGE.fullmatch(stated)
    if found is None:
        return None
    if found[3] is not None:
        length = int(found[3])
        if not length or not size:
            raise ValueError("an empty part")
        return max(size - length, 0), size
    start, last = int(found[1]), int(found[2]) if found[2] else size - 1
    if last < start and found[2]:
        return None
    if start >= size:
        raise ValueError("behind the end")
    return start, min(last, size - 1) + 1


def wanted_part(headers: Mapping[str, str], size: int, etag: str) -> tuple[int, int] | None:
    """Return the part of a file that a request asks for; None: the whole file, also for a part of another version of it.

    :param etag: in quotes
    :raises Problem: 416 for a part that lies outside of the file
    """
    if headers.get("if-range", etag).strip() != etag:
        return None
    try:
        return wanted_range(headers.get("range"), size)
    except ValueError:
        detail = f"the file has {size} bytes"
        raise Problem(416, "range_not_satisfiable", detail, headers={"Content-Range": f"bytes */{size}"}) from None


def matches(condition: str | None, etag: str) -> bool:
    """Return whether ``If-None-Match`` names the version of a file, or any.

    :param etag: in quotes
    """
    stated = [] if condition is None else [each.strip().removeprefix("W/") for each in condition.split(",")]
    return "*" in stated or etag in stated


async def begun(objects: Objects, name: str, start: int, end: int) -> AsyncIterator[bytes]:
    """Return the content of a file, of which the first block has been read: until then the answer may still be an error.

    :raises StorageError: when it cannot be read
    """
    blocks = objects.read(name, start, end)
    first = await anext(blocks, b"")

    async def content() -> AsyncIterator[bytes]:
        yield first
        async for block in blocks:
            yield block

    return content()


async def file_response(
    objects: Objects,
    name: str,
    *,
    size: int,
    content_type: str,
    etag: str,
    file_name: str,
    request_headers: Mapping[str, str],
    head: bool,
) -> Response:
    """Return the response with a stored file, or the part of it that the request asks for.

    :param name: the name of the object
    :param etag: identifies its content, without quotes
    :param file_name: the name under which it is saved: letters, digits, ``.``, ``_`` and ``-``
    :param head: whether only the headers are wanted
    :raises Problem: 416 for a part that lies outside of the file
    :raises StorageError: when it cannot be read
    """
    shown, version = "inline" if is_inert(content_type) else "attachment", f'"{etag}"'
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": version,
        "Content-Type": served_type(content_type),
        "Cache-Control": "private, no-store",
        "Content-Disposition": f'{shown}; filename="{file_name}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
    if matches(request_headers.get("if-none-match"), version):
        return Response(status_code=304, headers=headers)
    part = wanted_part(request_headers, size, version)
    start, end = part or (0, size)
    headers["Content-Length"] = str(end - start)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    status = 200 if part is None else 206
    if head:
        return Response(status_code=status, headers=headers)
    return StreamingResponse(await begun(objects, name, start, end), status, headers)
