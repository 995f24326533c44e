"""The access log: one line for each request, without query, body, key or token."""

import logging
import os
import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.flows.metrics.process import Metrics, status_class
from service.flows.metrics.tracing import incoming
from service.logs import request_id

log = logging.getLogger("dovecote")

MAX_SEGMENT: Final = 40
"""A longer segment of a path is left out: it may be a token. An id of ours is shorter."""
_HEALTH: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_AREAS: Final = {"v1": "api", "callbacks": "callbacks", "ui": "ui"}
_SERVER_ERROR: Final = 500


class AccessLog:
    """Plain ASGI around a whole application. It gives each request an id, which every line of the log then has."""

    def __init__(self, app: ASGIApp, metrics: Metrics, *, traced: bool = False) -> None:
        """Wrap an application.

        :param metrics: count its requests
        :param traced: whether the trace of a request goes on with the task that it makes
        """
        self.app = app
        self._requests = metrics.requests
        self._traced = traced

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, and log it when it has been answered."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        token = request_id.set(os.urandom(8).hex())
        trace = incoming.set(_traceparent(scope) if self._traced else None)
        began, status = time.monotonic(), 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            self._requests.labels(area_of(scope["path"]), status_class(status)).inc()
            level = _level(scope["path"], status)
            if log.isEnabledFor(level):
                state = scope.get("state") or {}
                log.log(
                    level,
                    "request method=%s path=%s status=%s seconds=%.3f client=%s",
                    scope["method"],
                    shown_path(scope["path"]),
                    status or None,
                    time.monotonic() - began,
                    state.get("client_name"),
                )
            incoming.reset(trace)
            request_id.reset(token)


def area_of(path: str) -> str:
    """Return the part of the application that serves a path: one of few words, whatever the path is."""
    if path in _HEALTH:
        return "health"
    first = path.split("/", 2)[1] if path.startswith("/") else ""
    return _AREAS.get(first, "other")


def shown_path(path: str) -> str:
    """Return a path without the segments that may be tokens."""
    return "/".join(each if len(each) <= MAX_SEGMENT else "…" for each in path.split("/"))


def _level(path: str, status: int) -> int:
    if status >= _SERVER_ERROR:
        return logging.WARNING
    return logging.DEBUG if path in _HEALTH else logging.INFO


def _traceparent(scope: Scope) -> str | None:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), None)
