"""Values that are read from any provider's answer: Retry-After."""

import datetime as dt
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.http_dates import MAX_WAIT
from service.providers.wire import Reply

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def stated(value: str, **more: str) -> float | None:
    return Reply(429, {"Retry-After": value, **more}).retry_after


@given(st.integers(0, 10**15))
def test_retry_after_seconds_are_read(seconds: int) -> None:
    assert stated(str(seconds)) == stated(f"  {seconds} ") == Reply(503, {"retry-after": str(seconds)}).retry_after
    assert stated(str(seconds)) == min(float(seconds), MAX_WAIT)


@given(st.integers(-(10**6), 10**6))
def test_retry_after_date_uses_the_senders_clock(seconds: int) -> None:
    until = format_datetime(NOW + dt.timedelta(seconds=seconds), usegmt=True)
    assert stated(until, Date=format_datetime(NOW, usegmt=True)) == max(seconds, 0)


@pytest.mark.parametrize("now", [{}, {"Date": ""}, {"Date": "yesterday"}, {"Date": "Sun, 99 Mar 2026 12:00:00 GMT"}])
def test_retry_after_date_without_date_header_is_ignored(now: dict[str, str]) -> None:
    assert stated(format_datetime(NOW, usegmt=True), **now) is None


@pytest.mark.parametrize(
    ("until", "now"),
    [
        ("Sunday, 01-Mar-26 12:01:00 GMT", "Sun, 01 Mar 2026 12:00:00 GMT"),
        ("Sun Mar  1 12:01:00 2026", "Sun, 01 Mar 2026 12:00:00 GMT"),
        ("Sun, 01 Mar 2026 13:01:00 +0100", "Sun, 01 Mar 2026 12:00:00 -0000"),
    ],
)
def test_obsolete_date_formats_are_read(until: str, now: str) -> None:
    assert stated(until, Date=now) == 60.0


@pytest.mark.parametrize(
    "value", ["", " ", "soon", "-1", "1.5", "1e3", "+5", "0x10", "٣", "²", "1 2", "5s", "Sun, 99 Mar 2026 12:00:00 GMT"]
)
def test_other_retry_after_values_are_ignored(value: str) -> None:
    assert stated(value, Date="Sun, 01 Mar 2026 12:00:00 GMT") is None


@given(st.text(), st.text())
def test_hostile_header_raises_nothing(value: str, date: str) -> None:
    found = stated(value, Date=date)
    assert found is None or found >= 0


def test_missing_header_gives_none() -> None:
    assert Reply(429).retry_after is None
