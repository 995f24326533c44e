"""Fetch one file from a provider, in pieces, and go on with it where its connection broke."""

import asyncio
import base64
import binascii
import contextlib
import dataclasses
import hashlib
import re
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Final
from urllib.parse import unquote_to_bytes, urljoin

import httpx

from service.domain.errors import UpstreamError
from service.flows.context import Context, Upstream
from service.flows.conversation import authorized_get
from service.http.download import Opened, opened
from service.http.ssrf.guard import ForbiddenAddress, forbidden
from service.http.target import is_same_host, path_below
from service.providers.dialect import Dialect

SILENCE: Final = 30.0
"""Seconds without a byte after which a connection is given up."""
MAX_RESUMES: Final = 20
SLOW_AFTER: Final = 60.0
MIN_RATE: Final = 8 * 1024
"""Bytes a second that a file must have brought on average after :data:`SLOW_AFTER`."""
_MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_GONE: Final = frozenset({401, 403, 404, 410})
"""Statuses of a file that is not there, or whose signed URL has expired. A new file may have them for a moment."""
_HEADERS: Final = {"Accept": "*/*", "Accept-Encoding": "identity"}
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_UNPACKED_AT_ONCE: Final = 2**20
_PARTIAL: Final = 206
_OK: Final = 200


class Unfetchable(Exception):
    """A file could not be fetched. The text names no URL, since it may be signed."""

    def __init__(self, reason: str, *, gone: bool = False, final: bool = False) -> None:
        """Keep the reason.

        :param gone: whether the provider answered that it has no such file
        :param final: whether no further attempt can help
        """
        super().__init__(reason)
        self.reason = reason
        self.gone = gone
        self.final = final


class _Broken(Exception):
    """The answer broke off: the rest may be had by another request."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a file is, and who gave its URL."""

    url: str
    upstream: Upstream | None = None
    dialect: Dialect | None = None

    def is_own(self, url: str) -> bool:
        """Return whether a URL leads to the host of the upstream, which the operator has configured."""
        return self.upstream is not None and is_same_host(self.upstream.settings.base_url, url)

    def own_path(self, url: str) -> str | None:
        """Return the path of a URL below the upstream's base URL; None where it leads to any other place."""
        if self.upstream is None or self.dialect is None:
            return None
        return path_below(self.upstream.settings.base_url, url)


class Download:
    """One attempt to fetch a file. It has several connections where they break."""

    def __init__(self, context: Context, origin: Origin, *, limit: int) -> None:
        """Prepare; :meth:`chunks` fetches.

        :param limit: bytes of the file that are accepted
        """
        self._context = context
        self._origin = origin
        self._limit = limit
        self._received = 0
        self._digest = hashlib.sha256()
        self._validator: str | None = None
        """The ETag or the time of the file, by which another answer is known to be about the same content."""
        self._total: int | None = None

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the file's bytes without compression.

        :raises Unfetchable: when it cannot be had
        """
        if self._origin.url[:5].lower() == "data:":
            yield _of_data_url(self._origin.url)
            return
        began, resumes = self._context.monotonic(), 0
        while True:
            before = self._received
            try:
                async with self._answer(self._origin.url) as answer:
                    async for chunk in self._body(answer):
                        self._received += len(chunk)
                        self._digest.update(chunk)
                        self._require_speed(self._context.monotonic() - began)
                        yield chunk
            except _Broken as broken:
                resumes += 1
                if self._received == before or resumes > MAX_RESUMES:
                    raise Unfetchable(str(broken)) from None
            else:
                return

    def _require_speed(self, seconds: float) -> None:
        if seconds > SLOW_AFTER and self._received < seconds * MIN_RATE:
            raise Unfetchable(f"less than {MIN_RATE} bytes a second arrived")

    @contextlib.asynccontextmanager
    async def _answer(self, url: str) -> AsyncIterator[Opened]:
        """Yield the answer of a file's host, through redirects: each is checked as the URL itself.

        The key goes only to the upstream's own host, where the provider itself named that or its own host led there.
        """
        trusted = self._origin.is_own(url)
        for _ in range(_MAX_REDIRECTS + 1):
            async with contextlib.AsyncExitStack() as stack:
                answer = await self._open(stack, url, trusted=trusted)
                location = answer.headers.get("location")
                if answer.status not in _REDIRECTS or not location:
                    yield answer
                    return
            url = urljoin(url, location)
            trusted = trusted and self._origin.is_own(url)
        raise Unfetchable("it is redirected too often", gone=True)

    async def _open(self, stack: contextlib.AsyncExitStack, url: str, *, trusted: bool) -> Opened:
        """Open one answer. A URL at the upstream's host gets its key below the base URL; every other URL passes the guard."""
        context, upstream, dialect = self._context, self._origin.upstream, self._origin.dialect
        client, tls, headers = context.http.files, None, {**_HEADERS, **self._range()}
        try:
            if trusted and upstream is not None:
                # A pooled connection that broke leaves its buffers in cycles of references, and collections are rare.
                client, tls = context.http.purchases, upstream.tls
                path = self._origin.own_path(url)
                if path is not None and dialect is not None:
                    url, authorized = authorized_get(upstream, dialect, path, now=context.now().timestamp())
                    headers |= authorized
            return await stack.enter_async_context(opened(client, url, headers=headers, read_timeout=SILENCE, tls=tls))
        except ForbiddenAddress as refused:
            raise Unfetchable(str(refused), final=True) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, UpstreamError) as error:
            if (refusal := forbidden(error)) is not None:
                raise Unfetchable(str(refusal), final=True) from None
            raise self._failure(f"no connection ({type(error).__name__})") from None

    def _failure(self, reason: str) -> Exception:
        """Return the failure of a connection: in the middle of a file another one may go on."""
        return _Broken(reason) if self._received else Unfetchable(reason)

    def _range(self) -> dict[str, str]:
        if not self._received or self._validator is None:
            return {}
        return {"Range": f"bytes={self._received}-", "If-Range": self._validator}

    async def _body(self, answer: Opened) -> AsyncIterator[bytes]:
        """Yield the bytes that follow those that were received before."""
        self._require_file(answer)
        skip = 0 if answer.status == _PARTIAL else self._received
        coding = answer.headers.get("content-encoding", "identity").strip().lower() or "identity"
        again, size = hashlib.sha256(), 0
        source = _unpacked(_read(answer), coding)
        async with contextlib.aclosing(source):
            async for chunk in source:
                size += len(chunk)
                known, new = chunk[:skip], chunk[skip:]
                if known:
                    again.update(known)
                    skip -= len(known)
                    if not skip and again.digest() != self._digest.digest():
                        raise Unfetchable("the file changed while it was fetched")
                if new:
                    yield new
        stated = answer.headers.get("content-length", "")
        if skip or (coding == "identity" and stated.isdecimal() and size < int(stated)):
            raise _Broken("the answer ended in the middle of the file")

    def _require_file(self, answer: Opened) -> None:
        """Check the head of an answer, and keep what tells whether another one is about the same file.

        :raises Unfetchable: when it is no file, too large, or another one than before
        """
        status, headers = answer.status, answer.headers
        if status not in {_OK, _PARTIAL} or (status == _PARTIAL and not self._received):
            raise Unfetchable(f"HTTP {status}", gone=status in _GONE)
        validator = headers.get("etag") or headers.get("last-modified")
        strong = None if validator is None or validator.startswith("W/") else validator
        total = _total(headers, status)
        if status == _PARTIAL:
            found = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
            if found is None or int(found[1]) != self._received or strong not in {None, self._validator}:
                self._validator = None  # the next answer begins from the start
                raise _Broken("the answer is another part of the file than was asked for")
        elif "content-encoding" not in headers:
            self._validator = strong
        if total is not None and total > self._limit:
            raise Unfetchable(f"it has {total} bytes, more than the limit of {self._limit}", final=True)


def _total(headers: Mapping[str, str], status: int) -> int | None:
    """Return the size of the whole file, as far as an answer states it."""
    if status == _PARTIAL:
        found = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
        return None if found is None or found[2] == "*" else int(found[2])
    stated = headers.get("content-length", "")
    return int(stated) if stated.isascii() and stated.isdecimal() and "content-encoding" not in headers else None


async def _read(answer: Opened) -> AsyncIterator[bytes]:
    """Yield the body of an answer.

    :raises _Broken: when it breaks off
    """
    try:
        async for chunk in answer.chunks:
            yield chunk
    except httpx.TransportError as error:
        raise _Broken(f"the answer broke off ({type(error).__name__})") from None


async def _unpacked(source: AsyncIterator[bytes], coding: str) -> AsyncGenerator[bytes, None]:
    """Yield a body without its compression, in pieces of a bounded size.

    :raises Unfetchable: for a compression that was not asked for and is not known
    """
    if coding == "identity":
        async for chunk in source:
            yield chunk
        return
    if coding not in {"gzip", "x-gzip", "deflate"}:
        raise Unfetchable(f"it is compressed with {coding[:20]}")
    inflater = zlib.decompressobj(32 + zlib.MAX_WBITS)
    try:
        async for chunk in source:
            packed = chunk
            while packed and not inflater.eof:
                yield inflater.decompress(packed, _UNPACKED_AT_ONCE)
                packed = inflater.unconsumed_tail
                await asyncio.sleep(0)
        yield inflater.flush()
    except zlib.error:
        raise Unfetchable("its compression is damaged") from None
    if not inflater.eof:
        raise _Broken("the answer ended in the middle of the file")


def _of_data_url(url: str) -> bytes:
    head, _, body = url[5:].partition(",")
    try:
        raw = unquote_to_bytes(body)
        return base64.b64decode(raw, validate=False) if head.lower().endswith(";base64") else raw
    except (binascii.Error, ValueError):
        raise Unfetchable("its data URL is damaged", final=True) from None
