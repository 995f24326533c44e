"""Answers that break off: over real sockets by uvicorn's protocol class, in-process by an exception."""

import asyncio
import socket
import struct
from typing import Final

import httpx
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_EXTENSION: Final = "sandbox.connection"  # an ASGI extension of ours: what an app may do to its own connection
_AT_ONCE: Final = struct.pack("ii", 1, 0)  # linger on, for 0 seconds: closing sends a reset instead of an end
_HANG_SECONDS: Final = 300.0


class ConnectionCut(ConnectionResetError):
    """The sandbox broke the connection, as requested.

    It is raised where there is no socket to break, when the app runs in-process. `InProcessTransport` turns it into
    httpx.ReadError, which an httpx client raises after a reset.
    """


class CuttableProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which lets the app break off the connection that it is answering on."""

    _hangs = False

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: {"reset": self._reset, "close": self._close, "hang": self._hang}}

    def shutdown(self) -> None:
        """End the connection with the server: at once where no answer will ever come."""
        if self._hangs:
            self._reset()
        else:
            super().shutdown()

    def _reset(self) -> None:
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()

    def _close(self) -> None:
        self.transport.close()  # written data is still sent

    def _hang(self) -> None:
        self._hangs = True


class CutAnswer(Response):
    """No byte of an answer: the client sees its connection reset."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await break_off("reset", scope, receive)


class HalfAnswer(Response):
    """The headers of an answer and the first half of its body: the client sees its connection closed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        half = bytes(self.body[: len(self.body) // 2])
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await break_off("close", scope, receive)


class NoAnswer(Response):
    """No answer: the client's time-out ends the request. After 300 seconds the connection is reset."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        actions = scope.get("extensions", {}).get(_EXTENSION)
        if actions is not None:
            actions["hang"]()
        try:
            async with asyncio.timeout(_HANG_SECONDS):
                await _gone(receive)
        except TimeoutError:
            await break_off("reset", scope, receive)


async def break_off(how: str, scope: Scope, receive: Receive) -> None:
    """End the connection of a request: with a ``reset``, or by a ``close`` after the written data."""
    actions = scope.get("extensions", {}).get(_EXTENSION)
    if actions is None:
        raise ConnectionCut("the sandbox cut this connection, as it was asked to")
    actions[how]()
    await _gone(receive)  # or uvicorn would complain of an answer that never ends


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class InProcessTransport(httpx.AsyncBaseTransport):
    """httpx.ASGITransport for the sandbox: a cut connection is httpx.ReadError, and the read timeout is kept."""

    def __init__(self, app: ASGIApp) -> None:
        self._inner = httpx.ASGITransport(app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        limit = request.extensions.get("timeout", {}).get("read")
        try:
            async with asyncio.timeout(limit):
                return await self._inner.handle_async_request(request)
        except TimeoutError:
            raise httpx.ReadTimeout("the sandbox did not answer in time", request=request) from None
        except ConnectionCut as cut:
            raise httpx.ReadError(str(cut), request=request) from cut
