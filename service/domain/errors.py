"""The errors of upstreams: one class for each thing that may be done next."""

from typing import ClassVar

CODES = frozenset(
    {
        "budget_exceeded",
        "invalid_input",
        "content_policy",
        "insufficient_credit",
        "unauthorized",
        "forbidden",
        "rate_limited",
        "overloaded",
        "not_found",
        "provider_error",
        "provider_timeout",
        "cancelled",
        "unreadable",
        "unknown",
    }
)
"""The closed set of failure and error codes that clients may rely on."""


class UpstreamError(Exception):
    """An upstream did not fulfil a request."""

    outcome: ClassVar[str] = "unavailable"

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        retry_after: float | None = None,
        details: tuple[str, ...] = (),
        broken: bool = False,
    ) -> None:
        """Keep the reason.

        :param code: one of :data:`CODES`
        :param message: the provider's own message, if any
        :param retry_after: seconds of the pause that the upstream requested
        :param details: the faults of the request, if the provider lists them
        :param broken: whether this speaks of an upstream in trouble, and not of one request (a connection that fails, 5xx)
        """
        super().__init__("; ".join([message or code, *details]))
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.details = details
        self.broken = broken


class Refused(UpstreamError):
    """Final for this input: neither retry nor fail over."""

    outcome = "refused"


class AccountProblem(UpstreamError):
    """The account must not or cannot submit, and nothing was created. Alert, and try the next upstream."""

    outcome = "account"


class Unavailable(UpstreamError):
    """Nothing was created: retry after a while, then try the next upstream."""

    outcome = "unavailable"


class NotSent(Unavailable):
    """Nothing was sent: the claim that the call belongs to was too old, or Dovecote stopped before."""

    def __init__(self, reason: str = "not sent in time: the process was paused or overloaded") -> None:
        """Return an error that states that nothing was sent."""
        super().__init__("overloaded", reason)


class Uncertain(UpstreamError):
    """A job may have been created: never send again; reconcile."""

    outcome = "uncertain"


class NotFound(UpstreamError):
    """The provider does not have the job yet, or has deleted it."""

    outcome = "not_found"


class Unreadable(UpstreamError):
    """The answer is not of the expected protocol: HTML, cut off, or another shape."""

    outcome = "unreadable"

    def __init__(self, message: str | None = None) -> None:
        """Store the data that was received instead of an answer."""
        super().__init__("unreadable", message)


class AnotherJob(Unreadable):
    """The answer is about another job than the one asked for: it is no news."""


OUTCOMES: dict[str, type[UpstreamError]] = {
    error.outcome: error for error in (Refused, AccountProblem, Unavailable, Uncertain, NotFound)
}
"""Error class by its name in readings and in the submissions table (``unreadable`` has a constructor of its own)."""
