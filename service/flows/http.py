"""Outgoing HTTP: httpx's API over aiohttp's connections, with failures told apart by whether anything was sent.

httpx's own pool is quadratic in open connections, and the ready-made bridge to aiohttp reports a connection that broke
after the request was written as a connect time-out. For a purchase that is the one difference that counts, so the
bridge here is our own; see docs/decisions/0001.
"""

import asyncio
import dataclasses
import functools
import io
import ipaddress
import socket
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult

CONNECT_TIMEOUT = 10.0
WRITE_TIMEOUT = 30.0
ANSWER_CAP = 8 * 1024 * 1024
"""Bytes of an upstream's answer that we are willing to read."""
AT_ONCE = 65_536
"""Bytes of a request's body that are written at once."""
RESOLVING_THREADS = 8
KEEP_ALIVE = 15.0
"""Seconds that an idle connection is kept: shorter than what servers keep, so that few are found dead."""

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.ProxyError)
"""Failures of which it is certain that the request did not leave. Of every other failure it is not."""


class ForbiddenAddress(OSError):
    """A URL given by a client leads to an address that is not public."""


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

    def __init__(self, *, reuse: bool = True, guarded: bool = False) -> None:
        """Prepare; connections are opened on first use, inside the event loop.

        :param reuse: keep connections for the next request
        :param guarded: refuse every address that is not public
        """
        self._reuse = reuse
        self._guarded = guarded
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        more: dict[str, Any] = {"force_close": True} if not self._reuse else {"keepalive_timeout": KEEP_ALIVE}
        if self._guarded:
            more |= {"resolver": PublicOnly(), "socket_factory": public_socket, "use_dns_cache": False}
        connector = aiohttp.TCPConnector(limit=0, ssl=httpx.create_ssl_context(trust_env=False), **more)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request.

        :raises httpx.TransportError: one of :data:`NEVER_SENT` only when nothing was sent
        """
        if self._session is None:
            self._session = self._open()
        limits = request.extensions.get("timeout", {})
        spans = [limits.get(name) for name in ("connect", "write", "read")]
        try:
            # aiohttp has no time-out for writing, and its time-out for reading begins after it.
            async with asyncio.timeout(None if None in spans else sum(spans)):
                response = await self._session.request(
                    request.method,
                    str(request.url),
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
            raise _translated(error, self._request) from error

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


def is_public(address: str) -> bool:
    """Whether an IP address, in whatever disguise, is one of the public internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip.is_site_local or ip in _IPV4_COMPATIBLE:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_IPV4_COMPATIBLE = ipaddress.ip_network("::/96")


class PublicOnly(AbstractResolver):
    """Resolves a name once, and refuses it when any of its addresses is not public."""

    def __init__(self) -> None:
        """Take threads of its own: names that never resolve must not keep those that purchases resolve by."""
        self._threads = ThreadPoolExecutor(RESOLVING_THREADS, thread_name_prefix="resolve")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Give the addresses that will be connected to.

        :raises ForbiddenAddress: when any of them is not public
        """
        look_up = functools.partial(
            socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        for *_, where in found:
            if not is_public(str(where[0])):
                raise ForbiddenAddress(f"{host} leads to {where[0]}, which is not a public address")
        literal = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(
                hostname=host, host=str(where[0]), port=int(where[1]), family=kind, proto=proto, flags=literal
            )
            for kind, _, proto, _, where in found
        ]

    async def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def public_socket(address: Any) -> socket.socket:
    """Open a socket for an address, if it is public. The last gate: literal addresses pass by the resolver."""
    family, kind, protocol, _, where = address
    if not is_public(where[0]):
        raise ForbiddenAddress(f"{where[0]} is not a public address")
    return socket.socket(family, kind, protocol)


def refuse_private(url: str) -> None:
    """Refuse a URL whose host is literally an address that is not public, or a name for this machine.

    :raises ForbiddenAddress: with the reason
    """
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        raise ForbiddenAddress(f"{host} is this machine")
    try:
        public = is_public(host)
    except ValueError:
        return  # a name: the resolver looks at what it leads to
    if not public:
        raise ForbiddenAddress(f"{host} is not a public address")


def forbidden(error: BaseException | None) -> ForbiddenAddress | None:
    """Find out whether a failure to connect was our own refusal."""
    while error is not None:
        inner = getattr(error, "os_error", None)
        for candidate in (error, inner, *getattr(inner, "exceptions", ())):
            if isinstance(candidate, ForbiddenAddress):
                return candidate
        error = error.__cause__
    return None


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
    def real(cls, *, allow_private: bool) -> "Http":
        """Open the real ones.

        :param allow_private: let messages go to addresses that are not public
        """
        return cls(
            purchases=_client(AiohttpTransport(reuse=False)),
            questions=_client(AiohttpTransport()),
            messages=_client(AiohttpTransport(reuse=False, guarded=not allow_private)),
        )

    async def close(self) -> None:
        """Close every connection."""
        for client in (self.purchases, self.questions, self.messages):
            await client.aclose()


def _client(transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    return httpx.AsyncClient(
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
) -> Answer:
    """Send a request and read the whole answer.

    :param read_timeout: seconds without a byte
    :param total_timeout: seconds for everything
    :param cap: bytes of the body that are read at most
    :raises AnswerTooLarge: when there are more
    :raises httpx.TransportError: see :data:`NEVER_SENT`
    """
    timeout = httpx.Timeout(read_timeout, connect=CONNECT_TIMEOUT, write=WRITE_TIMEOUT, pool=None)
    try:
        async with (
            asyncio.timeout(total_timeout),
            client.stream(method, url, headers=dict(headers), content=content, timeout=timeout) as response,
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
