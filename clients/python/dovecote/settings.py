"""The settings of a client: the URL of the server, the API key, and the timeout."""

import dataclasses
import ipaddress
import os
from collections.abc import Mapping
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx

from dovecote.errors import ConfigurationError, Unreachable
from dovecote.protocol import Request, Response
from dovecote.version import __version__

DEFAULT_URL: Final = "http://127.0.0.1:8080"
CONNECT_TIMEOUT: Final = 5.0
TIMEOUT: Final = 30.0

_NEVER_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a client."""

    url: str
    api_key: str | None = dataclasses.field(repr=False)
    timeout: float

    @classmethod
    def resolve(cls, url: str | None, api_key: str | None, timeout: float) -> Self:
        """Return the given settings, completed from the environment.

        :raises ConfigurationError: when the URL or the API key is not usable
        """
        chosen = (url or os.environ.get("DOVECOTE_URL") or DEFAULT_URL).strip().rstrip("/")
        key = (os.environ.get("DOVECOTE_API_KEY", "") if api_key is None else api_key).strip() or None
        if not _is_usable(chosen):
            raise ConfigurationError(
                "the URL of Dovecote must be an http(s) URL without user and password, such as http://127.0.0.1:8080: "
                "check DOVECOTE_URL",
                "DOVECOTE_URL",
            )
        if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
            raise ConfigurationError(
                "the API key contains characters that no API key has: check DOVECOTE_API_KEY", "DOVECOTE_API_KEY"
            )
        return cls(chosen, key, timeout)

    def client_arguments(self) -> dict[str, Any]:
        """Return the arguments of the httpx client. It follows no redirect, so the key goes to this server only."""
        headers = {"User-Agent": f"dovecote-python/{__version__}", "Accept": "application/json"}
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        return {
            "base_url": self.url,
            "headers": headers,
            "follow_redirects": False,
            "trust_env": not _is_loopback(self.url),  # loopback needs no proxy
        }

    def request_arguments(self, request: Request, content: Any = None) -> dict[str, Any]:
        """Return the arguments of a request of the httpx client.

        :param content: the bytes of the file of a request that sends one, as an iterator
        """
        sent = {} if request.file is None else _file_headers(request.file.size)
        return {
            "method": request.method,
            "url": request.path,
            "params": request.params,
            **({"json": request.document} if request.file is None else {"content": content}),
            "headers": {**request.headers, **sent},
            "timeout": httpx.Timeout(self.timeout + request.waits, connect=min(CONNECT_TIMEOUT, self.timeout)),
        }

    def unreachable(self, error: httpx.TransportError) -> Unreachable:
        """Return the exception for a request without a response."""
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if isinstance(error, _NEVER_SENT):
            return Unreachable(f"cannot connect to {self.url} ({reason})", sent=False)
        return Unreachable(f"{self.url} gave no response ({reason})")


def _file_headers(size: int) -> dict[str, str]:
    return {"Content-Type": "application/octet-stream", "Content-Length": str(size)}


def response_of(response: httpx.Response, *, with_body: bool = True) -> Response:
    """Convert a response of httpx.

    :param with_body: False for a response whose body is streamed
    """
    headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
    return Response(response.status_code, headers, response.content if with_body else b"")


def _is_usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return usable and parts.username is None and parts.password is None


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
