"""Ends connections that only hold on: uvicorn waits without end for a request's head, and for a reader that does not read."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS: Final = 15.0
"""From the first byte, or from the beginning of a connection, to the end of a request's head."""
READER_SECONDS: Final = 30.0
"""For which the other side may leave an answer unread."""
MAX_OVERHEAD: Final = 64 * 1024
"""Bytes of a request that are no body: its head, what stands between its chunks, what comes after them."""

_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with an end to its patience. The time for a body is limited where it is read."""

    def __init__(self, *given: Any, **named: Any) -> None:
        """Wait for nothing yet."""
        super().__init__(*given, **named)
        self._head = _Timer(self.loop)
        self._reader = _Timer(self.loop)
        self._end = _Timer(self.loop)
        self._overhead = 0
        self._body = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a head."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._head.start(HEAD_SECONDS, self._give_up, _SLOW)

    def data_received(self, data: bytes) -> None:
        """Take bytes; those of a head do not come for ever."""
        self._overhead += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._overhead > MAX_OVERHEAD + self._body:
            self._give_up(_LARGE)
        elif self._is_idle():
            # Also bytes after a body that nobody wanted, and empty lines: they stop uvicorn's own clock.
            self._head.start(HEAD_SECONDS, self._give_up, _SLOW)

    def on_headers_complete(self) -> None:
        """Stop waiting for the head."""
        self._head.stop()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count what is body."""
        self._overhead -= len(body)
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Count anew for the next request."""
        self._overhead = self._body = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Begin to wait for the reader."""
        super().pause_writing()
        self._reader.start(READER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop waiting for the reader."""
        self._reader.stop()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """See a connection to its end that is closed after an answer."""
        super().on_response_complete()
        self._hurry_if_closing()

    def timeout_keep_alive_handler(self) -> None:
        """See a connection to its end that is closed because nobody asks any more."""
        super().timeout_keep_alive_handler()
        self._hurry_if_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        for timer in (self._head, self._reader, self._end):
            timer.stop()
        super().connection_lost(exc)

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]  # it begins as None

    def _give_up(self, answer: bytes) -> None:
        """Say why, to those who listen, and hang up."""
        if self._is_idle() and not self.transport.is_closing():
            self.transport.write(answer)
        self.transport.close()
        self._hurry_if_closing()

    def _hurry_if_closing(self) -> None:
        # A connection is closed when all is read that was written: by some never.
        if self.transport.is_closing():
            self._end.start(READER_SECONDS, self.transport.abort)


class _Timer:
    """Calls back once, unless it is stopped before; started twice it goes on as it was."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None

    def start(self, seconds: float, call: Callable[..., None], *given: Any) -> None:
        if self._handle is None:
            self._handle = self._loop.call_later(seconds, call, *given)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
