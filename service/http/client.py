"""Outgoing HTTP: httpx's API over aiohttp's connections, with failures told apart by whether anything was sent.

httpx's own pool is quadratic in open connections, and the ready-made bridge to aiohttp reports a connection that broke
after the request was written as a connect time-out. For a purchase that is the one difference that counts, so the
bridge here is our own; see docs/decisions/0001.
"""

import asyncio
import contextlib
import dataclasses
import functools
import io
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp
import httpx
from yarl import URL

from service.http.ssrf.guard import Guard

CONNECT_TIMEOUT = 10.0
WRITE_TIMEOUT = 30.0
ANSWER_CAP = 8 * 1024 * 1024
"""Bytes of an upstream's answer that we are willing to read."""
AT_ONCE = 65_536
"""Bytes of a request's body that are written at once."""
KEEP_ALIVE = 15.0
"""Seconds that an idle connection is kept: shorter than what servers keep, so that few are found dead."""

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.ProxyError)
"""Failures of which it is certain that the request did not leave. Of every other failure it is not."""


SECRET_QUERY = "dovecote.query"  # noqa: S105 - its name
"""Extension of a request: a query string that is put behind the URL only on the wire. No log, no exception and no
``repr`` of a request ever holds it."""


class AnswerTooLarge(Exception):
    """The answer is larger than the cap."""

    def __init__(self, status: int, cap: int) -> None:
        """Keep the status: it came before the body."""
        super().__init__(f"more than {cap} bytes")
        self.status = status


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


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
    """Give the URL that a request is really sent to."""
    secret = request.extensions.get(SECRET_QUERY)
    return str(request.url) if secret is None else f"{request.url}?{secret}"


def _body(content: bytes) -> bytes | io.BytesIO | None:
    """Let a large body, such as a picture in a data URI, be written in pieces: at once it would hold up everything else."""
    return io.BytesIO(content) if len(content) > AT_ONCE else content or None


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


@dataclasses.dataclass(slots=True)
class Http:
    """The clients of a process, one for each kind of errand."""

    purchases: httpx.AsyncClient
    """Calls that create: every one on a connection of its own, since one that was kept may be dead, and a request lost
    on a dead connection can not be told from one that arrived."""
    questions: httpx.AsyncClient
    """Calls that may be repeated."""
    messages: httpx.AsyncClient
    """Calls to URLs that clients gave us."""

    @classmethod
    def real(cls, guard: Guard) -> "Http":
        """Open the real ones.

        :param guard: decides where messages may go
        """
        return cls(
            purchases=_client(AiohttpTransport(reuse=False)),
            questions=_client(AiohttpTransport()),
            messages=guarded(guard),
        )

    async def close(self) -> None:
        """Close every connection."""
        for client in (self.purchases, self.questions, self.messages):
            await client.aclose()


class _GuardedClient(httpx.AsyncClient):
    """A client whose guard reads every URL as it was given, before httpx makes a form of its own of it."""

    def __init__(self, guard: Guard, **more: Any) -> None:
        super().__init__(**more)
        self._guard = guard

    def build_request(self, method: str, url: httpx.URL | str, **more: Any) -> httpx.Request:
        destination = self._guard.admit(str(url))
        headers = httpx.Headers(more.pop("headers", None))
        headers["Host"] = destination.authority  # to make it itself, httpx would decode the name, and some it cannot
        return super().build_request(method, str(destination), headers=headers, **more)


def guarded(guard: Guard, *, tls: ssl.SSLContext | None = None) -> httpx.AsyncClient:
    """Open a client for URLs that come from outside: every connection is a new one, and passes the guard.

    :param tls: whom to trust, default the usual authorities
    """
    return _client(AiohttpTransport(reuse=False, guard=guard, tls=tls), functools.partial(_GuardedClient, guard))


def _client(
    transport: httpx.AsyncBaseTransport, kind: Callable[..., httpx.AsyncClient] = httpx.AsyncClient
) -> httpx.AsyncClient:
    return kind(
        transport=transport,
        trust_env=False,
        follow_redirects=False,
        headers={"User-Agent": "Dovecote", "Accept": "application/json", "Accept-Encoding": "gzip"},
        timeout=httpx.Timeout(30.0, connect=CONNECT_TIMEOUT, write=WRITE_TIMEOUT, pool=None),
    )


async def send(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    content: bytes | None = None,
    read_timeout: float,
    total_timeout: float | None = None,
    cap: int = ANSWER_CAP,
    secret_query: str | None = None,
) -> Answer:
    """Send a request and read the whole answer.

    :param read_timeout: seconds without a byte
    :param total_timeout: seconds for everything
    :param cap: bytes of the body that are read at most
    :param secret_query: a query string that only the upstream gets to see
    :raises AnswerTooLarge: when there are more
    :raises httpx.TransportError: see :data:`NEVER_SENT`
    """
    timeout = httpx.Timeout(read_timeout, connect=CONNECT_TIMEOUT, write=WRITE_TIMEOUT, pool=None)
    try:
        async with (
            asyncio.timeout(total_timeout),
            client.stream(
                method,
                url,
                headers=dict(headers),
                content=content,
                timeout=timeout,
                extensions={} if secret_query is None else {SECRET_QUERY: secret_query},
            ) as response,
        ):
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > cap:
                    raise AnswerTooLarge(response.status_code, cap)
            return Answer(response.status_code, dict(response.headers), _unpacked(response, bytes(body), cap))
    except TimeoutError as error:
        raise httpx.ReadTimeout(f"no complete answer within {total_timeout} s") from error


_GZIP = 16 + zlib.MAX_WBITS


def _unpacked(response: httpx.Response, body: bytes, cap: int) -> bytes:
    """Undo the compression, but not beyond the cap: a small answer may unpack to a thousand times its size."""
    if not body or response.headers.get("content-encoding", "").strip().lower() != "gzip":
        return body
    try:
        unpacked = zlib.decompressobj(_GZIP).decompress(body, cap + 1)
    except zlib.error as error:
        raise httpx.DecodingError(str(error), request=response.request) from error
    if len(unpacked) > cap:
        raise AnswerTooLarge(response.status_code, cap)
    return unpacked


async def post_briefly(
    client: httpx.AsyncClient, url: str, *, headers: Mapping[str, str], content: bytes, total_timeout: float, cap: int
) -> Answer:
    """Post something, and take the status for an answer, whatever becomes of the body.

    :param total_timeout: seconds for everything; what has come of the body by then is given
    :param cap: bytes of the body after which no more is read
    :raises httpx.TransportError: when no status came; see :data:`NEVER_SENT`
    """
    limits = httpx.Timeout(total_timeout, connect=CONNECT_TIMEOUT, write=WRITE_TIMEOUT, pool=None)
    head: httpx.Response | None = None
    body = bytearray()
    try:
        async with (
            asyncio.timeout(total_timeout),
            client.stream("POST", url, headers=dict(headers), content=content, timeout=limits) as response,
        ):
            head = response
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) >= cap:
                    break
    except TimeoutError as error:
        if head is None:
            raise httpx.ReadTimeout(f"no answer within {total_timeout:g} s") from error
    except Exception:  # whatever it is: after the status it is about the body
        if head is None:
            raise
    return Answer(head.status_code, dict(head.headers), bytes(body[:cap]))
