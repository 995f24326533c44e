"""The HTTP clients of a process, and the two ways to send a request: read the whole answer, or only need its status."""

import asyncio
import dataclasses
import functools
import ssl
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from service.http.ssrf.guard import Guard
from service.http.transport import SECRET_QUERY, AiohttpTransport

CONNECT_TIMEOUT = 10.0
WRITE_TIMEOUT = 30.0
MAX_ANSWER = 8 * 1024 * 1024
"""Bytes of an upstream's answer that are read."""


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
    cap: int = MAX_ANSWER,
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
    """Post a request and return the status, even if the body cannot be read.

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
