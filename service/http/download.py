"""Open an answer whose body is read in pieces, such as a film: it is never whole in memory."""

import contextlib
import dataclasses
import ssl
from collections.abc import AsyncIterator, Mapping

import httpx

from service.http.client import build


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """An answer of which the head has been read."""

    status: int
    headers: Mapping[str, str]
    """By name in lower case."""
    chunks: AsyncIterator[bytes]
    """The body as it arrives, with its compression. It raises ``httpx.TransportError`` where it breaks off."""


@contextlib.asynccontextmanager
async def opened(
    client: httpx.AsyncClient,
    url: str,
    *,
    headers: Mapping[str, str],
    read_timeout: float,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Opened]:
    """Send a GET and yield its answer, without following redirects.

    :param read_timeout: seconds without a byte
    :param tls: the authorities that are trusted for this request; default: those of the client
    :raises httpx.TransportError: when no status came
    :raises ForbiddenAddress: when the client has a guard, and it refuses the URL
    """
    request = build(client, "GET", url, headers=headers, read_timeout=read_timeout, tls=tls)
    response = await client.send(request, stream=True)
    try:
        named = {name.lower(): value for name, value in response.headers.items()}
        yield Opened(response.status_code, named, response.aiter_raw())
    finally:
        await response.aclose()
        response.stream = httpx.ByteStream(b"")  # ends a cycle of references that keeps the buffers in memory
