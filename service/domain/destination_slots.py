"""Share the concurrent deliveries of webhook messages among clients, destinations and hosts. Pure.

A bound for each destination alone is no bound, because a client chooses the number of its destinations.
"""

import dataclasses
from collections import Counter
from typing import Final

MAX_DELIVERIES: Final = 200
"""Deliveries that are under way at once in a process."""
PER_CLIENT: Final = MAX_DELIVERIES // 2
"""Deliveries of one client."""
PER_HOST: Final = 20
"""Deliveries of one client to one host."""
PER_DESTINATION: Final = 10
"""Deliveries to one destination: an endpoint, or the origin of a ``callback_url``."""
TROUBLED: Final = 2
"""Deliveries to a destination that timed out last time."""
TROUBLED_PER_HOST: Final = 5
"""Deliveries of one client to a host at which a destination timed out last time."""
TROUBLED_PER_CLIENT: Final = 20
"""Deliveries of one client to all its troubled destinations."""
MAX_TROUBLED_DELIVERIES: Final = 40
"""Deliveries to all troubled destinations of all clients."""
MAX_REMEMBERED: Final = 1000
"""Troubled destinations that are remembered. A forgotten one gets all its slots until it times out again."""


@dataclasses.dataclass(frozen=True, slots=True)
class Destination:
    """The destination of a message, and its client."""

    client: str
    name: str
    """The endpoint, or the origin of a ``callback_url``."""
    host: str
    """The host and port of the URL."""


_Group = tuple[str, ...]


class DestinationSlots:
    """Counts the deliveries of this process that are under way."""

    def __init__(self) -> None:
        """Start with no deliveries."""
        self._running: Counter[_Group] = Counter()
        self._troubled: dict[_Group, None] = {}
        """The troubled destinations and hosts, the longest known first."""

    def copy(self) -> "DestinationSlots":
        """Return a copy. Taking slots from it plans deliveries that have not started."""
        copied = DestinationSlots()
        copied._running, copied._troubled = self._running.copy(), self._troubled.copy()
        return copied

    def of_client(self, client: str) -> int:
        """Return how many deliveries of a client are under way."""
        return self._running[_by_client(client)]

    def is_free(self, destination: Destination) -> bool:
        """Return whether another delivery to a destination may start."""
        name, host = _by_name(destination), _by_host(destination)
        troubled = name in self._troubled
        limits = {
            _ALL: MAX_DELIVERIES,
            _by_client(destination.client): PER_CLIENT,
            host: TROUBLED_PER_HOST if host in self._troubled else PER_HOST,
            name: TROUBLED if troubled else PER_DESTINATION,
        }
        if any(self._running[group] >= limit for group, limit in limits.items()):
            return False
        return not troubled or self._is_free_for_troubled(destination.client)

    def is_easy(self, destination: Destination) -> bool:
        """Return whether less than half of every limit of a destination is in use, and it answered in time."""
        name, host = _by_name(destination), _by_host(destination)
        limits = {
            _ALL: MAX_DELIVERIES,
            _by_client(destination.client): PER_CLIENT,
            host: PER_HOST,
            name: PER_DESTINATION,
        }
        is_troubled = name in self._troubled or host in self._troubled
        return not is_troubled and all(2 * self._running[group] < limit for group, limit in limits.items())

    def free(self, destination: Destination) -> int:
        """Return how many more deliveries to a destination may start, by its own limit."""
        name = _by_name(destination)
        return max((TROUBLED if name in self._troubled else PER_DESTINATION) - self._running[name], 0)

    def try_acquire(self, destination: Destination) -> bool:
        """Acquire a slot; return False when none is free."""
        if not self.is_free(destination):
            return False
        self.acquire(destination)
        return True

    def acquire(self, destination: Destination) -> None:
        """Count a delivery that starts."""
        self._running.update(_groups(destination))

    def release(self, destination: Destination) -> None:
        """Count a delivery that has ended."""
        for group in _groups(destination):
            self._running[group] -= 1
            if self._running[group] <= 0:
                del self._running[group]

    def answered(self, destination: Destination, *, in_time: bool) -> None:
        """Note whether a destination answered in time, with any status."""
        for group in (_by_name(destination), _by_host(destination)):
            self._troubled.pop(group, None)
            if not in_time:
                self._troubled[group] = None
        while len(self._troubled) > MAX_REMEMBERED:
            del self._troubled[next(iter(self._troubled))]

    def is_troubled(self, destination: Destination) -> bool:
        """Return whether a destination timed out last time."""
        return _by_name(destination) in self._troubled

    @property
    def idle(self) -> bool:
        """Whether no delivery is under way."""
        return not self._running

    def _is_free_for_troubled(self, client: str) -> bool:
        """Return whether another delivery to a troubled destination of a client may start."""
        running = Counter(
            {group: count for group, count in self._running.items() if group[0] == "name" and group in self._troubled}
        )
        of_client = sum(count for group, count in running.items() if group[1] == client)
        return of_client < TROUBLED_PER_CLIENT and running.total() < MAX_TROUBLED_DELIVERIES


_ALL: Final[_Group] = ("all",)


def _by_client(client: str) -> _Group:
    return ("client", client)


def _by_host(destination: Destination) -> _Group:
    return ("host", destination.client, destination.host)


def _by_name(destination: Destination) -> _Group:
    return ("name", destination.client, destination.name)


def _groups(destination: Destination) -> list[_Group]:
    """Return every group that a delivery counts in."""
    return [_ALL, _by_client(destination.client), _by_host(destination), _by_name(destination)]
