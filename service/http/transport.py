"""The bridge from httpx's API to the pooled connections of aiohttp, for requests that may be repeated.

The connection pool of httpx is quadratic in open connections. The existing bridge to aiohttp reports a connection that broke
after the request was written as a connect time-out. A purchase must never be repeated after such a failure. See
docs/decisions/0001.
"""

import asyncio
import io
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Final

import aiohttp
import httpx
from yarl import URL

from service.http.reasons import is_local, reason_of
from service.http.response import MAX_FIELD, MAX_FIELDS
from service.http.single import WRITE_AT_ONCE, SingleTransport
from service.http.target import check, host_of, port_of, target_of
from service.http.tls import TLS, trusting

KEEP_ALIVE: Final = 15.0
"""Seconds for which an idle connection is kept: shorter than servers keep it, so that few are found dead."""

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.ProxyError)
"""Failures after which the request certainly did not leave. After every other failure it may have left."""


class PooledTransport(httpx.AsyncBaseTransport):
    """aiohttp's connections under httpx's API. No redirects, no cookies, no proxies from the environment."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        """Prepare; connections are opened on first use, inside the event loop.

        :param tls: the trusted authorities; default: the usual ones
        """
        self._tls = tls or trusting()
        self._lenient = SingleTransport(tls=self._tls)
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0, ssl=self._tls, keepalive_timeout=KEEP_ALIVE)
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            max_line_size=MAX_FIELD,
            max_field_size=MAX_FIELD,
            max_headers=MAX_FIELDS,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request. A response that the strict parser refuses is asked for again and parsed leniently.

        :raises httpx.TransportError: one of :data:`NEVER_SENT` only when nothing was sent
        """
        self._session = self._session or self._open()
        try:
            return await self._send(self._session, request)
        except Exception as error:  # noqa: BLE001 - raised again below
            failure = None if isinstance(error, aiohttp.ClientResponseError) else _translated(error, request)
        # Outside of the handler: texts of the library may hold the URL or the answer.
        if failure is not None:
            raise failure
        return await self._lenient.handle_async_request(request)

    async def _send(self, session: aiohttp.ClientSession, request: httpx.Request) -> httpx.Response:
        limits = request.extensions.get("timeout", {})
        spans = [limits.get(name) for name in ("connect", "write", "read")]
        # aiohttp has no time-out for writing, and its time-out for reading begins after it.
        async with asyncio.timeout(None if None in spans else sum(spans)):
            response = await session.request(
                request.method,
                _url(request),
                headers=request.headers.multi_items(),
                data=_body(await request.aread()),
                ssl=request.extensions.get(TLS, True),
                allow_redirects=False,
                skip_auto_headers=("User-Agent", "Content-Type", "Accept", "Accept-Encoding"),
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    connect=limits.get("pool"),
                    sock_connect=limits.get("connect"),
                    sock_read=limits.get("read"),
                ),
            )
        return httpx.Response(
            response.status, headers=response.raw_headers, stream=_Body(response, request), request=request
        )

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()


def _url(request: httpx.Request) -> URL:
    """Return the URL for aiohttp. The whole target is in its path, so that no byte of it is rewritten."""
    check(request)
    return URL.build(
        scheme=request.url.scheme,
        host=host_of(request),
        port=port_of(request),
        path=target_of(request).decode("ascii"),
        encoded=True,
    )


def _body(content: bytes) -> bytes | io.BytesIO | None:
    """Return a large body, such as a picture, in a form that is written in pieces and does not block the loop."""
    return io.BytesIO(content) if len(content) > WRITE_AT_ONCE else content or None


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse, request: httpx.Request) -> None:
        self._response = response
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except Exception as error:  # noqa: BLE001 - raised again below, without the text of the library
            failure = _translated(error, self._request)
        else:
            return
        raise failure

    async def aclose(self) -> None:
        self._response.release() if self._response.content.is_eof() else self._response.close()


_TRANSLATIONS: tuple[tuple[type[Exception], Callable[..., httpx.TransportError], str | None], ...] = (
    # First match wins: aiohttp's classes inherit from each other across this divide. Before the request left:
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout, "no connection in time"),
    (aiohttp.ClientConnectorError, httpx.ConnectError, None),
    (aiohttp.ClientConnectorCertificateError, httpx.ConnectError, None),
    (aiohttp.ServerFingerprintMismatch, httpx.ConnectError, "another certificate than expected"),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol, "the URL is not valid"),
    (aiohttp.NonHttpUrlClientError, httpx.UnsupportedProtocol, "the URL is not an http(s) URL"),
    (UnicodeError, httpx.UnsupportedProtocol, "the host name is not valid"),
    # After it may have left:
    (aiohttp.SocketTimeoutError, httpx.ReadTimeout, "no answer in time"),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError, "the connection was closed without an answer"),
    (aiohttp.ClientPayloadError, httpx.RemoteProtocolError, "the connection was closed in the middle of the body"),
    (TimeoutError, httpx.ReadTimeout, "no answer in time"),
    (aiohttp.ClientError, httpx.ReadError, None),
    (OSError, httpx.ReadError, None),  # a reset, a broken pipe
)
"""Failures of aiohttp, what they mean, and a text of our own; None: the reason of the operating system or of TLS."""


def _translated(error: Exception, request: httpx.Request) -> Exception:
    if isinstance(error, httpx.HTTPError):
        return error
    for known, meaning, text in _TRANSLATIONS:
        if isinstance(error, known):
            local = meaning in NEVER_SENT and is_local(error)
            return (httpx.PoolTimeout if local else meaning)(text or reason_of(error), request=request)
    return httpx.ReadError(type(error).__name__, request=request)
