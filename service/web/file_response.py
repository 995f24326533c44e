"""Serve a stored file: ranges, conditional requests, and a type in which no browser runs a script."""

import re
from collections.abc import Mapping
from typing import Final

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from service.domain.media_types import is_inert, served_type
from service.flows.context import log
from service.object_errors import StorageError
from service.objects import Objects

_RANGE: Final = re.compile(r"bytes=(?:([0-9]{1,19})-([0-9]{0,19})|-([0-9]{1,19}))", re.ASCII)


def wanted_range(stated: str | None, size: int) -> tuple[int, int] | None:
    """Return the part of a file that a ``Range`` header asks for, as start and end.

    None where it asks for the whole file: also for several parts, and for a header of another form, which RFC 9110 allows.

    :raises ValueError: when the part lies outside of the file
    """
    found = None if stated is None else _RANGE.fullmatch(stated.strip())
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


def file_response(
    objects: Objects,
    name: str,
    *,
    size: int,
    content_type: str,
    etag: str,
    file_name: str,
    request_headers: Mapping[str, str],
    head: bool,
    cache: str = "private, no-store",
) -> Response:
    """Return the response with a stored file, or the part of it that the request asks for.

    :param name: the name of the object
    :param etag: identifies its content, without quotes
    :param file_name: the name under which it is saved: letters, digits, ``.``, ``_`` and ``-``
    :param head: whether only the headers are wanted
    """
    shown = "inline" if is_inert(content_type) else "attachment"
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": f'"{etag}"',
        "Cache-Control": cache,
        "Content-Disposition": f'{shown}; filename="{file_name}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
    matches = {
        each.strip().removeprefix("W/").strip('"') for each in request_headers.get("if-none-match", "").split(",")
    }
    if matches & {etag, "*"}:
        return Response(status_code=304, headers=headers)
    unchanged = request_headers.get("if-range", f'"{etag}"').strip() == f'"{etag}"'
    try:
        part = wanted_range(request_headers.get("range"), size) if unchanged else None
    except ValueError:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    start, end = part or (0, size)
    headers["Content-Length"] = str(end - start)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    status = 200 if part is None else 206
    if head or start == end:
        return Response(status_code=status, headers=headers, media_type=served_type(content_type))
    return _FileBody(objects.read(name, start, end), status, headers, served_type(content_type))


class _FileBody(StreamingResponse):
    """A file that is read while it is sent. A storage that fails in the middle ends the connection, and no file looks whole."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            await super().__call__(scope, receive, send)
        except StorageError as error:
            log.warning("stored file cannot be sent whole error=%s", error)
            raise
