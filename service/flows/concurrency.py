"""How many messages may be under way to one destination at once, so that one that hangs does not keep the others'."""

from collections import Counter

EACH = 10
TROUBLED = 2
"""Places of a destination that did not answer in time: until it does, it holds no more than these."""


MOST_TROUBLED = 1000
"""How many of those are remembered: whoever is forgotten has its places again, until it is found out anew."""


class Lanes:
    """Counts what is under way from this process to each destination."""

    def __init__(self) -> None:
        """Start with nothing under way."""
        self._under_way: Counter[str] = Counter()
        self._troubled: set[str] = set()

    def places(self) -> dict[str, int]:
        """Give the places that are left where that is not :data:`EACH`."""
        return {destination: self.room(destination) for destination in {*self._under_way, *self._troubled}}

    def room(self, destination: str) -> int:
        """Say how many more may be under way to a destination."""
        most = TROUBLED if destination in self._troubled else EACH
        return max(most - self._under_way[destination], 0)

    def take(self, destination: str) -> None:
        """Note that one is under way."""
        self._under_way[destination] += 1

    def give(self, destination: str) -> None:
        """Note that one has ended."""
        self._under_way[destination] -= 1
        if self._under_way[destination] <= 0:
            del self._under_way[destination]

    def answered(self, destination: str, *, in_time: bool) -> None:
        """Note whether a destination answered in time, whatever it said."""
        if in_time:
            self._troubled.discard(destination)
        else:
            if len(self._troubled) >= MOST_TROUBLED:
                self._troubled.pop()
            self._troubled.add(destination)
