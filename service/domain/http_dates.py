"""Dates and waits in HTTP headers. A hostile value reads as none."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_WAIT = 366 * 86_400.0
"""Seconds: the longest wait that is returned. Callers have shorter limits of their own."""
_MAX_HEADER = 100
_MAX_DIGITS = 9


def http_date(text: str) -> datetime | None:
    """Return the date that an HTTP header states; None where it states none."""
    try:
        read = parsedate_to_datetime(text[:_MAX_HEADER])
        aware = read.replace(tzinfo=UTC) if read.tzinfo is None else read
        return aware.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Return the seconds of ``Retry-After``, or None (RFC 9110, 10.2.3).

    :param headers: names in any case
    :param now: the time that a date is counted from where the answer has no ``Date``
    """
    named = {name.lower(): value.strip() for name, value in headers.items()}
    stated = named.get("retry-after", "")[:_MAX_HEADER]
    if stated.isascii() and stated.isdigit():
        return min(float(stated), MAX_WAIT) if len(stated.lstrip("0")) <= _MAX_DIGITS else MAX_WAIT
    until, start = http_date(stated), http_date(named.get("date", "")) or now
    if until is None or start is None:
        return None
    return min(max((until - start).total_seconds(), 0.0), MAX_WAIT)
