"""The exact target of a request: the bytes of the URL as they were given, not as a library would write them."""

from urllib.parse import SplitResult, quote, urlsplit

import httpx

TARGET = "dovecote.target"
"""Extension of a request: its path and query, byte by byte."""
SECRET_QUERY = "dovecote.query"  # noqa: S105 - its name
"""Extension of a request: a query string that is added only on the wire. No log, no exception and no ``repr`` of a request
ever holds it."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


def exact_target(url: str) -> bytes:
    """Return the path and query of a URL as given. Only characters that are not ASCII are percent-encoded."""
    rest = url.partition("://")[2].partition("#")[0]
    start = min((found for found in (rest.find("/"), rest.find("?")) if found >= 0), default=len(rest))
    target = rest[start:]
    return quote(target if target.startswith("/") else f"/{target}", safe=_ASCII).encode("ascii")


_ASCII = "".join(map(chr, range(0x21, 0x7F)))


def is_same_host(base_url: str, url: str) -> bool:
    """Return whether a URL has the scheme, the host and the port of a base URL."""
    parts = _split(url)
    return parts is not None and _place(urlsplit(base_url)) == _place(parts)


def path_below(base_url: str, url: str) -> str | None:
    """Return the path and query of a URL below a base URL; None where it leads to any other place."""
    base, parts = urlsplit(base_url), _split(url)
    start = base.path.rstrip("/")
    if parts is None or _place(base) != _place(parts) or not parts.path.startswith(f"{start}/"):
        return None
    path = parts.path[len(start) :]
    return f"{path}?{parts.query}" if parts.query else path


def _split(url: str) -> SplitResult | None:
    """Return the parts of a URL from outside; None where it is none, such as ``https://[``."""
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _place(parts: SplitResult) -> tuple[str, str | None, int | None]:
    try:
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        port = None
    return parts.scheme, parts.hostname, port


def target_of(request: httpx.Request) -> bytes:
    """Return the target that is sent on the wire."""
    target: bytes = request.extensions.get(TARGET, request.url.raw_path)
    secret: str | None = request.extensions.get(SECRET_QUERY)
    return target if secret is None else b"%b?%b" % (target, secret.encode("ascii"))


def check(request: httpx.Request) -> None:
    """Refuse a request that cannot be sent.

    :raises httpx.UnsupportedProtocol: when its URL is no http(s) URL, or when it has a space or line break where none may be
    """
    if request.url.scheme not in _DEFAULT_PORTS or not request.url.raw_host:
        raise httpx.UnsupportedProtocol("the URL is not an http(s) URL", request=request)
    target = target_of(request)
    fields = [part for field in request.headers.raw for part in field]
    if target.split() != [target] or any(b"\r" in part or b"\n" in part for part in fields):
        raise httpx.UnsupportedProtocol("the request has a line break or a space where none may be", request=request)


def on_the_wire(request: httpx.Request) -> str:
    """Return the URL that a request is really sent to."""
    return f"{request.url.scheme}://{request.url.netloc.decode('ascii')}{target_of(request).decode('ascii')}"


def host_of(request: httpx.Request) -> str:
    """Return the host that is connected to, in ASCII."""
    return request.url.raw_host.decode("ascii")


def port_of(request: httpx.Request) -> int:
    """Return the port that is connected to."""
    return request.url.port or _DEFAULT_PORTS[request.url.scheme]
