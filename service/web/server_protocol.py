"""End idle and slow connections: uvicorn waits without limit for a request's head, and for a client that does not read."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.web.connections import Connections, source_of

HEAD_TIMEOUT: Final = 15.0
"""Seconds for a request's head, from the first byte or from the start of the connection."""
WRITE_TIMEOUT: Final = 30.0
"""Seconds for which a client may leave a response unread."""
MAX_OVERHEAD: Final = 64 * 1024
"""Bytes of a request that are not body: the head, the framing of chunks, and trailers."""

_TIMEOUT: Final = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with time limits, and without trailers. The time for a body is limited where it is read."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Start without timers."""
        super().__init__(*arguments, **options)
        self._counted = _connections_of(self.server_state)
        self._head = _Timer(self.loop)
        self._write = _Timer(self.loop)
        self._close = _Timer(self.loop)
        self._overhead = 0
        self._body = 0
        self._in_body = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the timer of the head. A connection for which there is no room is refused."""
        super().connection_made(transport)  # type: ignore[arg-type]
        peer = transport.get_extra_info("peername")
        source = source_of(peer[0] if isinstance(peer, tuple) else "")
        if not self._counted.admit(self, source, self.loop.time()):
            self._end(_FULL)
        self._head.start(HEAD_TIMEOUT, self._end, _TIMEOUT)

    def data_received(self, data: bytes) -> None:
        """Process bytes, and limit the size and time of everything that is not body."""
        self._overhead += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._overhead > MAX_OVERHEAD + self._body:
            self._end(_TOO_LARGE)
        elif self._is_idle():
            # Also for bytes after an unread body, and for empty lines: they stop uvicorn's own timer.
            self._head.start(HEAD_TIMEOUT, self._end, _TIMEOUT)

    def on_message_begin(self) -> None:
        """Accept header fields."""
        self._in_body = False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header field. A field of the trailer is ignored: nothing has checked the request with it."""
        if not self._in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop the timer of the head."""
        self._head.stop()
        self._counted.set_busy(self)
        self._take_host_of_target()
        self._in_body = True
        super().on_headers_complete()

    def _take_host_of_target(self) -> None:
        """Replace the Host header by the host of an absolute target, as RFC 9112 demands: the checks of hosts read it."""
        if self.url.startswith(b"/") or b"://" not in self.url:
            return
        authority = self.url.partition(b"://")[2].split(b"/", 1)[0].split(b"?", 1)[0]
        self.headers[:] = [(b"host", authority), *(each for each in self.headers if each[0] != b"host")]

    def on_body(self, body: bytes) -> None:
        """Count the body."""
        self._overhead -= len(body)
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Reset the counters for the next request."""
        self._overhead = self._body = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Start the timer of the reader."""
        super().pause_writing()
        self._write.start(WRITE_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the timer of the reader."""
        self._write.stop()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Limit the time to close a connection after its last response."""
        super().on_response_complete()
        if self._is_idle():  # no further request is in the buffer
            self._counted.set_idle(self, self.loop.time())
        self._limit_close()

    def timeout_keep_alive_handler(self) -> None:
        """Limit the time to close an idle connection."""
        super().timeout_keep_alive_handler()
        self._limit_close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        for timer in (self._head, self._write, self._close):
            timer.stop()
        self._counted.remove(self)
        super().connection_lost(exc)

    def close_idle(self) -> None:
        """Close the connection: too many are idle."""
        self.transport.close()
        self._limit_close()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]  # it begins as None

    def _end(self, response: bytes) -> None:
        """Answer, if no response is under way, and close the connection."""
        if self._is_idle() and not self.transport.is_closing():
            self.transport.write(response)
        self.transport.close()
        self._limit_close()

    def _limit_close(self) -> None:
        # A closing connection waits until the client has read everything. Some clients never do.
        if self.transport.is_closing():
            self._close.start(WRITE_TIMEOUT, self.transport.abort)


def is_disconnected(receive: Any) -> bool | None:
    """Return whether the client of a request has closed the connection; None where this server does not serve it.

    :param receive: the request's ``receive`` of ASGI
    """
    cycle = getattr(receive, "__self__", None)
    return cycle.disconnected if isinstance(cycle, RequestResponseCycle) else None


def _connections_of(state: Any) -> Connections:
    """Return the counted connections of a server, which every connection of it shares."""
    counted: Connections | None = getattr(state, "counted", None)
    if counted is None:
        counted = state.counted = Connections()
    return counted


class _Timer:
    """Calls a function once after some seconds. A second start changes nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None

    def start(self, seconds: float, function: Callable[..., None], *arguments: Any) -> None:
        if self._handle is None:
            self._handle = self._loop.call_later(seconds, function, *arguments)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
