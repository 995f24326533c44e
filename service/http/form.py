"""The encoding of forms with files (``multipart/form-data``)."""

from collections.abc import Iterable

import httpx

Part = str | tuple[str, bytes, str]
"""A text; or a file by its name, content and type."""


def encode(parts: Iterable[tuple[str, Part]]) -> tuple[bytes, str]:
    """Return the body of a form, and its content type with the boundary. A name may occur several times."""
    files = [(name, (None, part) if isinstance(part, str) else part) for name, part in parts]
    request = httpx.Request("POST", "http://form.invalid/", files=files)
    return request.read(), request.headers["Content-Type"]
