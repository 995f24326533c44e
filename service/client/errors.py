"""What can go wrong, by what one may do next."""

import dataclasses
from typing import Final

from service.client.values import Task

TRANSIENT: Final = frozenset({429, 502, 503, 504})
"""HTTP statuses after which the same request may go through a moment later."""


class DovecoteError(Exception):
    """Anything that this client raises."""

    @property
    def transient(self) -> bool:
        """Whether the same request may go through a moment later."""
        return False

    @property
    def retry_after(self) -> float:
        """Seconds after which the server asks to be asked again."""
        return 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class FieldError:
    """One mistake in a request."""

    path: str
    """Where, such as ``input.prompt``."""
    message: str


class _Answered(DovecoteError):
    """An answer that is no success."""

    def __init__(self, status: int, words: str, retry_after: float) -> None:
        super().__init__(words)
        self.status = status
        self._retry_after = retry_after

    @property
    def transient(self) -> bool:
        """Whether the same request may go through a moment later."""
        return self.status in TRANSIENT

    @property
    def retry_after(self) -> float:
        """Seconds after which the server asks to be asked again."""
        return self._retry_after


class Problem(_Answered):
    """The server refused the request, and says why."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        title: str = "",
        errors: tuple[FieldError, ...] = (),
        retry_after: float = 0.0,
    ) -> None:
        """Keep what it says.

        :param code: stable: decide by it
        :param errors: every mistake in the request
        """
        super().__init__(status, f"{code} ({status}): {detail}", retry_after)
        self.code = code
        self.title = title
        self.detail = detail
        self.errors = errors


class UnexpectedAnswer(_Answered):
    """What answered does not speak Dovecote's language: a proxy on the way, or another service."""

    def __init__(self, status: int, words: str, *, retry_after: float = 0.0) -> None:
        """Keep the status, and some of what was said."""
        super().__init__(status, f"HTTP {status} is no answer of Dovecote: {words}", retry_after)


class Unreachable(DovecoteError):
    """No answer came. What was asked for may have been done all the same; with the same idempotency key it is not done twice."""

    @property
    def transient(self) -> bool:
        """Whether the same request may go through a moment later."""
        return True


class StillOpen(DovecoteError, TimeoutError):
    """The task has not ended in the time that was given. It goes on without you."""

    def __init__(self, task: Task | None, seconds: float) -> None:
        """Keep the task as it was seen last."""
        words = "was not seen" if task is None else f"is {task.state}: {task.explanation}"
        super().__init__(f"after {seconds:g} s the task {words}")
        self.task = task


class NotGenuine(DovecoteError):
    """A webhook that is not Dovecote's, or is too old: answer 401, and do nothing."""
