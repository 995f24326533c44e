"""Parse a URL from a client into one normal form, so that the checked host is the host that is connected to."""

import dataclasses
import ipaddress
import re
import unicodedata

from service.http.ssrf.addresses import Address

MAX_URL = 8192
"""Characters of a URL. Those of outputs are the longest: clients' own are limited by the schemas of requests."""
DEFAULT_PORTS = {"https": 443, "http": 80}

_URL = re.compile(r"(https?)://([^/?#]*)([^#]*)(#?).*", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]+)(?::(.*))?", re.DOTALL)
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_MAX_PORT = 65535
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_MAX_NAME = 253


class Unreadable(ValueError):
    """A URL or its host is ambiguous or invalid. The message contains the remedy."""


@dataclasses.dataclass(frozen=True, slots=True)
class Destination:
    """A URL from a client, in its normal form."""

    scheme: str
    host: str
    """In lower case, ASCII, without brackets and without a trailing dot."""
    port: int
    target: str
    """Path and query, as given."""
    address: Address | None
    """The address, when the host is one."""

    @property
    def authority(self) -> str:
        """Host and port, as in a URL and in the ``Host`` header. The default port is omitted."""
        host = f"[{self.host}]" if isinstance(self.address, ipaddress.IPv6Address) else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        """Return the URL."""
        return f"{self.scheme}://{self.authority}{self.target}"


def read_url(url: str) -> Destination:
    """Parse a URL from a client.

    :raises Unreadable: when two programs might read it differently, or when no request can be sent to it
    """
    if len(url) > MAX_URL:
        raise Unreadable(f"is longer than {MAX_URL} characters")
    if any(each == " " or not each.isprintable() for each in url):
        raise Unreadable("holds a space or an invisible character: percent-encode it, or leave it out")
    if "\\" in url:
        raise Unreadable("holds a backslash, which some read as a slash: write %5C")
    form = _URL.fullmatch(url)
    if form is None or not form[2]:
        raise Unreadable("is not an http(s) URL, such as https://example.com/done")
    if "@" in form[2]:
        raise Unreadable("holds a user or password: put a secret into the path instead")
    if form[4]:
        raise Unreadable("holds a fragment (#…), which is never sent: leave it out")
    scheme, parts = form[1].lower(), _AUTHORITY.fullmatch(form[2])
    if parts is None:
        raise Unreadable("is not an http(s) URL: its host and port cannot be separated")
    if parts[2] is not None and not (_PORT.fullmatch(parts[2]) and int(parts[2]) <= _MAX_PORT):
        raise Unreadable("has a port that is not a number from 1 to 65535")
    host, address = read_host(parts[1])
    port = int(parts[2] or DEFAULT_PORTS[scheme])
    target = form[3] if form[3].startswith("/") else f"/{form[3]}"
    return Destination(scheme=scheme, host=host, port=port, target=target, address=address)


def read_host(host: str) -> tuple[str, Address | None]:
    """Parse the host of a URL. Return its normal form, and the address when it is one.

    :raises Unreadable: when two programs might read it differently
    """
    if host.startswith("["):
        return _read_ipv6(host[1:-1])
    if "%" in host:
        raise Unreadable("has percent signs in its host: write the characters themselves")
    labels = host.split(".")
    if len(labels) > 1 and not labels[-1]:  # the trailing dot of a complete name
        labels.pop()
    name = ".".join(map(_read_label, labels))
    if len(name) > _MAX_NAME:
        raise Unreadable("has a host name that is longer than 253 characters")
    if not _NUMBER.fullmatch(name.rpartition(".")[2]):
        return name, None
    try:
        return name, ipaddress.IPv4Address(name)
    except ValueError:
        raise Unreadable("has an invalid address as its host: write four numbers from 0 to 255") from None


def _read_ipv6(text: str) -> tuple[str, Address]:
    if "%" in text:
        raise Unreadable("has an address with a zone as its host, which means something on one machine only")
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise Unreadable("has brackets around a host that is not an IPv6 address") from None
    return str(address), address


def _read_label(label: str) -> str:
    read = label.lower() if label.isascii() else _in_ascii(label)
    if not _LABEL.fullmatch(read):
        raise Unreadable("has a host that is not a DNS name: write it in full, in its ASCII form (xn--…)")
    return read


def _in_ascii(label: str) -> str:
    """Return one label of a name in ASCII (IDNA), or an empty text when the label is not in its normal form."""
    label = unicodedata.normalize("NFC", label.lower())
    try:
        read = label.encode("idna").decode("ascii")
        agreed = read.startswith("xn--") and read.encode("ascii").decode("idna") == label
    except UnicodeError:
        return ""
    return read if agreed else ""
