"""Bound the connections of a server: those that are idle, of one address and of all, and all that are open.

A connection that waits for a request costs a file descriptor and some memory, and a client can open any number. The oldest
idle ones are closed first, as HTTP allows. What is left of the descriptors is for callbacks, outgoing requests and the database.
"""

import ipaddress
import resource
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Protocol

from service.flows.context import log

RESERVED_DESCRIPTORS: Final = 256
"""File descriptors that connections leave free, for callbacks on their own port, outgoing requests and the database."""
MAX_IDLE: Final = 2_000
"""Idle connections of a server."""
MAX_IDLE_OF_ADDRESS: Final = 500
"""Idle connections of one client address. A proxy keeps fewer."""
GRACE: Final = 2.0
"""Seconds for which a connection may be idle in any case: its request may be on its way."""


class Connection(Protocol):
    """A connection that can be closed."""

    def close_idle(self) -> None:
        """Close it; no request is in progress."""


def connection_limit() -> int:
    """Return how many connections a server may have, by the descriptors of the process."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return 1 << 20
    return max(descriptors - RESERVED_DESCRIPTORS, descriptors // 2)


def source_of(address: object) -> Hashable:
    """Return what counts as one client: an IPv4 address, or the 64 bits of an IPv6 network."""
    try:
        parsed = ipaddress.ip_address(str(address).partition("%")[0])
    except ValueError:
        return str(address)
    if isinstance(parsed, ipaddress.IPv4Address):
        return parsed
    return parsed.ipv4_mapped or int(parsed) >> 64


class Connections:
    """The open connections of a server."""

    def __init__(
        self, limit: int | None = None, *, max_idle: int = MAX_IDLE, max_idle_of_address: int = MAX_IDLE_OF_ADDRESS
    ) -> None:
        """Start without connections.

        :param limit: open connections; default: by the descriptors of the process
        """
        self.limit = connection_limit() if limit is None else limit
        self.max_idle = min(max_idle, self.limit)
        self.max_idle_of_address = min(max_idle_of_address, self.max_idle)
        self._sources: dict[Connection, Hashable] = {}
        self._idle: OrderedDict[Connection, float] = OrderedDict()
        """Since when they are idle, the oldest first."""
        self._idle_of: dict[Hashable, OrderedDict[Connection, None]] = {}
        self._reported = False

    def __len__(self) -> int:
        """Return the number of open connections."""
        return len(self._sources)

    def admit(self, connection: Connection, source: Hashable, now: float) -> bool:
        """Count a new connection, which is idle; return False when there is no room for it."""
        if len(self._sources) >= self.limit:
            self._report("limit of open connections")
            if not self._idle:
                return False
            self._close(next(iter(self._idle)))
        self._sources[connection] = source
        self.set_idle(connection, now)
        return True

    def set_idle(self, connection: Connection, now: float) -> None:
        """Note that a connection waits for a request, and close the oldest that do so if they are too many."""
        source = self._sources.get(connection)
        if source is None:
            return
        self._idle[connection] = now
        of_source = self._idle_of.setdefault(source, OrderedDict())
        of_source[connection] = None
        for idle, most in ((of_source, self.max_idle_of_address), (self._idle, self.max_idle)):
            if len(idle) > most:
                oldest = next(iter(idle))
                if now - self._idle[oldest] > GRACE:
                    self._report("limit of idle connections")
                    self._close(oldest)

    def set_busy(self, connection: Connection) -> None:
        """Note that a connection has a request."""
        if self._idle.pop(connection, None) is None:
            return
        source = self._sources[connection]
        of_source = self._idle_of[source]
        del of_source[connection]
        if not of_source:
            del self._idle_of[source]

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self.set_busy(connection)
        self._sources.pop(connection, None)
        if len(self._sources) < self.limit // 2:
            self._reported = False

    def _close(self, connection: Connection) -> None:
        self.remove(connection)
        connection.close_idle()

    def _report(self, reason: str) -> None:
        if not self._reported:
            self._reported = True
            log.warning(
                "idle connections are closed reason=%s open=%d idle=%d", reason, len(self._sources), len(self._idle)
            )
