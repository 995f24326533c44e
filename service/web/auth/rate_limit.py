"""How often a key may ask: a bucket of tokens for each, kept in this process."""

import dataclasses
import math
from typing import Final

WINDOW: Final = 60
"""Seconds in which an empty bucket is full again."""
_POLICY: Final = "per-key"
_ROUNDING: Final = 1e-6


@dataclasses.dataclass(frozen=True, slots=True)
class Allowance:
    """What a key has left after a request."""

    limit: int
    left: int
    full_in: int
    """Seconds until everything is allowed again."""
    wait: int | None
    """Seconds until the next request is allowed, when this one was not."""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Write the fields of the IETF's draft on RateLimit header fields (-08 and later)."""
        return [
            (b"ratelimit-policy", f'"{_POLICY}";q={self.limit};w={WINDOW}'.encode()),
            (b"ratelimit", f'"{_POLICY}";r={self.left};t={self.full_in}'.encode()),
        ]


@dataclasses.dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Rates:
    """Counts requests by key. Only keys that are good are counted, so there are as many buckets as keys."""

    def __init__(self, limit: int) -> None:
        """Give every key a full bucket.

        :param limit: requests a minute, and how many may come at once
        """
        self.limit = limit
        self._buckets: dict[str, _Bucket] = {}

    def take(self, key: str, *, at: float) -> Allowance:
        """Take a token for a request, if there is one.

        :param at: seconds, of any clock; one that goes back gives nothing and takes nothing
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
