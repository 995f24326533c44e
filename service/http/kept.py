"""Connections that are kept open after a response, for the next message to the same destination.

A connection of its own for each message costs a handshake, which with TLS takes longer than the message. A kept connection is
used again within a few seconds only, and never by a purchase.
"""

import asyncio
import contextlib
import dataclasses
from collections import defaultdict
from collections.abc import Hashable
from typing import Final, cast

IDLE_SECONDS: Final = 4.0
"""Seconds for which a connection is kept. Servers usually keep it for 5: it is closed here before."""
MAX_AGE: Final = 60.0
"""Seconds after which a connection is not kept any more: the name may lead to other addresses then."""
MAX_KEPT: Final = 256
"""Connections that are kept at most."""
MAX_KEPT_EACH: Final = 16
"""Connections to one destination that are kept at most."""


@dataclasses.dataclass(slots=True, eq=False)
class Connection:
    """An open connection."""

    key: Hashable
    """The destination: scheme, host, port and trusted authorities."""
    transport: asyncio.Transport
    opened_at: float
    """The loop's time."""
    private: bool = False
    """Whether it leads to an address that is not public."""
    timer: asyncio.TimerHandle | None = None


class KeptConnections:
    """The connections that wait for a message, by destination. The one that was used last is used first."""

    def __init__(self) -> None:
        """Keep none yet."""
        self._idle: dict[Hashable, list[Connection]] = defaultdict(list)
        self._count = 0

    def keep(self, connection: Connection) -> None:
        """Keep a connection that has no response to read; close it where there are enough, or where it is old."""
        loop = asyncio.get_running_loop()
        waiting = self._idle[connection.key]
        is_old = loop.time() - connection.opened_at > MAX_AGE
        if is_old or self._count >= MAX_KEPT or len(waiting) >= MAX_KEPT_EACH or connection.transport.is_closing():
            connection.transport.abort()
            self._forget_if_empty(connection.key)
            return
        with contextlib.suppress(RuntimeError):  # it was not paused
            connection.transport.resume_reading()
        connection.transport.set_protocol(_Idle(self, connection))
        connection.timer = loop.call_later(IDLE_SECONDS, self.drop, connection)
        waiting.append(connection)
        self._count += 1

    def take(self, key: Hashable) -> Connection | None:
        """Return an open connection to a destination, or None. The caller sets its protocol."""
        while waiting := self._idle.get(key):
            connection = waiting[-1]
            self._remove(connection)
            if not connection.transport.is_closing():
                return connection
        return None

    def drop(self, connection: Connection) -> None:
        """Close a connection that waits."""
        self._remove(connection)
        connection.transport.abort()

    def close(self) -> None:
        """Close every connection that waits."""
        for connection in [each for waiting in self._idle.values() for each in waiting]:
            self.drop(connection)

    def _remove(self, connection: Connection) -> None:
        if connection in self._idle.get(connection.key, ()):
            self._idle[connection.key].remove(connection)
            self._count -= 1
        if connection.timer is not None:
            connection.timer.cancel()
            connection.timer = None
        self._forget_if_empty(connection.key)

    def _forget_if_empty(self, key: Hashable) -> None:
        if not self._idle.get(key, True):
            del self._idle[key]


class _Idle(asyncio.Protocol):
    """Closes a connection whose server closes it, or sends something without a request."""

    def __init__(self, kept: KeptConnections, connection: Connection) -> None:
        self._kept, self._connection = kept, connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        del data
        self._kept.drop(self._connection)

    def eof_received(self) -> None:
        self._kept.drop(self._connection)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._kept.drop(self._connection)
