"""The outermost layer of the web application: security headers, and an answer even after an internal error."""

import asyncio
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.flows.context import log
from service.web.problems import Problem, unavailable

_ALWAYS: Final = (
    # A browser runs, frames and posts nothing that it gets from here. The page at /docs allows its own style.
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    # A response belongs to one client, and is valid at this moment only.
    (b"cache-control", b"no-store"),
)


_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_STOPPING: Final = "the server is stopping; repeat the request"
_STOPPING_LATE: Final = (
    "the server is stopping, and the request may have been carried out; repeat it with an Idempotency-Key"
)


class SecurityHeaders:
    """Plain ASGI around a whole application.

    It adds the headers that a response does not set itself, serves a path with and without a trailing slash, refuses a
    request with two ``Host`` headers, and answers 503 to a request that is cancelled when the process stops.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        started = False

        async def complete(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = list(message.get("headers", ()))
                present = {name.lower() for name, _ in headers}
                headers += [header for header in _ALWAYS if header[0] not in present]
                if "allowance" in state:
                    headers += state["allowance"].headers()
                message = {**message, "headers": headers}
            await send(message)

        refused = _refusal(scope)
        if refused is not None:
            await refused.response()(scope, receive, complete)
            return
        try:
            await self.app(_without_trailing_slash(scope), receive, complete)
        except asyncio.CancelledError:
            if started:
                raise
            stopping = unavailable(_STOPPING if scope["method"] in _SAFE else _STOPPING_LATE)
            stopping.headers["Connection"] = "close"
            await stopping.response()(scope, receive, complete)
        except Exception:
            # Starlette raises an error again that it has answered and that on_error has logged.
            if not started:
                raise
            log.debug("request failed after its response had started", exc_info=True)


def _refusal(scope: Scope) -> Problem | None:
    """Return the error for a request with two hosts. A proxy and Dovecote could each read another one."""
    if sum(name == b"host" for name, _ in scope["headers"]) > 1:
        detail = "the request has more than one Host header; send one"
        return Problem(400, "invalid_request", detail, headers={"Connection": "close"})
    return None


def _without_trailing_slash(scope: Scope) -> Scope:
    """Return the scope for the same path without slashes at its end. A redirect would expose a callback token."""
    path: str = scope["path"]
    if len(path) > 1 and path.endswith("/"):
        raw: bytes = scope.get("raw_path") or path.encode()
        scope["state"]["trailing_slash"] = True
        return {**scope, "path": path.rstrip("/") or "/", "raw_path": raw.partition(b"?")[0].rstrip(b"/") or b"/"}
    return scope
