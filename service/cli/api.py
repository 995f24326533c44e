"""Asks a running Dovecote by its REST API, and says in words what went wrong."""

import dataclasses
import ipaddress
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self
from urllib.parse import urlsplit

import click
import httpx

from service import __version__
from service.cli import exits
from service.cli.printing import clean, print_json, say

KEY_VARIABLE: Final = "DOVECOTE_API_KEY"
AGAIN: Final = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds before each further try of a request that may be repeated."""

_TRANSIENT: Final = frozenset({502, 503, 504})
_CONNECT_TIMEOUT: Final = 5.0
_READ_TIMEOUT: Final = 30.0
_LONGEST_RETRY_AFTER: Final = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    document: Any


class ApiProblem(click.ClickException):
    """What a server refused, or why none could be asked; ends the command with the code of its kind."""

    def __init__(self, document: Mapping[str, Any], *, transient: bool = False, retry_after: float = 0.0) -> None:
        """Keep an RFC 9457 problem, of the server's or of our own making."""
        super().__init__(str(document.get("detail") or document.get("title") or ""))
        self.document = document
        self.transient = transient
        """Whether the same request may go through a moment later."""
        self.retry_after = retry_after
        context = click.get_current_context(silent=True)
        self._as_json = context is not None and bool(context.params.get("as_json"))

    def show(self, file: Any = None) -> None:
        """Write it to standard error: as text, or as JSON where the command speaks JSON."""
        if self._as_json:
            print_json(self.document, err=True)
        else:
            click.echo(render_problem(self.document), file=file or sys.stderr)


class Refused(ApiProblem):
    """The server refused the request."""

    exit_code = exits.REFUSED


class Unavailable(ApiProblem):
    """There was no server, or it could not answer."""

    exit_code = exits.UNAVAILABLE


class UnusableKey(click.ClickException):
    """The key in the environment cannot be one."""

    exit_code = exits.SETTINGS


def render_problem(document: Mapping[str, Any]) -> str:
    """Write a problem as text: its title, its detail, and each error on a line of its own."""
    status = " ".join(str(document[name]) for name in ("status", "code") if document.get(name))
    lines = [f"Error: {document.get('title') or 'the request failed'}" + (f" ({status})" if status else "")]
    errors = [(str(error.get("path") or "."), str(error.get("message"))) for error in document.get("errors") or ()]
    detail = str(document.get("detail") or "")
    if detail and not (errors and all(message in detail for _, message in errors)):
        lines.append(f"  {detail}")
    width = max((len(path) for path, _ in errors), default=0)
    lines += [f"  {path:<{width}}  {message}" for path, message in errors]
    if document.get("status") == httpx.codes.UNAUTHORIZED:
        lines.append(f"  This command takes its key from {KEY_VARIABLE}.")
    return clean("\n".join(lines))


class Api:
    """A client of one server."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare; nothing is sent yet.

        :param key: API key; it goes to this server only
        :raises click.UsageError: for what is no http(s) URL
        """
        self.url = _checked(url)
        self._pause = pause
        headers = {"User-Agent": f"dovecote/{__version__}", "Accept": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {_sendable(key)}"
        self._client = httpx.Client(
            base_url=self.url,
            headers=headers,
            transport=transport,
            trust_env=not _on_this_machine(self.url),  # a proxy is for the way out, not for loopback
            timeout=httpx.Timeout(_READ_TIMEOUT, connect=_CONNECT_TIMEOUT),
        )

    @classmethod
    def at(cls, url: str) -> Self:
        """Take the key from the environment: it is never on a command line, where every user of a machine sees it."""
        return cls(url, key=os.environ.get(KEY_VARIABLE, "").strip() or None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, params: Mapping[str, Any] | None = None, *, again: Sequence[float] = ()) -> Any:
        """Ask for a document.

        :param params: query; ``wait`` also lengthens our own patience
        :param again: seconds to wait before each further try
        :raises ApiProblem: when there was no answer, or a refusal
        """
        return self.ask("GET", path, params=params, again=again).document

    def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        document: Any = None,
        headers: Mapping[str, str] | None = None,
        again: Sequence[float] = (),
    ) -> Reply:
        """Send a request, and again after a pause when nobody answered: only for what may safely be repeated.

        :raises ApiProblem: when there was no answer, or a refusal
        """
        given = {name: value for name, value in (params or {}).items() if value is not None}
        request = self._client.build_request(method, path, params=given, json=document, headers=dict(headers or {}))
        patience = _READ_TIMEOUT + float(given.get("wait", 0))
        request.extensions["timeout"] = httpx.Timeout(patience, connect=_CONNECT_TIMEOUT).as_dict()
        for seconds in again:
            try:
                return self._send(request)
            except ApiProblem as problem:
                if not problem.transient:
                    raise
                seconds = max(seconds, min(problem.retry_after, _LONGEST_RETRY_AFTER))  # noqa: PLW2901 - what it asked for
                say(f"{problem.document['title']}; trying again in {seconds:g} s")
            self._pause(seconds)
        return self._send(request)

    def _send(self, request: httpx.Request) -> Reply:
        try:
            response = self._client.send(request)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        document = _read(response)
        if response.is_success and document is not None:
            return Reply(response.status_code, response.headers, document)
        raise self._refusal(response, document)

    def _unreachable(self, error: httpx.TransportError) -> ApiProblem:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            detail = (
                f"no Dovecote answers at {self.url} ({error}). "
                "Start one with `dovecote serve`, or say where it is with --url or DOVECOTE_URL"
            )
        else:
            detail = f"{self.url} broke off without an answer ({type(error).__name__}: {error})"
        return Unavailable(_own("Dovecote cannot be reached", "unreachable", detail), transient=True)

    def _refusal(self, response: httpx.Response, document: Any) -> ApiProblem:
        transient = response.status_code in _TRANSIENT
        if not isinstance(document, Mapping) or "title" not in document:
            what = response.headers.get("content-type", "nothing readable").partition(";")[0]
            detail = (
                f"{self.url} answered HTTP {response.status_code} with {what}: is Dovecote there, or something else?"
            )
            document = _own("That is not an answer of Dovecote", "not_dovecote", detail, response.status_code)
            return Unavailable(document, transient=transient)
        kind = Refused if response.is_client_error else Unavailable
        return kind(document, transient=transient, retry_after=_seconds(response))


def _own(title: str, code: str, detail: str, status: int | None = None) -> dict[str, Any]:
    return {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail}


def _read(response: httpx.Response) -> Any:
    try:
        return json.loads(response.content)
    except ValueError:
        return None


def _seconds(response: httpx.Response) -> float:
    given = response.headers.get("retry-after", "")
    return float(given) if given.isdecimal() else 0.0


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        there = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        there = False
    if not there:
        raise click.UsageError(f"{url!r} is not an http(s) URL, such as http://127.0.0.1:8080 (--url or DOVECOTE_URL)")
    if parts.username or parts.password:
        raise click.UsageError(f"the URL holds a user or password: put the key into {KEY_VARIABLE}")
    return url.rstrip("/")


def _sendable(key: str) -> str:
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UnusableKey(f"{KEY_VARIABLE} holds characters that no key has: was something copied with it?")
    return key


def _on_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
