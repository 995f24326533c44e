"""Where the server is, with which key, and how long to wait for it: what both clients begin with."""

import dataclasses
import ipaddress
import os
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from service.client.conversation import Ask, Reply
from service.client.errors import Unreachable

DEFAULT_URL: Final = "http://127.0.0.1:8080"
CONNECT_TIMEOUT: Final = 5.0
TIMEOUT: Final = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Connection:
    """The settings of a client."""

    url: str
    api_key: str | None = dataclasses.field(repr=False)
    timeout: float

    @classmethod
    def chosen(cls, url: str | None, api_key: str | None, timeout: float) -> "Connection":
        """Take what is given, else what the environment says.

        :raises ValueError: for what is no http(s) URL, or can be no key
        """
        where = (url or os.environ.get("DOVECOTE_URL") or DEFAULT_URL).strip().rstrip("/")
        key = (api_key or os.environ.get("DOVECOTE_API_KEY") or "").strip() or None
        parts = urlsplit(where)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.password:
            raise ValueError("the URL of Dovecote is like http://127.0.0.1:8080, without a user: check DOVECOTE_URL")
        if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
            raise ValueError("the API key holds characters that no key has: check DOVECOTE_API_KEY")
        return cls(where, key, timeout)

    def settings(self) -> dict[str, Any]:
        """Give the settings of an httpx client. The key goes to this server only: no redirect is followed."""
        headers = {"User-Agent": "dovecote-python", "Accept": "application/json"}
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        return {
            "base_url": self.url,
            "headers": headers,
            "follow_redirects": False,
            "trust_env": not _on_this_machine(self.url),  # a proxy is for the way out, not for loopback
        }

    def request(self, ask: Ask) -> dict[str, Any]:
        """Give the arguments of a request."""
        return {
            "method": ask.method,
            "url": ask.path,
            "params": ask.params,
            "json": ask.document,
            "headers": ask.headers,
            "timeout": httpx.Timeout(self.timeout + ask.waits, connect=min(CONNECT_TIMEOUT, self.timeout)),
        }

    def lost(self, error: Exception) -> Unreachable:
        """Say that no answer came."""
        return Unreachable(f"{self.url} gave no answer: {type(error).__name__} {error}".strip())


def reply_of(response: httpx.Response) -> Reply:
    """Read an answer whose body is there."""
    headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, response.content)


def head_of(response: httpx.Response) -> Reply:
    """Read the head of an answer whose body streams."""
    headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, b"")


def _on_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
