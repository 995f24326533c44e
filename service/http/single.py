"""A transport with a connection of its own for every request, and a lenient reader of responses.

Purchases and messages use it. A kept connection may be dead, and a request that is lost on a dead connection
looks like one that arrived. A message may arrive twice, so messages use kept connections again; a purchase never does.
"""

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, cast

import aiohappyeyeballs
import httpx

from service.http.kept import Connection, KeptConnections
from service.http.reasons import is_local, reason_of
from service.http.response import BrokenResponse, Response
from service.http.ssrf.guard import Guard
from service.http.target import check, host_of, port_of, target_of
from service.http.tls import TLS, trusting

WRITE_AT_ONCE: Final = 65_536
"""Bytes of a request's body that are written at once."""
MAX_BUFFERED: Final = 1024 * 1024
"""Bytes of a body that are kept before they are read."""
SECOND_FAMILY_AFTER: Final = 0.25
"""Seconds after which the next address of a host is tried beside the first (RFC 8305)."""
DEADLINE: Final = "dovecote.deadline"
"""Extension of a request: the loop's time at which its status is the answer, whatever is missing after the status line."""
PRIVATE: Final = "dovecote.private"
"""Extension of a response: whether it came from an address that is not public."""


class SingleTransport(httpx.AsyncBaseTransport):
    """Sends requests on new connections, or on kept ones. No redirects, no cookies, no proxies from the environment."""

    def __init__(
        self, *, guard: Guard | None = None, tls: ssl.SSLContext | None = None, kept: KeptConnections | None = None
    ) -> None:
        """Prepare; connections are opened when they are needed.

        :param guard: decides what may be connected to; default: everything
        :param tls: the trusted authorities; default: the usual ones
        :param kept: connections that are used again; default: every request has a new one. A request that is lost on a kept
            connection is sent again, so it must be one that may arrive twice
        """
        self._guard = guard
        self._tls = tls or trusting()
        self._kept = kept

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and return its response as soon as the headers are read.

        When the connection breaks after the status, the response has the data that was read, and its stream raises the failure.

        :raises httpx.TransportError: one of ``NEVER_SENT`` only when nothing was sent
        :raises ForbiddenAddress: when there is a guard, and it refuses the URL
        """
        limits = request.extensions.get("timeout", {})
        message, body = _head(request, keep=self._kept is not None), await request.aread()
        exchange = await self._send_on_kept(request, message, body, limits)
        if exchange is None:
            with contextlib.nullcontext() if self._guard is None else self._guard.towards(str(request.url)) as bound:
                exchange = await self._connect(request, limits.get("connect"))
            exchange.private = bound is not None and bound.private
            await _send(exchange, message, body, limits)
        response = exchange.response
        assert response.status is not None  # noqa: S101 - for the type checker: send returns with a status
        return httpx.Response(
            response.status,
            headers=response.partial_headers(),
            stream=_Body(exchange, limits.get("read"), functools.partial(self._finish, exchange)),
            request=request,
            extensions={PRIVATE: exchange.private},
        )

    async def _send_on_kept(
        self, request: httpx.Request, message: bytes, body: bytes, limits: dict[str, float | None]
    ) -> "_Exchange | None":
        """Send a request on a kept connection. Return None where there is none, or where it was closed without an answer."""
        connection = None if self._kept is None else self._kept.take(self._key_of(request))
        if connection is None:
            return None
        if self._guard is not None:
            self._guard.admit(str(request.url))
        exchange = _Exchange(request, opened_at=connection.opened_at, private=connection.private)
        exchange.connection_made(connection.transport)
        connection.transport.set_protocol(exchange)
        try:
            await _send(exchange, message, body, limits)
        except (httpx.RemoteProtocolError, httpx.ReadError):
            if exchange.has_answer:
                raise
            return None
        return exchange

    def _finish(self, exchange: "_Exchange") -> None:
        """Keep the connection of an exchange, or close it."""
        transport = None if self._kept is None else exchange.reusable()
        if self._kept is None or transport is None:
            exchange.close()
            return
        key = self._key_of(exchange.request)
        self._kept.keep(Connection(key, transport, exchange.opened_at, exchange.private))

    def _key_of(self, request: httpx.Request) -> tuple[str, str, int, int]:
        tls = request.extensions.get(TLS, self._tls)
        return request.url.scheme, host_of(request), port_of(request), id(tls)

    async def _connect(self, request: httpx.Request, seconds: float | None) -> "_Exchange":
        """Open a connection. Every failure here means that nothing was sent."""
        loop = asyncio.get_running_loop()
        secure = request.url.scheme == "https"
        host = host_of(request)
        try:
            async with asyncio.timeout_at(request.extensions.get(DEADLINE)), asyncio.timeout(seconds):
                opened = await self._open_socket(host, port_of(request))
                try:
                    _, exchange = await loop.create_connection(
                        lambda: _Exchange(request, opened_at=loop.time()),
                        sock=opened,
                        ssl=request.extensions.get(TLS, self._tls) if secure else None,
                        server_hostname=host if secure else None,
                    )
                except BaseException:
                    opened.close()
                    raise
        except TimeoutError:
            raise httpx.ConnectTimeout("no connection in time", request=request) from None
        except UnicodeError as error:  # a host name that no resolver accepts
            raise httpx.UnsupportedProtocol("the host name is not valid", request=request) from error
        except (OSError, RuntimeError, ValueError) as error:  # uvloop raises RuntimeError, too
            kind = httpx.PoolTimeout if is_local(error) else httpx.ConnectError
            raise kind(reason_of(error), request=request) from error
        return exchange

    async def _open_socket(self, host: str, port: int) -> socket.socket:
        addresses = await self._addresses(host, port)
        return await aiohappyeyeballs.start_connection(
            addresses,
            happy_eyeballs_delay=SECOND_FAMILY_AFTER,
            interleave=1,
            socket_factory=None if self._guard is None else self._guard.open_socket,
        )

    async def _addresses(self, host: str, port: int) -> Sequence[Any]:
        if self._guard is not None:
            return await self._guard.addresses(host, port)
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)

    async def aclose(self) -> None:
        """Close the kept connections, and stop the guard's threads."""
        if self._kept is not None:
            self._kept.close()
        if self._guard is not None:
            await self._guard.resolver.close()


async def _send(exchange: "_Exchange", message: bytes, body: bytes, limits: dict[str, float | None]) -> None:
    try:
        await exchange.send(message, body, limits)
    except BaseException:
        exchange.close()
        raise


def _head(request: httpx.Request, *, keep: bool) -> bytes:
    """Return the request line and the headers.

    :param keep: whether the connection may be used again
    """
    check(request)
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), target_of(request))]
    lines += [b"%b: %b" % (name, value) for name, value in request.headers.raw if name.lower() != b"connection"]
    return b"\r\n".join([*lines, b"Connection: keep-alive" if keep else b"Connection: close", b"", b""])


class _Exchange(asyncio.Protocol):
    """One request and its response on one connection."""

    def __init__(self, request: httpx.Request, *, opened_at: float, private: bool = False) -> None:
        self.request = request
        self.opened_at = opened_at
        self.private = private
        """Whether the connection leads to an address that is not public."""
        self.has_answer = False
        """Whether any byte of an answer came."""
        self.response = Response(has_body=request.method != "HEAD")
        self.failure: Exception | None = None
        """Why the response is not complete."""
        self._transport: asyncio.Transport | None = None
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._buffered = 0
        self._ended = False
        self._is_written = False

    # ── called by the event loop ───────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self.has_answer = True
        try:
            self.response.feed(data)
        except BrokenResponse as error:
            self._end(httpx.RemoteProtocolError(str(error), request=self.request))
        self._buffered += len(data)
        if self._buffered > MAX_BUFFERED and self._transport is not None:
            with contextlib.suppress(RuntimeError):  # it is closing
                self._transport.pause_reading()
        self._changed.set()

    def eof_received(self) -> None:
        self._close_response(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._close_response(exc)
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _close_response(self, error: Exception | None) -> None:
        if self._ended:
            return
        try:
            self.response.end()
        except BrokenResponse as broken:
            if error is None:
                self._end(httpx.RemoteProtocolError(str(broken), request=self.request))
            elif self.response.headers_complete:
                self._end(httpx.RemoteProtocolError(f"{broken}: {reason_of(error)}", request=self.request))
            else:
                self._end(httpx.ReadError(reason_of(error), request=self.request))
        else:
            self._end(None)

    def _end(self, failure: Exception | None) -> None:
        self._ended = True
        self.failure = failure
        self._changed.set()

    # ── called by the transport ────────────────────────────────────────────────────────────────────────────────

    async def send(self, head: bytes, body: bytes, limits: dict[str, float | None]) -> None:
        """Write the request and wait for the headers of its response, or for the end of the connection.

        :raises httpx.TransportError: when no status came
        """
        assert self._transport is not None  # noqa: S101 - for the type checker: the connection was made
        self._transport.write(head + body[:WRITE_AT_ONCE])
        writing: asyncio.Task[None] | None = None
        if len(body) <= WRITE_AT_ONCE and self._writable.is_set():
            self._is_written = True
        else:
            writing = asyncio.create_task(self._write_rest(body, limits.get("write")))
        try:
            async with asyncio.timeout_at(self.request.extensions.get(DEADLINE)):
                await self._wait_for_headers(writing, limits.get("read"))
        except TimeoutError:
            self._end(httpx.ReadTimeout("no complete answer in time", request=self.request))
        finally:
            if writing is not None:
                writing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await writing
        if self.response.status is None:
            assert self.failure is not None  # noqa: S101 - for the type checker: the wait has ended by it
            raise self.failure

    async def _write_rest(self, body: bytes, seconds: float | None) -> None:
        """Write what follows the first part. A response that comes before the end of it counts all the same."""
        assert self._transport is not None  # noqa: S101 - for the type checker: the connection was made
        try:
            async with asyncio.timeout(seconds):
                for start in range(WRITE_AT_ONCE, len(body), WRITE_AT_ONCE):
                    await self._writable.wait()
                    if self._ended or self._transport.is_closing():
                        return
                    self._transport.write(body[start : start + WRITE_AT_ONCE])
                await self._writable.wait()
                self._is_written = True
        except TimeoutError:
            self._end(httpx.WriteTimeout("the request was not read in time", request=self.request))

    async def _wait_for_headers(self, writing: "asyncio.Task[None] | None", seconds: float | None) -> None:
        while not (self.response.headers_complete or self._ended):
            self._changed.clear()
            if writing is not None and not writing.done():
                waiting = asyncio.create_task(self._changed.wait())
                try:
                    await asyncio.wait({waiting, writing}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    waiting.cancel()
                continue
            try:
                async with asyncio.timeout(seconds):  # the time-out for reading begins when the request is written
                    await self._changed.wait()
            except TimeoutError:
                self._end(httpx.ReadTimeout("no answer in time", request=self.request))

    async def body(self, seconds: float | None) -> AsyncIterator[bytes]:
        """Yield the body as it arrives.

        :raises httpx.TransportError: when it breaks off; all that was read has been yielded then
        """
        while True:
            data = self.response.take_body()
            self._buffered = 0
            if data:
                yield data
                continue
            if self.response.complete:
                return
            if self._ended:
                if self.failure is not None:
                    raise self.failure
                return
            self._changed.clear()
            if self._transport is not None:
                with contextlib.suppress(RuntimeError):  # it is closing, or was not paused
                    self._transport.resume_reading()
            try:
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
            except TimeoutError:
                self._end(httpx.ReadTimeout("no more of the answer in time", request=self.request))

    def reusable(self) -> asyncio.Transport | None:
        """Return the connection, once, if request and response have ended on it and it stays open; otherwise None."""
        transport = self._transport
        if transport is None or self._ended or transport.is_closing() or not self.response.allows_reuse:
            return None
        if not self._is_written or transport.get_write_buffer_size():
            return None
        self._transport = None
        return transport

    def close(self) -> None:
        """Close the connection."""
        self.failure = None  # its traceback leads back here: such a cycle keeps the buffers in memory
        if self._transport is not None:
            self._transport.abort()


class _Body(httpx.AsyncByteStream):
    def __init__(self, exchange: _Exchange, timeout: float | None, finish: Callable[[], None]) -> None:
        self._exchange = exchange
        self._timeout = timeout
        self._finish = finish

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._exchange.body(self._timeout):
            yield chunk

    async def aclose(self) -> None:
        self._finish()
