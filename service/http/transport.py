"""The bridge from httpx's API to aiohttp's connections. It tells failures apart by whether anything was sent.

The connection pool of httpx is quadratic in open connections. The ready-made bridge to aiohttp reports a connection that
broke after the request was written as a connect time-out, and a purchase must never be repeated after that. See
docs/decisions/0001.
"""

import asyncio
import contextlib
import io
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import httpx
from yarl import URL

from service.http.ssrf.guard import Guard

WRITE_AT_ONCE = 65_536
"""Bytes of a request's body that are written at once."""
KEEP_ALIVE = 15.0
"""Seconds for which an idle connection is kept: shorter than servers keep it, so that few are found dead."""

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.ProxyError)
"""Failures after which the request certainly did not leave. After every other failure it may have left."""


SECRET_QUERY = "dovecote.query"  # noqa: S105 - its name
"""Extension of a request: a query string that is put behind the URL only on the wire. No log, no exception and no
``repr`` of a request ever holds it."""


class AiohttpTransport(httpx.AsyncBaseTransport):
    """aiohttp's connections under httpx's API. No redirects, no cookies, no proxies from the environment."""

    def __init__(self, *, reuse: bool = True, guard: Guard | None = None, tls: ssl.SSLContext | None = None) -> None:
        """Prepare; connections are opened on first use, inside the event loop.

        :param reuse: keep connections for the next request
        :param guard: decides what may be connected to; default: everything
        :param tls: whom to trust, default the usual authorities
        """
        self._reuse = reuse
        self._guard = guard
        self._tls = tls or httpx.create_ssl_context(trust_env=False)
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        more: dict[str, Any] = {"force_close": True} if not self._reuse else {"keepalive_timeout": KEEP_ALIVE}
        if self._guard is not None:
            resolver, open_socket = self._guard.resolver, self._guard.open_socket
            more |= {"resolver": resolver, "socket_factory": open_socket, "use_dns_cache": False}
        connector = aiohttp.TCPConnector(limit=0, ssl=self._tls, **more)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request.

        :raises httpx.TransportError: one of :data:`NEVER_SENT` only when nothing was sent
        :raises ForbiddenAddress: when there is a guard, and it refuses the URL
        """
        with contextlib.nullcontext() if self._guard is None else self._guard.towards(str(request.url)):
            return await self._handle(request)

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        if self._session is None:
            self._session = self._open()
        secret = request.extensions.get(SECRET_QUERY)
        if secret is None:
            return await self._send(request, str(request.url))
        failure: Exception
        try:
            return await self._send(request, URL(on_the_wire(request), encoded=True))
        except httpx.TransportError as error:
            failure = type(error)("the request failed", request=request)
        except Exception as error:  # noqa: BLE001 - whatever it is: its text may hold the URL
            failure = httpx.ReadError(type(error).__name__, request=request)
        raise failure  # outside of the handler: what caused it is not kept either

    async def _send(self, request: httpx.Request, url: str | URL) -> httpx.Response:
        assert self._session is not None  # noqa: S101 - for the type checker: the caller has opened it
        limits = request.extensions.get("timeout", {})
        spans = [limits.get(name) for name in ("connect", "write", "read")]
        try:
            # aiohttp has no time-out for writing, and its time-out for reading begins after it.
            async with asyncio.timeout(None if None in spans else sum(spans)):
                response = await self._session.request(
                    request.method,
                    url,
                    headers=request.headers.multi_items(),
                    data=_body(await request.aread()),
                    allow_redirects=False,
                    skip_auto_headers=("User-Agent", "Content-Type", "Accept", "Accept-Encoding"),
                    timeout=aiohttp.ClientTimeout(
                        total=None,
                        connect=limits.get("pool"),
                        sock_connect=limits.get("connect"),
                        sock_read=limits.get("read"),
                    ),
                )
        except Exception as error:
            raise _translated(error, request) from error
        return httpx.Response(
            response.status, headers=response.raw_headers, stream=_Body(response, request), request=request
        )

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
        if self._guard is not None:
            await self._guard.resolver.close()


def on_the_wire(request: httpx.Request) -> str:
    """Return the URL that a request is sent to."""
    secret = request.extensions.get(SECRET_QUERY)
    return str(request.url) if secret is None else f"{request.url}?{secret}"


def _body(content: bytes) -> bytes | io.BytesIO | None:
    """Write a large body, such as a picture in a data URI, in pieces: at once it would hold up everything else."""
    return io.BytesIO(content) if len(content) > WRITE_AT_ONCE else content or None


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse, request: httpx.Request) -> None:
        self._response = response
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except Exception as error:
            told = _translated(error, self._request)
            if SECRET_QUERY not in self._request.extensions:
                raise told from error
        else:
            return
        raise httpx.RemoteProtocolError("the answer broke off", request=self._request)

    async def aclose(self) -> None:
        self._response.release() if self._response.content.is_eof() else self._response.close()


_TRANSLATIONS: tuple[tuple[type[Exception], Callable[..., httpx.TransportError]], ...] = (
    # First match wins: aiohttp's classes inherit from each other across this divide. Before the request left:
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (aiohttp.ClientConnectorCertificateError, httpx.ConnectError),
    (aiohttp.ServerFingerprintMismatch, httpx.ConnectError),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol),
    (aiohttp.NonHttpUrlClientError, httpx.UnsupportedProtocol),
    (UnicodeError, httpx.UnsupportedProtocol),  # a host name that cannot be looked up
    # After it may have left:
    (aiohttp.SocketTimeoutError, httpx.ReadTimeout),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),
    (aiohttp.ClientPayloadError, httpx.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx.RemoteProtocolError),
)


def _translated(error: Exception, request: httpx.Request) -> Exception:
    if isinstance(error, httpx.HTTPError):
        return error
    for known, meaning in _TRANSLATIONS:
        if isinstance(error, known):
            return meaning(str(error) or type(error).__name__, request=request)
    if isinstance(error, TimeoutError):
        return httpx.ReadTimeout(str(error), request=request)
    if isinstance(error, aiohttp.ClientError | OSError):  # a reset, a broken pipe
        return httpx.ReadError(str(error) or type(error).__name__, request=request)
    return error
