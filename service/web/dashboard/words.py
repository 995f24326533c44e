"""Write times, durations, sizes and numbers for people. Pure."""

import datetime as dt
import math
from typing import Final
from uuid import UUID

from service.domain.task import Action
from service.domain.text import one_line, shortened

NARROW: Final = "\N{NO-BREAK SPACE}"
"""Keeps a number and its unit on one line."""
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400
_TEN: Final = 10
_KILO: Final = 1000


def duration(seconds: float) -> str:
    """Return a duration with at most two units, such as ``2 m 31 s``."""
    seconds = max(seconds, 0.0)
    if seconds < 1:
        return _with_unit(f"{seconds:.2g}" if seconds else "0", "s")
    if seconds < _TEN:
        return _with_unit(f"{seconds:.1f}".removesuffix(".0"), "s")
    whole = round(seconds)
    if whole < _MINUTE:
        return _with_unit(whole, "s")
    if whole < _HOUR:
        return _two(whole // _MINUTE, "m", whole % _MINUTE, "s")
    if whole < _DAY:
        return _two(whole // _HOUR, "h", whole % _HOUR // _MINUTE, "m")
    return _two(whole // _DAY, "d", whole % _DAY // _HOUR, "h")


def milliseconds(value: float) -> str:
    """Return a short duration in milliseconds, and a longer one in seconds."""
    return _with_unit(round(value), "ms") if value < _KILO else duration(value / _KILO)


def _with_unit(number: object, unit: str) -> str:
    return f"{number}{NARROW}{unit}"


def _two(larger: int, unit: str, smaller: int, below: str) -> str:
    first = _with_unit(larger, unit)
    return f"{first}{NARROW}{_with_unit(f'{smaller:02}', below)}" if smaller else first


def clock(at: dt.datetime, *, now: dt.datetime) -> str:
    """Return a time in UTC: with the date where it is not today's."""
    if at.date() == now.date():
        return f"{at:%H:%M:%S}"
    return f"{at:%m-%d %H:%M}" if at.year == now.year else f"{at:%Y-%m-%d %H:%M}"


def moment(at: dt.datetime) -> str:
    """Return a time in UTC to the second, with its date."""
    return f"{at:%Y-%m-%d %H:%M:%S}"


def precise(at: dt.datetime) -> str:
    """Return a clock time in UTC to the millisecond."""
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03}"


def remaining(at: dt.datetime, *, now: dt.datetime) -> str:
    """Return how far in the future a time is, or that it is due."""
    seconds = math.ceil((at - now).total_seconds())
    return f"in {duration(seconds)}" if seconds > 0 else "due now"


def size(count: float) -> str:
    """Return a number of bytes."""
    for unit in ("B", "kB", "MB"):
        if count < _KILO:
            return _with_unit(f"{count:.1f}".removesuffix(".0") if count < _TEN else f"{count:.0f}", unit)
        count /= _KILO
    return _with_unit(f"{count:.1f}", "GB")


def number(value: float) -> str:
    """Return a number with separators, and at most two decimals."""
    text = f"{value:,.2f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def count(value: int, *, limit: int | None = None) -> str:
    """Return a count; one above the limit of counting is written with a plus."""
    return f"{limit:,}+" if limit is not None and value > limit else f"{value:,}"


def at_least(value: int, *, complete: bool, limit: int = 10_000) -> str:
    """Return a count; one that may be higher is written with a plus."""
    return count(value, limit=limit) if complete or value > limit or not value else f"{value:,}+"


def short_id(value: UUID | str) -> str:
    """Return the end of an id. Ids of version 7 begin alike."""
    text = str(value)
    return f"{text[:4]}…{text[-8:]}"


def excerpt(text: str, length: int) -> str:
    """Return the beginning of a text on one line."""
    return shortened(one_line(text[: length * 4]), length)


def action_label(action: Action) -> str:
    """Return the label of a follow-up. One of symbols alone, which some fonts lack, gets the name that its id contains."""
    if any(each.isalnum() for each in action.label):
        return action.label
    names = [part for part in action.id.split("::") if part.replace("_", "").isalpha() and part not in {"MJ", "JOB"}]
    return f"{action.label} {names[0].replace('_', ' ').lower()}" if names else action.label
