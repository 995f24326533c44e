"""What goes wrong, as RFC 9457 problems: one stable ``code`` each, and a text that says what to do."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service.domain.validation import Mistake
from service.flows.context import log
from service.store.database import StoreUnavailable

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = "5"

TITLES = {
    "invalid_request": "The request has mistakes",
    "not_json": "The body is not JSON",
    "unsupported_media_type": "The body must be application/json",
    "too_large": "The body is too large",
    "unauthorized": "An API key is needed",
    "forbidden": "This key may not do that",
    "rate_limited": "Too many requests",
    "too_slow": "The request came too slowly",
    "misdirected": "This host name is not served",
    "not_found": "There is no such thing here",
    "method_not_allowed": "This method does not exist here",
    "idempotency_key_reused": "The idempotency key belongs to another request",
    "already_ended": "The task has ended already",
    "not_awaited": "The task waits for no input",
    "not_unconfirmed": "It is known what became of the task",
    "too_many_endpoints": "There is no room for another endpoint",
    "endpoint_disabled": "The endpoint is disabled",
    "not_replayable": "This message cannot be replayed",
    "upstream_unavailable": "The upstream cannot be asked now",
    "unavailable": "Dovecote cannot do this now",
    "internal_error": "Dovecote has made a mistake",
}
"""Title by code: the closed set that clients may rely on."""


class Problem(Exception):
    """An answer that says what went wrong."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        mistakes: Sequence[Mistake] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Keep what is to be said.

        :param status: HTTP status
        :param code: a key of :data:`TITLES`
        :param detail: what is wrong in this case, and what to do
        """
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.mistakes = mistakes
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Render it."""
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": TITLES[self.code],
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.mistakes:
            document["errors"] = [{"path": mistake.path, "message": mistake.message} for mistake in self.mistakes]
        return Response(orjson.dumps(document), self.status, self.headers, MEDIA_TYPE)


def unavailable(detail: str) -> Problem:
    """Say that it would work later."""
    return Problem(503, "unavailable", detail, headers={"Retry-After": RETRY_AFTER})


async def on_problem(_: Request, error: Exception) -> Response:
    """Answer a problem that a handler raised."""
    if not isinstance(error, Problem):
        raise error
    return error.response()


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Answer what the router found wrong."""
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == 405:  # noqa: PLR2004 - the router's own status
        detail = f"{request.url.path} does not take {request.method}"
        return Problem(405, "method_not_allowed", detail, headers=error.headers).response()
    return Problem(404, "not_found", f"{request.url.path} is not served; /docs lists what is").response()


async def on_store_unavailable(_: Request, error: Exception) -> Response:
    """Answer when the database is away."""
    log.warning("answering 503: %s", error)
    return unavailable(
        "the database does not answer, and what was asked for may have been done; trying again is safe with an Idempotency-Key"
    ).response()


async def on_error(request: Request, error: Exception) -> Response:
    """Answer a mistake of our own, without its details: they are in the log."""
    log.error("%s %s failed", request.method, request.scope.get("route"), exc_info=error)
    return Problem(
        500, "internal_error", "the log has the details; trying again is safe with an Idempotency-Key"
    ).response()


HANDLERS: dict[Any, Any] = {
    Problem: on_problem,
    HTTPException: on_http_exception,
    StoreUnavailable: on_store_unavailable,
    Exception: on_error,
}
