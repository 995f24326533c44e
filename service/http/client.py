"""The HTTP clients of a process, and the two ways to send a request: read the whole answer, or only need its status."""

import asyncio
import dataclasses
import functools
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx

from service.domain.compression import TooLarge, unpack
from service.http.kept import KeptConnections
from service.http.single import DEADLINE, PRIVATE, SingleTransport
from service.http.ssrf.guard import Guard
from service.http.target import SECRET_QUERY, TARGET, exact_target
from service.http.tls import TLS, trusting
from service.http.transport import PooledTransport

CONNECT_TIMEOUT = 10.0
WRITE_TIMEOUT = 30.0
MAX_ANSWER = 8 * 1024 * 1024
"""Bytes of an upstream's answer that are read."""


_GRACE = 1.0
"""Seconds that a transport may take beyond a deadline that it keeps itself."""


class AnswerTooLarge(Exception):
    """The answer is larger than the limit."""

    def __init__(self, status: int, limit: int) -> None:
        """Keep the status: it came before the body."""
        super().__init__(f"more than {limit} bytes")
        self.status = status


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """An answer, as far as it could be read."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    failure: Exception | None = None
    """Why the answer broke off after its status; None when it is complete."""
    private: bool = False
    """Whether it came from an address that is not public. Only known of guarded clients."""


@dataclasses.dataclass(slots=True)
class Http:
    """The clients of a process, one for each purpose."""

    purchases: httpx.AsyncClient
    """Calls that create, and files at the upstream. Each has a connection of its own: a kept one may be dead, and a request that is lost on a dead
    connection cannot be told from one that arrived."""
    questions: httpx.AsyncClient
    """Calls that may be repeated."""
    messages: httpx.AsyncClient
    """Calls to URLs of clients."""
    files: httpx.AsyncClient
    """Calls to URLs that providers gave, to fetch results."""

    @classmethod
    def real(
        cls, guard: Guard, *, files_guard: Guard | None = None, webhook_tls: ssl.SSLContext | None = None
    ) -> "Http":
        """Open the clients of a process.

        :param guard: decides where messages may go
        :param files_guard: decides where results may be fetched from; default: as messages
        :param webhook_tls: the authorities that are trusted for messages; default: the usual ones
        """
        usual = trusting()  # takes 20 ms to make
        return cls(
            purchases=_client(SingleTransport(tls=usual)),
            questions=_client(PooledTransport(tls=usual)),
            messages=guarded(guard, tls=webhook_tls or usual, kept=KeptConnections()),
            files=guarded(files_guard or guard, tls=usual),
        )

    async def close(self) -> None:
        """Close every connection."""
        for client in (self.purchases, self.questions, self.messages, self.files):
            await client.aclose()


_HEADERS: Final = {"User-Agent": "Dovecote", "Accept": "application/json", "Accept-Encoding": "gzip"}
"""Headers of every request that has no others of these names."""


class _Client(httpx.AsyncClient):
    """A client that makes a request and hands it to its transport, and does nothing else with it.

    httpx would look for authentication, redirects, cookies, hooks and parameters. Dovecote uses none of them, and they take as long
    as the transport.
    """

    def __init__(self, *, transport: httpx.AsyncBaseTransport, **more: Any) -> None:
        super().__init__(transport=transport, **more)
        self._direct = transport

    def build_request(self, method: str, url: httpx.URL | str, **given: Any) -> httpx.Request:
        given = {name: value for name, value in given.items() if value is not None}
        own, timeout = given.get("headers", {}), given.get("timeout")
        limits = (timeout if isinstance(timeout, httpx.Timeout) else self.timeout).as_dict()
        named = {name.lower() for name in own}
        return httpx.Request(
            method,
            url,
            headers={**{name: value for name, value in _HEADERS.items() if name.lower() not in named}, **own},
            content=given.get("content"),
            extensions={"timeout": limits, **given.get("extensions", {})},
        )

    async def send(self, request: httpx.Request, *, stream: bool = False, **_: Any) -> httpx.Response:
        response = await self._direct.handle_async_request(request)
        response.request = request
        if not stream:
            await response.aread()
        return response


class _GuardedClient(_Client):
    """A client whose guard parses every URL as it was given, before httpx normalises it."""

    def __init__(self, guard: Guard, **more: Any) -> None:
        super().__init__(**more)
        self._guard = guard

    def build_request(self, method: str, url: httpx.URL | str, **more: Any) -> httpx.Request:
        destination = self._guard.admit(str(url))
        headers = {name: value for name, value in (more.pop("headers", None) or {}).items() if name.lower() != "host"}
        headers["Host"] = destination.authority  # httpx would decode the name to build it, and fails for some
        extensions = {TARGET: exact_target(str(destination)), **(more.pop("extensions", None) or {})}
        return super().build_request(method, str(destination), headers=headers, extensions=extensions, **more)


def guarded(
    guard: Guard, *, tls: ssl.SSLContext | None = None, kept: KeptConnections | None = None
) -> httpx.AsyncClient:
    """Open a client for URLs of clients: every connection passes the guard.

    :param tls: the trusted authorities; default: the usual ones
    :param kept: connections that are used again; default: every request has a new one
    """
    transport = SingleTransport(guard=guard, tls=tls or trusting(), kept=kept)
    return _client(transport, functools.partial(_GuardedClient, guard))


def _client(transport: httpx.AsyncBaseTransport, kind: Callable[..., httpx.AsyncClient] = _Client) -> httpx.AsyncClient:
    return kind(
        transport=transport,
        trust_env=False,
        follow_redirects=False,
        timeout=_timeouts(30.0),
    )


def _timeouts(read: float) -> httpx.Timeout:
    return httpx.Timeout(read, connect=CONNECT_TIMEOUT, write=WRITE_TIMEOUT, pool=None)


def build(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    content: bytes | None = None,
    read_timeout: float,
    secret_query: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> httpx.Request:
    """Return a request; nothing is sent.

    :param read_timeout: seconds without a byte
    :param secret_query: a query string that only the upstream gets to see
    :param tls: the authorities that are trusted for this request; default: those of the client
    """
    extensions: dict[str, Any] = {TARGET: exact_target(url)}
    extensions |= {} if secret_query is None else {SECRET_QUERY: secret_query}
    extensions |= {} if tls is None else {TLS: tls}
    return client.build_request(
        method, url, headers=dict(headers), content=content, timeout=_timeouts(read_timeout), extensions=extensions
    )


async def send(
    client: httpx.AsyncClient,
    request: httpx.Request,
    *,
    total_timeout: float | None = None,
    limit: int = MAX_ANSWER,
    heard: Callable[[int, Mapping[str, str], bytes], None] | None = None,
) -> Answer:
    """Send a request and read the answer. Of an answer that breaks off, return the part that came.

    :param total_timeout: seconds for everything
    :param limit: bytes of the body that are read at most, packed or unpacked
    :param heard: is told of the status, the headers and each part of the body when it comes
    :raises AnswerTooLarge: when there are more
    :raises httpx.TransportError: when no status came; see ``NEVER_SENT``
    """
    head: httpx.Response | None = None
    body = bytearray()
    failure: Exception | None = None
    try:
        async with asyncio.timeout(total_timeout):
            head = await client.send(request, stream=True)
            async for chunk in head.aiter_raw():
                body += chunk
                if heard is not None:
                    heard(head.status_code, head.headers, chunk)
                if len(body) > limit:
                    raise AnswerTooLarge(head.status_code, limit)
    except TimeoutError:
        failure = httpx.ReadTimeout(f"no complete answer within {total_timeout:g} s")
    except httpx.TransportError as error:
        failure = error
    finally:
        await _close(head)
    head = _head_or_raise(head, failure)
    codings = [head.headers.get(name, "") for name in ("content-encoding", "transfer-encoding")]
    try:
        unpacked = unpack(bytes(body), codings, limit)
    except TooLarge:
        raise AnswerTooLarge(head.status_code, limit) from None
    return Answer(head.status_code, dict(head.headers), unpacked, failure, private=head.extensions.get(PRIVATE, False))


async def _close(head: httpx.Response | None) -> None:
    if head is not None:
        await head.aclose()
        head.stream = httpx.ByteStream(b"")  # ends a cycle of references that keeps a large request in memory


def _head_or_raise(head: httpx.Response | None, failure: Exception | None) -> httpx.Response:
    """Return the head of an answer; where none came, raise the failure."""
    if head is None:
        assert failure is not None  # noqa: S101 - for the type checker: without a failure there is a head
        raise failure
    return head


async def post_briefly(
    client: httpx.AsyncClient, url: str, *, headers: Mapping[str, str], content: bytes, total_timeout: float, limit: int
) -> Answer:
    """Post a message. Its status is the answer, even if the rest of the answer fails.

    :param total_timeout: seconds for everything; the answer has the data that arrived by then
    :param limit: bytes of the body after which no more is read
    :raises httpx.TransportError: when no status came; see ``NEVER_SENT``
    """
    until = asyncio.get_running_loop().time() + total_timeout
    request = client.build_request(
        "POST",
        url,
        headers=dict(headers),
        content=content,
        timeout=_timeouts(total_timeout),
        extensions={DEADLINE: until},
    )
    head: httpx.Response | None = None
    body = bytearray()
    failure: Exception | None = None
    try:
        # The transport keeps the deadline itself: it returns the data that has arrived by then.
        async with asyncio.timeout_at(until + _GRACE):
            head = await client.send(request, stream=True)
        async with asyncio.timeout_at(until):
            async for chunk in head.aiter_raw():
                body += chunk
                if len(body) >= limit:
                    break
    except (TimeoutError, httpx.ReadTimeout):
        failure = httpx.ReadTimeout(f"no answer within {total_timeout:g} s")
    except Exception as error:  # any exception: after the status it concerns only the body
        if head is None:
            raise
        failure = error
    finally:
        await _close(head)
    head = _head_or_raise(head, failure)
    private = head.extensions.get(PRIVATE, False)
    return Answer(head.status_code, dict(head.headers), bytes(body[:limit]), failure, private=private)
