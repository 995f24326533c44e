"""Map each failure of the network to its meaning for a purchase and for a question: one table, by exception."""

import dataclasses

import httpx

from service.domain.errors import Unavailable, Uncertain, UpstreamError
from service.http.client import AnswerTooLarge


@dataclasses.dataclass(frozen=True, slots=True)
class Meaning:
    """The meaning of a failure of the network."""

    error: type[Exception]
    submit: type[UpstreamError]
    code: str
    meaning: str
    """A description of the failure, for the documentation."""
    counts: bool = True
    """Whether the upstream, and not this machine, is in trouble."""

    @property
    def sent(self) -> bool:
        """Whether the request may have arrived."""
        return self.submit is not Unavailable


FAILURES: tuple[Meaning, ...] = (
    # Nothing was sent. The transport guarantees that for these only (``NEVER_SENT``).
    Meaning(
        httpx.ConnectError,
        Unavailable,
        "overloaded",
        "no connection: refused, no such host, no route, a TLS handshake or certificate that fails",
    ),
    Meaning(httpx.ConnectTimeout, Unavailable, "overloaded", "no connection, or no TLS handshake, in time"),
    Meaning(
        httpx.PoolTimeout,
        Unavailable,
        "overloaded",
        "this machine has no resources for another connection",
        counts=False,
    ),
    Meaning(httpx.ProxyError, Unavailable, "overloaded", "no connection through a proxy (none is used)", counts=False),
    Meaning(httpx.UnsupportedProtocol, Unavailable, "overloaded", "a base URL to which no connection can be made"),
    # The request may have arrived.
    Meaning(httpx.ReadTimeout, Uncertain, "provider_timeout", "silence, or no complete answer in time"),
    Meaning(httpx.WriteTimeout, Uncertain, "provider_timeout", "the request was not read in time"),
    Meaning(httpx.ReadError, Uncertain, "unreadable", "a reset, a broken pipe, a lost route"),
    Meaning(httpx.WriteError, Uncertain, "unreadable", "the connection broke while the request was written"),
    Meaning(httpx.CloseError, Uncertain, "unreadable", "the connection could not be closed in order"),
    Meaning(
        httpx.RemoteProtocolError,
        Uncertain,
        "unreadable",
        "closed without an answer or in the middle of one; or the answer is not HTTP",
    ),
    Meaning(httpx.LocalProtocolError, Uncertain, "unreadable", "a request that is not valid HTTP"),
    Meaning(
        AnswerTooLarge, Uncertain, "unreadable", "an answer of more than 8 MiB (of images 32 MiB), packed or unpacked"
    ),
    # Every other failure: the worst is assumed.
    Meaning(Exception, Uncertain, "unreadable", "anything else"),
)
"""The first matching row decides. A question (a poll, a list, a cancel) is always ``unavailable`` with the same code."""


def meaning_of(error: Exception) -> Meaning:
    """Return the row of a failure."""
    return next(row for row in FAILURES if isinstance(error, row.error))


def named(error: Exception, *, creating: bool) -> UpstreamError:
    """Return the error for a failure, by what may be done next. Clients see its text: it names no host of the operator's.

    :param creating: whether the request that failed buys a job
    """
    found = meaning_of(error)
    # The text holds a reason, never a URL, header or body: see http/reasons.py.
    words = f"{type(error).__name__} {error}".strip()[:300]
    what = "the request went out and no usable answer came" if found.sent else "no connection"
    return (found.submit if creating else Unavailable)(found.code, f"{what}: {words}", broken=found.counts)
