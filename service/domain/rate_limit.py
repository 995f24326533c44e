"""So many in a second: what fits now, and when the next one does. Pure."""

import dataclasses
from datetime import datetime, timedelta


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """A rate that may be used up in advance for one second, at least for one (the generic cell rate algorithm)."""

    per_second: float
    slot_at: datetime | None = None
    """When the next one fits, were they spread evenly; None: nothing has been taken yet."""

    @property
    def _interval(self) -> float:
        return 1 / self.per_second

    def _in_advance(self, now: datetime) -> float:
        return 0.0 if self.slot_at is None else max((self.slot_at - now).total_seconds(), 0.0)

    def free(self, now: datetime) -> int:
        """Count how many fit now."""
        in_advance = max(int(self.per_second), 1) * self._interval
        return int((in_advance - self._in_advance(now)) / self._interval + 1e-6)

    def taken(self, now: datetime, count: int = 1) -> "Rate":
        """Return the rate after some requests were taken."""
        ahead = timedelta(seconds=self._in_advance(now) + count * self._interval)
        return dataclasses.replace(self, slot_at=now + ahead)

    def wait(self, now: datetime) -> float:
        """Return the seconds until the next request is allowed."""
        in_advance = max(int(self.per_second), 1) * self._interval
        return max(self._in_advance(now) + self._interval - in_advance, 0.0)
