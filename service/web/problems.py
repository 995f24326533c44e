"""Errors as RFC 9457 problems: each has a stable ``code`` and a text with the remedy."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from service.domain.validation import Mistake, shorten
from service.flows.context import log
from service.store.database import StoreUnavailable

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER: Final = "5"
MAX_DETAIL: Final = 2_000
"""Characters of a problem's detail."""
MAX_BYTES: Final = 20_000
"""Bytes of a problem's body: errors beyond this are left out."""

TITLES: Final = {
    "invalid_request": "The request has errors",
    "not_json": "The body is not JSON",
    "unsupported_media_type": "The body must be uncompressed application/json",
    "too_large": "The body is too large",
    "unauthorized": "An API key is required",
    "unknown_key": "The API key is unknown",
    "expired_key": "The API key has expired",
    "revoked_key": "The API key was revoked",
    "budget_exceeded": "The budget has no room for this task",
    "budget_fixed": "The budget cannot be changed here",
    "forbidden": "The API key lacks a permission",
    "rate_limited": "Too many requests",
    "too_slow": "The request arrived too slowly",
    "disconnected": "The connection was closed before the request was complete",
    "misdirected": "This host name is not served",
    "not_found": "Not found",
    "method_not_allowed": "Method not allowed",
    "cursor_unknown": "The cursor is not one of this feed",
    "cursor_expired": "Events after the cursor were removed",
    "idempotency_key_reused": "The idempotency key belongs to another request",
    "job_taken": "Another client follows this job",
    "adopted": "The task follows a job that was bought elsewhere",
    "already_ended": "The task has already ended",
    "not_awaited": "The task does not wait for input",
    "not_unconfirmed": "The task is not unconfirmed",
    "too_many_endpoints": "Too many endpoints",
    "too_many_callbacks": "Too many callbacks for one submission",
    "endpoint_disabled": "The endpoint is disabled",
    "not_kept": "There is no copy of this result",
    "range_not_satisfiable": "The file has no such range",
    "link_expired": "The link has expired",
    "not_replayable": "This message cannot be replayed",
    "quota_reached": "The uploads of this client have no room",
    "no_storage": "No storage for files is configured",
    "storage_full": "The storage for files is full",
    "upstream_unavailable": "The upstream is not available",
    "unavailable": "Temporarily unavailable",
    "internal_error": "Internal error",
}
"""Title by code: the closed set of codes that clients may rely on."""


class Problem(Exception):
    """An error response."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        mistakes: Sequence[Mistake] = (),
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, str] | None = None,
    ) -> None:
        """Create an error response.

        :param status: HTTP status
        :param code: a key of :data:`TITLES`
        :param detail: what is wrong in this case, and what to do
        :param members: further members of the document, for programs
        """
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.mistakes = mistakes
        self.headers = dict(headers or {})
        self.members = dict(members or {})

    def response(self) -> Response:
        """Render the response. It has at most :data:`MAX_BYTES`."""
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": TITLES[self.code],
            "status": self.status,
            "code": self.code,
            "detail": shorten(self.detail, MAX_DETAIL),
            **self.members,
        }
        if self.mistakes:
            document["errors"] = [{"path": mistake.path, "message": mistake.message} for mistake in self.mistakes]
        body = orjson.dumps(document)
        while len(body) > MAX_BYTES and document.get("errors"):
            document["errors"] = document["errors"][: len(document["errors"]) // 2]
            body = orjson.dumps(document)
        return Response(body, self.status, self.headers, MEDIA_TYPE)


def unavailable(detail: str, *, retry_after: str = RETRY_AFTER) -> Problem:
    """Return the error for a request that can succeed later."""
    return Problem(503, "unavailable", detail, headers={"Retry-After": retry_after})


async def on_problem(_: Request, error: Exception) -> Response:
    """Answer an error that a handler raised."""
    if not isinstance(error, Problem):
        raise error
    return error.response()


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Answer an error of the router."""
    if not isinstance(error, HTTPException):
        raise error
    path = shorten(request.scope["path"], 80)
    if error.status_code == 405:  # noqa: PLR2004 - the router's own status
        detail = f"{path} does not support {shorten(request.method, 20)}"
        return Problem(405, "method_not_allowed", detail, headers=error.headers).response()
    return Problem(404, "not_found", f"{path} does not exist; see /docs for the API").response()


async def on_store_unavailable(_: Request, error: Exception) -> Response:
    """Answer when the database is not available."""
    log.warning("request failed status=503 reason=%s", error)
    return unavailable(
        "the database does not answer, and the request may have been carried out; repeat it with an Idempotency-Key"
    ).response()


async def on_disconnect(_: Request, error: Exception) -> Response:
    """Answer a request whose client hung up while it sent the body. Nothing reads the answer."""
    log.debug("client disconnected before the end of the body error=%s", error)
    return Problem(400, "disconnected", "send the whole body", headers={"Connection": "close"}).response()


async def on_error(request: Request, error: Exception) -> Response:
    """Answer an unexpected error. The details are in the log only."""
    log.error("request failed status=500 method=%s route=%s", request.method, _route(request), exc_info=error)
    return Problem(500, "internal_error", "see the server's log; repeat the request with an Idempotency-Key").response()


def _route(request: Request) -> str:
    """Return the route of a request. A path may contain a callback token, so it is not logged."""
    return str(getattr(request.scope.get("route"), "path", None) or "none")


HANDLERS: dict[Any, Any] = {
    Problem: on_problem,
    HTTPException: on_http_exception,
    ClientDisconnect: on_disconnect,
    StoreUnavailable: on_store_unavailable,
    Exception: on_error,
}
