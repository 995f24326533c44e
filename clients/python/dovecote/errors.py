"""The exceptions of the client."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, Literal

from dovecote.tasks import Task

TRANSIENT: Final = frozenset({429, 502, 503, 504})
"""HTTP statuses after which the same request may succeed a moment later."""
_QUOTED: Final = 80
"""Characters of a foreign response that an error quotes."""


class DovecoteError(Exception):
    """The base class of every exception that the client raises."""

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed a moment later."""
        return False

    @property
    def retry_after(self) -> float:
        """Seconds after which the server allows the next attempt; 0 if it states none."""
        return 0.0


class ConfigurationError(DovecoteError, ValueError):
    """The URL or the API key is not usable. Nothing was sent."""

    def __init__(self, message: str, variable: Literal["DOVECOTE_URL", "DOVECOTE_API_KEY"]) -> None:
        """Keep the message and the environment variable that holds the value."""
        super().__init__(message)
        self.variable = variable


@dataclasses.dataclass(frozen=True, slots=True)
class FieldError:
    """One mistake in a request."""

    path: str
    """The field, such as ``input.prompt``."""
    message: str


class _ErrorResponse(DovecoteError):
    """A response that is not a success."""

    def __init__(self, status: int, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.status = status
        self._retry_after = retry_after

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed a moment later."""
        return self.status in TRANSIENT

    @property
    def retry_after(self) -> float:
        """Seconds after which the server allows the next attempt; 0 if it states none."""
        return self._retry_after


class Problem(_ErrorResponse):
    """The server refused the request with an RFC 9457 problem."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        title: str = "",
        errors: tuple[FieldError, ...] = (),
        retry_after: float = 0.0,
        document: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep the fields of the problem.

        :param code: stable; base decisions on it
        :param errors: every mistake in the request
        :param document: the whole problem as JSON
        """
        super().__init__(status, f"{code} ({status}): {detail}", retry_after)
        self.code = code
        self.title = title
        self.detail = detail
        self.errors = errors
        self.document: Mapping[str, Any] = document or {}


class UnexpectedResponse(_ErrorResponse):
    """The response is not Dovecote's. A proxy on the way sent it, or another service listens at the URL."""

    def __init__(self, status: int, body: str, *, retry_after: float = 0.0, content_type: str = "") -> None:
        """Keep the status, and quote the beginning of the body."""
        quoted = f"{body[:_QUOTED]!r}{'…' if len(body) > _QUOTED else ''}" if body else "an empty body"
        message = f"HTTP {status} with {quoted} is not a response of Dovecote: check the URL and any proxy"
        super().__init__(status, message, retry_after)
        self.content_type = content_type


class Unreachable(DovecoteError):
    """No response came.

    The server may have carried out the request all the same. With the same idempotency key it does not do so twice.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        """Keep the message.

        :param sent: whether the request may have reached the server; False where no connection was made
        """
        super().__init__(message)
        self.sent = sent

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed a moment later."""
        return True


class WaitTimeout(DovecoteError, TimeoutError):
    """The task has not ended within the timeout. The task itself goes on."""

    def __init__(self, task: Task | None, seconds: float) -> None:
        """Keep the task as it was last seen; None where no response came."""
        known = "its state is unknown" if task is None else f"it is {task.state}: {task.explanation}"
        super().__init__(f"the task has not ended after {seconds:g} s; {known}")
        self.task = task


class InvalidWebhook(DovecoteError):
    """A webhook that Dovecote did not sign, or that is too old. Respond with 401 and do nothing else."""
