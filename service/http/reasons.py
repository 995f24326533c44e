"""Describe failures of the network in words of our own: library texts may quote URLs, and URLs may hold secrets."""

import errno
import os
import socket
import ssl
from collections.abc import Iterator

OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors by which this machine, and not the other side, is the reason that there is no connection."""


def reason_of(error: BaseException) -> str:
    """Return what went wrong, without any address, host or URL."""
    if any(isinstance(each, socket.gaierror) for each in _causes(error)):
        # First, because aiohttp's own error wraps it, and has its number as if that were an errno.
        return "the host name does not resolve"
    for each in _causes(error):
        if isinstance(each, ssl.SSLError):
            # aiohttp's own errors are of this class, too, and lack its attributes: the error that they wrap has them.
            if message := getattr(each, "verify_message", None):
                return f"certificate verify failed: {_short(message)}"
            if reason := getattr(each, "reason", None):
                return f"TLS failed: {_short(reason)}"
            continue
        if isinstance(each, OSError) and each.errno is not None:
            return os.strerror(each.errno)
    return type(error).__name__


def is_local(error: BaseException) -> bool:
    """Return whether this machine is the reason of a failure to connect."""
    return any(isinstance(each, OSError) and each.errno in OUT_OF_DESCRIPTORS for each in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and the errors that it wraps, in the ways of aiohttp, of exception groups and of ``from``."""
    while error is not None:
        yield error
        for name in ("os_error", "certificate_error"):
            inner = getattr(error, name, None)
            if isinstance(inner, BaseException):
                yield inner
        yield from getattr(error, "exceptions", ())
        error = error.__cause__


def _short(text: str) -> str:
    return text.split("'", maxsplit=1)[0].strip(" ,.")[:120].lower().replace("_", " ")
