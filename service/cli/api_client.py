"""Open the Python client for a command, and turn its errors into messages and exit codes."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import click

from dovecote import Client, ConfigurationError, DovecoteError, Page, Problem, UnexpectedResponse, Unreachable
from service.cli import exits
from service.cli.printing import clean, print_json, say

KEY_VARIABLE: Final = "DOVECOTE_API_KEY"
MAX_PAGE: Final = 100
_UNAUTHORIZED: Final = 401
_CLIENT_ERRORS: Final = range(400, 500)


@contextlib.contextmanager
def open_client(url: str, **more: Any) -> Iterator[Client]:
    """Open a client of a server, with the API key of the environment.

    The key is never taken from the command line, where every user of a machine can read it.

    :param more: further arguments of the client
    :raises click.ClickException: in place of every error of the client
    """
    try:
        with Client(url, on_retry=_announce_retry, **more) as client:
            yield client
    except ConfigurationError as error:
        raise unusable(error) from error
    except DovecoteError as error:
        raise failed(error) from error


def collect(load: Callable[..., Page[Any]], limit: int) -> tuple[list[Mapping[str, Any]], str | None]:
    """Load pages until there are enough items, or no more; return their documents and the cursor of the next page."""
    documents: list[Mapping[str, Any]] = []
    cursor: str | None = None
    while True:
        page = load(limit=min(limit - len(documents), MAX_PAGE), cursor=cursor)
        documents += [item.document for item in page.items]
        cursor = page.next
        if cursor is None or len(documents) >= limit:
            return documents, cursor


class RequestFailed(click.ClickException):
    """A request that did not succeed. Each subclass ends the command with an exit code of its own."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Keep an RFC 9457 problem, of the server or of this command."""
        super().__init__(str(document.get("detail") or document.get("title") or ""))
        self.document = document
        context = click.get_current_context(silent=True)
        self._as_json = context is not None and bool(context.params.get("as_json"))

    def show(self, file: Any = None) -> None:
        """Write the problem to standard error: as text, or as JSON where the command prints JSON."""
        if self._as_json:
            print_json(self.document, err=True)
        else:
            click.echo(render_problem(self.document), file=file or sys.stderr)


class Refused(RequestFailed):
    """The server refused the request."""

    exit_code = exits.REFUSED


class Unavailable(RequestFailed):
    """No server responded, or it could not serve the request."""

    exit_code = exits.UNAVAILABLE


class _UnusableKey(click.ClickException):
    exit_code = exits.SETTINGS


def unusable(error: ConfigurationError) -> click.ClickException:
    """Return the exception for a URL or an API key that is not usable."""
    if error.variable == KEY_VARIABLE:
        return _UnusableKey(str(error))
    return click.UsageError(f"{error} or --url")


def failed(error: DovecoteError) -> RequestFailed:
    """Return the exception for an error of the client."""
    if isinstance(error, Problem):
        return (Refused if error.status in _CLIENT_ERRORS else Unavailable)(error.document)
    if isinstance(error, UnexpectedResponse):
        return Unavailable(_problem("Not a response of Dovecote", "not_dovecote", str(error), error.status))
    detail = str(error)
    if isinstance(error, Unreachable) and not error.sent:
        detail += ". Start Dovecote with `dovecote serve`, or name its URL with --url or DOVECOTE_URL"
    return Unavailable(_problem("Dovecote cannot be reached", "unreachable", detail))


def render_problem(document: Mapping[str, Any]) -> str:
    """Return a problem as text: its title, its detail, and one line for each error."""
    status = " ".join(str(document[name]) for name in ("status", "code") if document.get(name))
    lines = [f"Error: {document.get('title') or 'the request failed'}" + (f" ({status})" if status else "")]
    errors = [(str(error.get("path") or "."), str(error.get("message"))) for error in document.get("errors") or ()]
    detail = str(document.get("detail") or "")
    if detail and not (errors and all(message in detail for _, message in errors)):
        lines.append(f"  {detail}")
    width = max((len(path) for path, _ in errors), default=0)
    lines += [f"  {path:<{width}}  {message}" for path, message in errors]
    if document.get("status") == _UNAUTHORIZED:
        is_set = bool(os.environ.get(KEY_VARIABLE, "").strip())
        lines.append(
            f"  The command sent the API key of {KEY_VARIABLE}."
            if is_set
            else f"  The command sent no API key: put one into {KEY_VARIABLE}."
        )
    return clean("\n".join(lines))


def _announce_retry(error: DovecoteError, seconds: float) -> None:
    title = error.title if isinstance(error, Problem) else str(error)
    say(f"{title}; trying again in {seconds:g} s")


def _problem(title: str, code: str, detail: str, status: int | None = None) -> dict[str, Any]:
    return {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail}
