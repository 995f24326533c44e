"""How a URL from outside is read: into one normal form, so that what is judged is what is connected to."""

import dataclasses
import ipaddress
import re
import unicodedata

from service.http.ssrf.addresses import Address

LONGEST_URL = 2048
DEFAULT_PORTS = {"https": 443, "http": 80}

_URL = re.compile(r"(https?)://([^/?#]*)([^#]*)(#?).*", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]+)(?::(.*))?", re.DOTALL)
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_HIGHEST_PORT = 65535
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LONGEST_NAME = 253


class Unreadable(ValueError):
    """A URL, or the host in it, has no meaning that everybody agrees on; the message says what to write instead."""


@dataclasses.dataclass(frozen=True, slots=True)
class Destination:
    """A URL from outside, in its one normal form."""

    scheme: str
    host: str
    """In lower case, ASCII, without brackets and without a dot at its end."""
    port: int
    target: str
    """Path and query, as given."""
    address: Address | None
    """What the host is, when it is no name."""

    @property
    def authority(self) -> str:
        """Host and port, as they stand in a URL and in the ``Host`` header: the usual port goes without saying."""
        host = f"[{self.host}]" if isinstance(self.address, ipaddress.IPv6Address) else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        """Write the URL."""
        return f"{self.scheme}://{self.authority}{self.target}"


def read_url(url: str) -> Destination:
    """Read a URL from outside.

    :raises Unreadable: when two programs might read it differently, or nothing can be sent there
    """
    if len(url) > LONGEST_URL:
        raise Unreadable(f"is longer than {LONGEST_URL} characters")
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
        raise Unreadable("is not an http(s) URL: its host cannot be told from its port")
    if parts[2] is not None and not (_PORT.fullmatch(parts[2]) and int(parts[2]) <= _HIGHEST_PORT):
        raise Unreadable("has a port that is no number from 1 to 65535")
    host, address = read_host(parts[1])
    port = int(parts[2] or DEFAULT_PORTS[scheme])
    target = form[3] if form[3].startswith("/") else f"/{form[3]}"
    return Destination(scheme=scheme, host=host, port=port, target=target, address=address)


def read_host(host: str) -> tuple[str, Address | None]:
    """Read a host as it stands in a URL: its normal form, and the address that it is, if it is one.

    :raises Unreadable: when two programs might read it differently
    """
    if host.startswith("["):
        return _read_ipv6(host[1:-1])
    if "%" in host:
        raise Unreadable("has percent signs in its host: write the characters themselves")
    labels = host.split(".")
    if len(labels) > 1 and not labels[-1]:  # the dot at the end that says that a name is whole
        labels.pop()
    name = ".".join(map(_read_label, labels))
    if len(name) > _LONGEST_NAME:
        raise Unreadable("has a host name that is longer than 253 characters")
    if not _NUMBER.fullmatch(name.rpartition(".")[2]):
        return name, None
    try:
        return name, ipaddress.IPv4Address(name)
    except ValueError:
        raise Unreadable("has an oddly spelled address as its host: write four numbers from 0 to 255") from None


def _read_ipv6(text: str) -> tuple[str, Address]:
    if "%" in text:
        raise Unreadable("has an address with a zone as its host, which means something on one machine only")
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise Unreadable("has brackets around what is no IPv6 address") from None
    return str(address), address


def _read_label(label: str) -> str:
    read = label.lower() if label.isascii() else _in_ascii(label)
    if not _LABEL.fullmatch(read):
        raise Unreadable("has a host that is no name in the DNS: write it in full, in its ASCII form (xn--…)")
    return read


def _in_ascii(label: str) -> str:
    """Write one part of a name in ASCII (IDNA); empty when it is not in its own normal form, or ASCII in disguise."""
    label = unicodedata.normalize("NFC", label.lower())
    try:
        read = label.encode("idna").decode("ascii")
        agreed = read.startswith("xn--") and read.encode("ascii").decode("idna") == label
    except UnicodeError:
        return ""
    return read if agreed else ""
