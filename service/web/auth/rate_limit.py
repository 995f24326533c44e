"""Limit the requests of each key with a token bucket. Each process counts for itself."""

import dataclasses
import math
from typing import Final

WINDOW: Final = 60
"""Seconds in which an empty bucket fills."""
_POLICY: Final = "per-key"
_ROUNDING: Final = 1e-6


@dataclasses.dataclass(frozen=True, slots=True)
class Allowance:
    """The requests that a key has left."""

    limit: int
    left: int
    full_in: int
    """Seconds until the bucket is full."""
    wait: int | None
    """Seconds until the next request is allowed; None when this one was allowed."""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the fields of the IETF draft on RateLimit header fields (-08 and later)."""
        return [
            (b"ratelimit-policy", f'"{_POLICY}";q={self.limit};w={WINDOW}'.encode()),
            (b"ratelimit", f'"{_POLICY}";r={self.left};t={self.full_in}'.encode()),
        ]


@dataclasses.dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class RateLimiter:
    """Counts requests by key. Only valid keys are counted, so there is one bucket for each key at most."""

    def __init__(self, limit: int) -> None:
        """Start with full buckets.

        :param limit: requests a minute, and the size of a burst
        """
        self.limit = limit
        self._buckets: dict[str, _Bucket] = {}

    def take(self, key: str, *, at: float) -> Allowance:
        """Take a token for a request, if there is one.

        :param at: seconds of any clock; a clock that goes back changes nothing
        """
        bucket = self._buckets.setdefault(key, _Bucket(self.limit, at))
        gained = max(at - bucket.at, 0) * self.limit / WINDOW
        bucket.tokens = min(bucket.tokens + gained, self.limit)
        bucket.at = at
        allowed = bucket.tokens > 1 - _ROUNDING
        if allowed:
            bucket.tokens = max(bucket.tokens - 1, 0)
        return Allowance(
            limit=self.limit,
            left=int(bucket.tokens),
            full_in=math.ceil((self.limit - bucket.tokens) * WINDOW / self.limit),
            wait=None if allowed else max(math.ceil((1 - bucket.tokens) * WINDOW / self.limit), 1),
        )
