"""The files that an order names by URL: a provider fetches them, and refuses an order whose files it cannot have."""

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

import httpx

Fetch = Callable[[str, str, Mapping[str, str]], Awaitable[tuple[int, Mapping[str, str], bytes]]]
"""Sends a request without a body: method, URL and headers. Returns the status, the headers in lower case, and the body."""

_TIMEOUT = 10.0
_MOST = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Fetched:
    """One file of an order, as the provider got it."""

    url: str
    status: int
    content_type: str
    size: int
    sha256: str
    head_size: int
    """The length that the answer to HEAD stated; -1 where it stated none."""
    range_status: int
    """The status of the answer to a request for the first 10 bytes."""

    @property
    def ok(self) -> bool:
        return self.status == httpx.codes.OK and self.size > 0


async def fetch_all(fetch: Fetch, urls: Iterable[str]) -> list[Fetched]:
    """Fetch files as providers do: the length by HEAD, a part, then the whole file."""
    return [await _fetched(fetch, url) for url in urls]


async def _fetched(fetch: Fetch, url: str) -> Fetched:
    try:
        _, head, _ = await fetch("HEAD", url, {})
        range_status, _, part = await fetch("GET", url, {"Range": "bytes=0-9"})
        status, headers, body = await fetch("GET", url, {})
    except (httpx.HTTPError, httpx.InvalidURL):
        return Fetched(url, 0, "", 0, "", -1, 0)
    whole = range_status != httpx.codes.PARTIAL_CONTENT or part == body[:10]
    digest = hashlib.sha256(body).hexdigest()
    stated = int(head.get("content-length", "-1"))
    return Fetched(
        url, status, headers.get("content-type", ""), len(body), digest, stated, range_status if whole else -1
    )


async def fetch_by_http(method: str, url: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
    """Send a request over a socket."""
    async with httpx.AsyncClient(trust_env=False, timeout=_TIMEOUT) as client:
        answer = await client.request(method, url, headers=headers)
        return answer.status_code, answer.headers, answer.content[:_MOST]
