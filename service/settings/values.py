"""Checks of single values of the settings. No message repeats a value: it may be a secret."""

import base64
import binascii
import datetime as dt
import ipaddress
import json
import re
import ssl
import unicodedata
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

MIN_API_KEY = 16
MIN_CALLBACK_SECRET = 16
MAX_PORT = 65535
MIN_UPSTREAM_KEY = 8
"""A shorter key would be redacted out of ordinary words."""

_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»"}
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories of control, formatting and separator characters."""


def fault_in(text: str, *, blanks_allowed: bool = False) -> str | None:
    """Return what is wrong with the spelling of a value, or None.

    :param text: the value without blanks at its ends
    :param blanks_allowed: whether it may contain blanks, as a file's path may
    """
    if any(unicodedata.category(each) in _INVISIBLE for each in text):
        return "contains a line break or another invisible character; remove it"
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        return "is enclosed in quotes, which would become part of the value; remove them"
    if not blanks_allowed and any(each.isspace() for each in text):
        return "contains a blank; remove it"
    return None


def check_secret(secret: SecretStr, least: int) -> SecretStr:
    """Return a secret that can stand in an HTTP header and is long enough.

    :raises ValueError: for any other
    """
    text = secret.get_secret_value()
    if not re.fullmatch(r"[\x21-\x7e]*", text):
        raise ValueError(
            "contains characters that no key has: blanks, the dots of an abbreviation (…), or letters beyond ASCII"
        )
    if len(text) < least:
        raise ValueError(f"is shorter than {least} characters")
    return secret


def compact_json(text: str) -> str:
    """Return a JSON object without its blanks, such as a provider's set of public keys; any other text unchanged."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        return json.dumps(json.loads(text), separators=(",", ":"))
    except ValueError:
        return text


def check_webhook_secret(secret: SecretStr) -> SecretStr:
    """Return a secret in the form of Standard Webhooks.

    :raises ValueError: for any other
    """
    form = re.fullmatch(r"whsec_([A-Za-z0-9+/]{32,}={0,2})", secret.get_secret_value())
    try:
        base64.b64decode(form[1] if form else "?", validate=True)
    except binascii.Error:
        raise ValueError('is not of the form whsec_…; try: echo "whsec_$(openssl rand -base64 24)"') from None
    return secret


def parts_of(url: str) -> SplitResult | None:
    """Return the parts of a URL; None where it cannot be split. The library's message would repeat its host, and a password in it."""
    try:
        return urlsplit(url)
    except ValueError:
        return None


def check_http_url(url: str) -> str:
    """Return a URL that paths can be added to, without the slash at its end.

    :raises ValueError: for any other
    """
    parts = parts_of(url)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname or not _has_port(parts):
        raise ValueError("is not an http(s) URL, such as https://dovecote.example.com")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("contains a user, a password, a query or a fragment; remove it")
    if not url.isascii():
        raise ValueError("contains letters beyond ASCII; write the host as xn--… and the path with %-escapes")
    return url.rstrip("/")


_PROJECT = re.compile(r"/v\d+(beta\d+)?/projects/[^/]+/locations/[^/]+$")
"""The version, project and region that end the base URL of an account at Vertex AI."""
_ROUTE = re.compile(r"/(api/v\d+|v\d+|mj(-\w+)?|suno|runway|runwayml)(/|$)", re.IGNORECASE)
"""The routes of gateways, whose pages tell people to try them as a base URL."""


def check_bare_host(url: str) -> str:
    """Return the URL of an API's host, to which every dialect adds its own path.

    :raises ValueError: for any other
    """
    checked = check_http_url(url)
    parts = urlsplit(checked)
    route = _ROUTE.search(_PROJECT.sub("", parts.path))
    if route is not None:
        bare = parts._replace(path=parts.path[: route.start()]).geturl()
        shown = parts.path[route.start() :][:80]
        raise ValueError(f"leave out {shown} and set {bare}: every dialect adds its own path")
    return checked


FOREVER = "forever"
_SPAN = re.compile(r"([1-9][0-9]{0,4})(h|d|w|y)")
_HOURS = {"h": 1, "d": 24, "w": 7 * 24, "y": 365 * 24}


def check_span(text: str) -> str:
    """Return a text that :func:`read_span` can read.

    :raises ValueError: for any other
    """
    if text != FOREVER and not _SPAN.fullmatch(text):
        raise ValueError(f'is not a time such as 12h, 90d, 6w or 1y, and not "{FOREVER}"')
    return text


def read_span(text: str) -> dt.timedelta | None:
    """Return the time that a text states: hours, days, weeks or years; None for ``forever``."""
    found = _SPAN.fullmatch(text)
    return None if found is None else dt.timedelta(hours=int(found[1]) * _HOURS[found[2]])


def check_ca_file(path: Path) -> Path:
    """Return the path of a file that holds CA certificates in PEM format.

    :raises ValueError: for any other
    """
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:  # SSLError is one
        reason = error.strerror if not isinstance(error, ssl.SSLError) else "it holds no certificate in PEM format"
        raise ValueError(f"the file cannot be used: {reason}") from None
    return path


def address_of(text: str) -> tuple[str, int]:
    """Return the host and the port of an address to listen on, such as ``127.0.0.1:9464`` or ``[::1]:9464``.

    :raises ValueError: for any other text
    """
    host, _, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if (
        not bare
        or not port.isascii()
        or not port.isdecimal()
        or int(port) > MAX_PORT
        or (":" in bare) != (bare != host)
    ):
        raise ValueError("is not an address and a port, such as 127.0.0.1:9464 or [::1]:9464")
    return bare, int(port)


def is_loopback(host: str) -> bool:
    """Return whether an address to listen at is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _has_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:  # its message repeats the port, which may be part of a password
        return False
