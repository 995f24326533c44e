"""What each failure of the network means for a purchase and for a question: one table, by exact exception."""

import dataclasses

import httpx

from service.domain.errors import Unavailable, Uncertain, UpstreamError
from service.http.client import AnswerTooLarge


@dataclasses.dataclass(frozen=True, slots=True)
class Meaning:
    """What may be done after a failure of the network."""

    error: type[Exception]
    submit: type[UpstreamError]
    code: str
    meaning: str
    """What happened, in a sentence for the documentation."""
    counts: bool = True
    """Whether the upstream is in trouble, and not this machine. Every uncertain error counts."""

    @property
    def sent(self) -> bool:
        """Whether the request may have arrived."""
        return self.submit is not Unavailable


FAILURES: tuple[Meaning, ...] = (
    # Nothing was sent: these are the transport's promise (http.NEVER_SENT), and no others are.
    Meaning(
        httpx.ConnectError,
        Unavailable,
        "overloaded",
        "no connection: refused, no such host, no route, a TLS handshake or certificate that fails",
    ),
    Meaning(httpx.ConnectTimeout, Unavailable, "overloaded", "no connection, or no TLS handshake, in time"),
    Meaning(httpx.PoolTimeout, Unavailable, "overloaded", "no place for another connection here", counts=False),
    Meaning(httpx.ProxyError, Unavailable, "overloaded", "no connection through a proxy (none is used)", counts=False),
    Meaning(httpx.UnsupportedProtocol, Unavailable, "overloaded", "a base URL to which no connection can be made"),
    # The request may have arrived, whatever broke.
    Meaning(httpx.ReadTimeout, Uncertain, "provider_timeout", "silence, or no complete answer in time"),
    Meaning(httpx.WriteTimeout, Uncertain, "provider_timeout", "the request was not taken off our hands in time"),
    Meaning(httpx.ReadError, Uncertain, "unreadable", "a reset, a broken pipe, no route any more"),
    Meaning(httpx.WriteError, Uncertain, "unreadable", "the connection broke while the request was written"),
    Meaning(httpx.CloseError, Uncertain, "unreadable", "the connection could not be closed in order"),
    Meaning(
        httpx.RemoteProtocolError,
        Uncertain,
        "unreadable",
        "closed without an answer or in the middle of one; or what came is no HTTP",
    ),
    Meaning(httpx.LocalProtocolError, Uncertain, "unreadable", "a request that is no HTTP"),
    Meaning(httpx.DecodingError, Uncertain, "unreadable", "a compressed answer that cannot be unpacked"),
    Meaning(AnswerTooLarge, Uncertain, "unreadable", "an answer of more than 8 MiB, packed or unpacked"),
    # Whatever no row names: the worst is assumed.
    Meaning(Exception, Uncertain, "unreadable", "anything else"),
)
"""The first row that fits decides. A question (a poll, a list, a cancel) is always ``unavailable`` with the same code."""


def meaning_of(error: Exception) -> Meaning:
    """Find the row of a failure."""
    return next(row for row in FAILURES if isinstance(error, row.error))


def named(error: Exception, *, creating: bool, host: str | None) -> UpstreamError:
    """Return the error class of a network failure.

    :param creating: whether the request that failed buys a job
    """
    found = meaning_of(error)
    # Its text holds hosts and reasons, never headers or bodies.
    words = f"{type(error).__name__} {error}".strip()[:300]
    what = f"the request to {host} went out and no usable answer came" if found.sent else f"no connection to {host}"
    return (found.submit if creating else Unavailable)(found.code, f"{what}: {words}", broken=found.counts)
