"""Requests as a server hands them to an ASGI application, for connections that break at a chosen moment."""

from typing import Any

import httpx


def scope_of(request: httpx.Request) -> dict[str, Any]:
    """Return the scope of a request over HTTP/1.1."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.partition(b"?")[0],
        "query_string": request.url.query,
        "server": ("localhost", 80),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }
