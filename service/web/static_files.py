"""Static files of a package: read once, and kept by browsers for as long as their content stays the same."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

_YEAR: Final = 365 * 86_400
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


@dataclasses.dataclass(frozen=True, slots=True)
class StaticFile:
    """A file whose address in a page changes with its content."""

    body: bytes
    media_type: str
    version: str

    def response(self, request: Request) -> Response:
        """Return the file, or 304 when the browser has this version."""
        current = request.query_params.get("v") == self.version
        kept = f"public, max-age={_YEAR}, immutable" if current else "no-cache"
        headers = {"Cache-Control": kept, "ETag": f'"{self.version}"'}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(self.body, 200, headers, self.media_type)


@functools.cache
def static_files(folder: Path) -> Mapping[str, StaticFile]:
    """Return the static files of a folder by name."""
    return {
        path.name: StaticFile(body, _TYPES[path.suffix], hashlib.sha256(body).hexdigest()[:12])
        for path in sorted(folder.iterdir())
        if path.suffix in _TYPES
        for body in [path.read_bytes()]
    }
