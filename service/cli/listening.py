"""Sockets to listen on, and the number of files that a process may open."""

import contextlib
import errno
import ipaddress
import resource
import socket
from typing import Final

BACKLOG: Final = 2048
MAX_DESCRIPTORS: Final = 1 << 20
_REMEDIES: Final = {
    errno.EADDRINUSE: "stop the program that uses the port, or choose another port",
    errno.EADDRNOTAVAIL: "choose an address of this machine",
    errno.EACCES: "choose a port from 1024 on, or allow this user to listen on lower ones",
}


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. The address ``::`` accepts IPv4 as well, where the system supports that.

    :raises OSError: when the address cannot be used
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, *_, address = next((each for each in found if each[0] == socket.AF_INET), found[0])
    both = family == socket.AF_INET6 and _is_unspecified(host) and socket.has_dualstack_ipv6()
    return socket.create_server(address, family=family, backlog=BACKLOG, dualstack_ipv6=both)


def waiting_connections(listener: socket.socket) -> list[socket.socket]:
    """Accept and return the connections in the backlog of a non-blocking listener, without waiting for another one."""
    accepted: list[socket.socket] = []
    with contextlib.suppress(OSError):  # the backlog is empty, or the process has no descriptor left
        while len(accepted) < BACKLOG:
            accepted.append(listener.accept()[0])
    return accepted


def reason_of(error: OSError) -> str:
    """Return why the address cannot be used, without the address that Python adds."""
    return (error.strerror or str(error)).partition(" (")[0]


def describe(error: OSError, host: str, port: int) -> str:
    """Return why nothing can listen on an address, and what to do."""
    if isinstance(error, socket.gaierror):
        remedy = "check the host name"
    else:
        remedy = _REMEDIES.get(error.errno or 0, "choose another address or port")
    return f"cannot listen on {host}:{port}: {reason_of(error)}: {remedy}"


def raise_descriptor_limit() -> int:
    """Raise the number of files and sockets that this process may open as far as it may, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # some systems allow fewer than they report
            return soft
        return wanted
    return soft


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
