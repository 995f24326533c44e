"""Dates and waits in HTTP headers: a hostile value never raises."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.http_dates import MAX_WAIT, http_date, retry_after

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
HOSTILE = [
    "Fri, 31 Dec 9999 23:59:59 -2359",
    "Mon, 01 Jan 0001 00:00:00 +2359",
    "Sun, 01 Mar 2026 12:00:00 +99999999",
    "Sun, 01 Mar 99999999999 12:00:00 GMT",
    "9" * 5000,
    "-1",
    "1e309",
    "",
    "\x00",
    "Thu, 01 Jan 1970 00:00:00 " + "9" * 400,
]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("date", [*HOSTILE, "Sun, 01 Mar 2026 12:00:00 GMT"])
def test_hostile_value_reads_as_none_or_as_a_bounded_wait(value, date):
    for now in (None, NOW):
        wait = retry_after({"Retry-After": value, "Date": date}, now=now)
        assert wait is None or 0 <= wait <= MAX_WAIT
        assert wait is None or NOW + dt.timedelta(seconds=wait)
    http_date(value)


@given(st.text(), st.text())
def test_every_text_is_accepted_without_an_error(value, date):
    wait = retry_after({"Retry-After": value, "Date": date}, now=NOW)
    assert wait is None or 0 <= wait <= MAX_WAIT


def test_date_counts_from_now_where_the_answer_has_none():
    assert retry_after({"retry-after": "Sun, 01 Mar 2026 12:01:00 GMT"}, now=NOW) == 60.0
    assert retry_after({"retry-after": "Sun, 01 Mar 2026 12:01:00 GMT"}) is None
