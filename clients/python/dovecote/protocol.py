"""Send a request and decide whether to send it again: everything but the network and the clock.

A call to the API is a generator. It yields a :class:`Request` or a :class:`Pause`, receives the outcome, and returns the
result. Both clients run the same generators; they differ only in how they do I/O.
"""

import dataclasses
import json
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from dovecote.errors import DovecoteError, FieldError, Problem, UnexpectedResponse, Unreachable

PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds before each further attempt; the last value repeats."""
RETRY_FOR: Final = 15.0
"""Seconds after which an ordinary call stops trying."""
RETRY_WAITING_FOR: Final = 300.0
"""The same for a call that waits for a task or for events: the server may be restarted meanwhile."""
RETRY_CONNECTING_FOR: Final = 1.0
"""The same while the client cannot connect and the server has never responded to it: probably nothing listens there."""
MAX_RETRY_AFTER: Final = 60.0
_TOO_MANY_REQUESTS: Final = 429


@dataclasses.dataclass(frozen=True, slots=True)
class FileBody:
    """The body of a request that is a file."""

    size: int
    path: Path | None = None
    """Read while it is sent, anew for each attempt."""
    content: bytes = b""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to send."""

    method: str
    path: str
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    document: Any = None
    file: FileBody | None = None
    """In place of a document."""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    waits: float = 0.0
    """Seconds that the server may take in addition to the client's timeout."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pause:
    """A pause before the next request."""

    seconds: float
    reason: DovecoteError | None = None
    """The error of the attempt before; None where the pause is not for a retry."""


@dataclasses.dataclass(frozen=True, slots=True)
class Response:
    """A response of the server."""

    status: int
    headers: Mapping[str, str]
    """The headers, by lower-case name."""
    body: bytes


@dataclasses.dataclass(slots=True)
class Session:
    """The state that the calls of one client share."""

    clock: Callable[[], float]
    """Returns seconds since some fixed moment."""
    retry_for: float = RETRY_FOR
    reached: bool = False
    """Whether the server has ever responded."""


Result = TypeVar("Result")
Call = Generator[Request | Pause, Response | Unreachable | None, Result]


def send(
    session: Session,
    request: Request | Callable[[], Request],
    *,
    retry_for: float | None = None,
    repeatable: bool = True,
) -> Call[Response]:
    """Send a request until a success comes back.

    :param request: or a function that makes it anew for each attempt
    :param retry_for: seconds after which no further attempt is made; default: the session's
    :param repeatable: False where a second execution would do harm: then it is sent again only if the server certainly
        has not executed it
    :raises Problem: when the server refuses the request
    :raises Unreachable: when no response came
    :raises UnexpectedResponse: when something other than Dovecote responded
    """
    limit = session.retry_for if retry_for is None else retry_for
    began = session.clock()
    for pause in pauses():
        outcome = yield request() if callable(request) else request
        if isinstance(outcome, Response):
            session.reached = True
            if 200 <= outcome.status < 300:  # noqa: PLR2004 - the statuses of a success
                return outcome
        error = refusal(outcome) if isinstance(outcome, Response) else outcome or Unreachable("nothing was sent")
        seconds = max(pause, min(error.retry_after, MAX_RETRY_AFTER))
        allowed = error.transient and (repeatable or not _may_be_done(error))
        if nothing_listens(session, error):
            limit = min(limit, RETRY_CONNECTING_FOR)
        if not allowed or session.clock() - began + seconds > limit:
            raise error
        yield Pause(seconds, error)
    raise AssertionError("pauses do not end")


def nothing_listens(session: Session, error: DovecoteError) -> bool:
    """Return whether probably no server is there: no connection was made, and the server has never responded."""
    return isinstance(error, Unreachable) and not error.sent and not session.reached


def pauses() -> Generator[float, None, None]:
    """Yield the seconds before each further attempt, without end."""
    yield from PAUSES
    while True:
        yield PAUSES[-1]


def _may_be_done(error: DovecoteError) -> bool:
    """Return whether the server may have executed the request before the error."""
    if isinstance(error, Unreachable):
        return error.sent
    return not (isinstance(error, Problem) and error.status == _TOO_MANY_REQUESTS)


def read_document(response: Response) -> Any:
    """Parse the body of a success.

    :raises UnexpectedResponse: when it is not JSON
    """
    try:
        return json.loads(response.body)
    except ValueError:
        raise unexpected(response) from None


def refusal(response: Response) -> Problem | UnexpectedResponse:
    """Return the exception for a response that is not a success."""
    retry_after = _seconds(response.headers.get("retry-after", ""))
    try:
        document = json.loads(response.body)
        return Problem(
            response.status,
            document["code"],
            document.get("detail", ""),
            title=document.get("title", ""),
            errors=tuple(FieldError(each["path"], each["message"]) for each in document.get("errors", ())),
            retry_after=retry_after,
            document=document,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return unexpected(response, retry_after=retry_after)


def unexpected(response: Response, *, retry_after: float = 0.0) -> UnexpectedResponse:
    """Return the exception for a response that is not Dovecote's."""
    return UnexpectedResponse(
        response.status,
        response.body[:1000].decode("utf-8", "replace"),
        retry_after=retry_after,
        content_type=response.headers.get("content-type", "").partition(";")[0],
    )


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdecimal() else 0.0
