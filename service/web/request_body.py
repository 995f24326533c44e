"""Read request bodies within limits of size, time and memory."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import orjson
from starlette.requests import ClientDisconnect, Request

from service.domain.compression import is_packed
from service.domain.validation import quote
from service.web.problems import Problem, unavailable

MAX_PAUSE: Final = 30.0
"""Seconds between two parts of a body."""
MAX_DURATION: Final = 300.0
"""Seconds for a whole body."""
MIN_RATE: Final = 8 * 1024
"""Bytes in a second, on average, of a body that takes longer: it may be a whole film."""
SMALL: Final = 64 * 1024
"""Bytes of a body that is not counted, and that is parsed in the event loop."""
MAX_WITHOUT_MEDIA: Final = 1024 * 1024
"""Bytes of a body besides the media in it."""
MIN_MEDIA: Final = 4096
"""Characters from which on a text counts as media."""
MAX_TURN: Final = 20.0
"""Seconds that a large body waits for its turn to be parsed."""

_MEDIA: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-\\%"
"""The characters of base64, also as JSON and URLs escape them."""
_MAX_OTHER: Final = 256
"""Other characters in a medium: those of ``data:image/png;base64,`` and the like."""
_MAGIC: Final = 4
"""Bytes by which a compressed body is known."""
_MAX_TEXTS: Final = 200_000


class BodyBudget:
    """Limits the memory of the bodies that a process holds at once, and each client's share of it."""

    def __init__(self, max_body: int, turn: asyncio.Semaphore | None = None) -> None:
        """Start empty.

        :param max_body: bytes of the largest body, of which two fit
        :param turn: held while a large body is processed; others of the process may share it
        """
        self.limit = max(2 * max_body, 64 * 1024 * 1024)
        self.client_limit = self.limit // 2
        self.used = 0
        self._by_client: Counter[str] = Counter()
        self._turns: dict[str, asyncio.Lock] = {}
        self._parsing = turn or asyncio.Semaphore(1)

    @contextlib.contextmanager
    def lease(self, client: str) -> Iterator["Lease"]:
        """Yield a lease of a client, and release its memory at the end."""
        lease = Lease(self, client)
        try:
            yield lease
        finally:
            lease.release()

    def take(self, client: str, size: int) -> None:
        """Count some bytes.

        :raises Problem: 503 when the process or the client holds too many
        """
        if self.used + size > self.limit or self._by_client[client] + size > self.client_limit:
            raise unavailable("too many large bodies are being processed; repeat the request later")
        self.used += size
        self._by_client[client] += size

    def give_back(self, client: str, size: int) -> None:
        """Stop counting some bytes."""
        self.used -= size
        self._by_client[client] -= size
        if not self._by_client[client]:
            del self._by_client[client]

    @contextlib.asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait until no other large body is being processed: first those of the client, then those of all.

        :raises Problem: 503 when that takes too long
        """
        lock = self._turns.setdefault(client, asyncio.Lock())
        async with contextlib.AsyncExitStack() as held:
            try:
                async with asyncio.timeout(MAX_TURN):
                    await held.enter_async_context(lock)
                    await held.enter_async_context(self._parsing)
            except TimeoutError:
                raise unavailable("other large bodies are being processed; repeat the request later") from None
            yield
        if not lock.locked():
            self._turns.pop(client, None)


class Lease:
    """The memory that the bodies of one request occupy."""

    def __init__(self, budget: BodyBudget, client: str) -> None:
        """Start with nothing taken."""
        self._budget = budget
        self._client = client
        self._turn: contextlib.AsyncExitStack | None = None
        self.size = 0

    def grow(self, size: int) -> None:
        """Reserve memory until the lease has some bytes.

        :raises Problem: 503 when there is not enough
        """
        if size > max(self.size, SMALL):
            self._budget.take(self._client, size - self.size)
            self.size = size

    async def wait_for_turn(self) -> None:
        """Wait until no other large body is being processed. The turn ends with the lease.

        :raises Problem: 503 when that takes too long
        """
        if self._turn is None:
            turn = contextlib.AsyncExitStack()
            await turn.enter_async_context(self._budget.turn(self._client))
            self._turn = turn

    async def end_turn(self) -> None:
        """Allow the next large body to be processed."""
        turn, self._turn = self._turn, None
        if turn is not None:
            await turn.aclose()

    def release(self) -> None:
        """Return the memory."""
        self._budget.give_back(self._client, self.size)
        self.size = 0


async def read_body(request: Request, limit: int, lease: Lease | None = None) -> bytearray:
    """Return a request's body.

    :param limit: bytes
    :param lease: counts the bytes
    :raises Problem: 413 when it is larger, as soon as that is known; 408 when it arrives too slowly; 503 when too many
        bodies are being received
    """
    stated = request.headers.get("content-length", "0")
    if stated.isascii() and stated.isdecimal():
        if int(stated[:20]) > limit:
            raise _too_large(limit)
        if lease is not None:
            lease.grow(int(stated))
    body, more = bytearray(), True
    now = asyncio.get_running_loop().time
    end = now() + MAX_DURATION
    try:
        async with asyncio.timeout(MAX_PAUSE) as timeout:
            while more:
                chunk, more = await _next_chunk(request)
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
                if lease is not None:
                    lease.grow(len(body))
                if more:
                    timeout.reschedule(min(now() + MAX_PAUSE, end))
    except TimeoutError:
        detail = f"send the body without pauses over {MAX_PAUSE:.0f} s, within {MAX_DURATION:.0f} s"
        raise Problem(408, "too_slow", detail, headers={"Connection": "close"}) from None
    return body


async def stream_body(request: Request) -> AsyncIterator[bytes]:
    """Yield the parts of a request's body as they arrive. Its size is not limited here.

    :raises Problem: 408 when nothing comes for :data:`MAX_PAUSE`, or after :data:`MAX_DURATION` less than :data:`MIN_RATE`
    :raises ClientDisconnect: when the client goes away before the end
    """
    more, received = True, 0
    now = asyncio.get_running_loop().time
    began = now()
    while more:
        try:
            async with asyncio.timeout(MAX_PAUSE):
                chunk, more = await _next_chunk(request)
        except TimeoutError:
            detail = f"send the body without pauses over {MAX_PAUSE:.0f} s"
            raise Problem(408, "too_slow", detail, headers={"Connection": "close"}) from None
        received, passed = received + len(chunk), now() - began
        if more and passed > MAX_DURATION and received < passed * MIN_RATE:
            detail = f"send the body with at least {MIN_RATE} bytes a second"
            raise Problem(408, "too_slow", detail, headers={"Connection": "close"})
        if chunk:
            yield chunk


async def _next_chunk(request: Request) -> tuple[bytes, bool]:
    """Return the next part of a body, and whether there is more.

    :raises ClientDisconnect: when the client has gone away
    """
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


async def read_json(request: Request, limit: int, lease: Lease) -> Any:
    """Return a parsed JSON body. A large one is parsed outside the event loop, when it is its turn.

    :raises Problem: 408, 413, 415, 503, or 400 with the position of the syntax error
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        stated = quote(kind) if kind else "no type"
        raise Problem(415, "unsupported_media_type", f"send Content-Type: application/json (got {stated})")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        detail = f"send the body without Content-Encoding (got {quote(encoding)})"
        raise Problem(415, "unsupported_media_type", detail, headers={"Accept-Encoding": "identity"})
    body = await read_body(request, limit, lease)
    if len(body) <= SMALL:
        return parse_json(body)
    await lease.wait_for_turn()
    return await asyncio.to_thread(parse_json, body)


def parse_json(body: bytearray) -> Any:
    """Return a parsed JSON body.

    :raises Problem: 400, 413 or 415
    """
    if is_packed(bytes(body[:_MAGIC]), ""):
        raise Problem(415, "unsupported_media_type", "the body is compressed: send it uncompressed")
    if len(body) > MAX_WITHOUT_MEDIA:
        _check_media(body)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem(400, "not_json", str(error)) from None


def _check_media(body: bytearray) -> None:
    """Check that a large body is large because of its media, before it is parsed.

    :raises Problem: 413
    """
    if body.count(b'"') > _MAX_TEXTS:
        raise _without_media()
    rest = 0
    for text in body.split(b'"'):
        if len(text) < MIN_MEDIA or len(text.translate(None, _MEDIA)) > _MAX_OTHER:
            rest += len(text)
            if rest > MAX_WITHOUT_MEDIA:
                raise _without_media()


def _without_media() -> Problem:
    detail = (
        f"a body may have more than {MAX_WITHOUT_MEDIA} bytes only for media, as base64 or data URIs: send less text"
    )
    return Problem(413, "too_large", detail)


def _too_large(limit: int) -> Problem:
    # The rest of the body is not read, so the connection cannot be used again.
    return Problem(413, "too_large", f"send at most {limit} bytes", headers={"Connection": "close"})
