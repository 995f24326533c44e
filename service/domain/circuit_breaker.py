"""When an upstream is left alone: a circuit breaker for each upstream and dialect. Pure."""

import dataclasses
from datetime import datetime, timedelta
from typing import Literal

FAILURES = 5
"""So many failures within :data:`WINDOW` open the circuit."""
WINDOW = 60.0
OPEN_FOR = 30.0
"""Seconds until one submission may try whether the upstream is back."""

CircuitState = Literal["closed", "open", "half_open", "probing"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """The recent results of submits to one upstream in one dialect."""

    upstream: str
    dialect: str
    failures: tuple[float, ...] = ()
    """Unix seconds of the last failures."""
    opened_at: datetime | None = None
    """Since when it has been open without a break."""
    open_until: datetime | None = None
    probe_until: datetime | None = None
    """Until when the one submission that tries it is waited for."""

    def state(self, now: datetime) -> CircuitState:
        """Return whether submissions may pass: all, none, or one."""
        if self.open_until is None:
            return "closed"
        if now < self.open_until:
            return "open"
        return "probing" if self.probe_until is not None and now < self.probe_until else "half_open"

    def failed(self, now: datetime) -> "Circuit":
        """Return the circuit after a failure: a failed connection, a 5xx or a timeout. A refusal is not a failure."""
        if self.open_until is not None:
            if now < self.open_until:
                return self  # it had been sent before the circuit opened
            return dataclasses.replace(self, open_until=now + timedelta(seconds=OPEN_FOR), probe_until=None)
        at = now.timestamp()
        recent = (*(failure for failure in self.failures if failure > at - WINDOW), at)
        if len(recent) < FAILURES:
            return dataclasses.replace(self, failures=recent)
        return dataclasses.replace(self, failures=(), opened_at=now, open_until=now + timedelta(seconds=OPEN_FOR))

    def answered(self) -> "Circuit":
        """Return the closed circuit after any answer to the probe."""
        return Circuit(upstream=self.upstream, dialect=self.dialect)
