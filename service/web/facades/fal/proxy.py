"""The proxy of fal's JavaScript client (``proxyUrl``): the address that it means is in a header. Nothing is ever forwarded."""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from starlette.responses import Response

from service.web.facades.door import DoorRequest, DoorRoute, Handler
from service.web.facades.fal import queue, storage
from service.web.problems import Problem

_HOSTS: Final = ("fal.run", "queue.fal.run", "rest.fal.ai", "rest.alpha.fal.ai")
"""The hosts that a request may name: of requests that wait, of the queue, and of the rest."""
_TARGET: Final = "x-fal-target-url"
_REQUEST: Final = re.compile(r"/(?P<app>.+)/requests/(?P<id>[^/]+)(?P<rest>/status/stream|/status|/cancel)?/?")


async def proxied(request: DoorRequest) -> Response:
    """Serve a request as the host that it names would.

    :raises Problem: 412 for another host, 404 for what that host does not serve here
    """
    try:
        parts = urlsplit(request.headers.get(_TARGET, ""))
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    if parts.scheme != "https" or parts.netloc not in _HOSTS:
        raise Problem(412, "invalid_request", f"{_TARGET} must be an https URL of {', '.join(_HOSTS)}")
    if parts.netloc.startswith("rest."):
        return await _of_rest(request, parts.path.rstrip("/"))
    found = _REQUEST.fullmatch(parts.path)
    return await (_create(request, parts) if found is None else _of_request(request, found))


async def _of_rest(request: DoorRequest, path: str) -> Response:
    handlers: dict[str, Any] = {
        "/storage/upload/initiate": storage.initiate,
        "/storage/upload/initiate-multipart": storage.refuse_parts,
    }
    if path == "/tokens":
        raise Problem(404, "not_found", f'{queue.NO_REALTIME}; and leave connectionMode at "server"')
    if request.http.method != "POST" or path not in handlers:
        raise Problem(404, "not_found", "of this host, only uploads are served here")
    response: Response = await handlers[path](request)
    return response


async def _create(request: DoorRequest, parts: SplitResult) -> Response:
    waits = not parts.netloc.startswith("queue.")
    app = parts.path.strip("/")
    request.http.path_params["app"] = app
    # Requests are compared by their path and query: those of the target.
    request.http.scope["path"] = f"{request.prefix}{queue.RUN if waits else ''}{parts.path}"
    request.http.scope["query_string"] = parts.query.encode("latin-1", "replace")
    if request.http.method != "POST" or not queue.is_app(app):
        raise Problem(404, "not_found", "the target is no app and no request")
    return await (queue.run if waits else queue.submit)(request)


async def _of_request(request: DoorRequest, found: re.Match[str]) -> Response:
    request.http.path_params["id"] = found["id"]
    handler = _HANDLERS.get((request.http.method, found["rest"] or ""))
    if handler is None:
        raise Problem(404, "not_found", "the target is not served for this method")
    return await handler(request)


_HANDLERS: Final[Mapping[tuple[str, str], Handler]] = {
    ("GET", ""): queue.result,
    ("GET", "/status"): queue.status,
    ("GET", "/status/stream"): queue.stream_status,
    ("PUT", "/cancel"): queue.cancel_request,
}
"""By method, and by what follows the id of a request."""

ROUTES: Final = tuple(DoorRoute(method=method, path="/fal-proxy", handler=proxied) for method in ("GET", "POST", "PUT"))
