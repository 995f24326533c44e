"""The expiry of a signed URL is read from the URL itself."""

import base64
import datetime as dt
import json

import pytest

from service.domain.task import Result, State, Update
from service.providers.outputs import completed
from service.providers.read import moment
from service.providers.signed_urls import signed_until

BASE = "https://files.example.com/a.mp4"
UNTIL = dt.datetime(2026, 11, 26, 12, tzinfo=dt.UTC)
SECONDS = int(UNTIL.timestamp())


def token(claims):
    parts = ({"alg": "HS256"}, claims)
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + ".sig"


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("X-Amz-Date=20261126T110000Z&X-Amz-Expires=3600&X-Amz-Signature=0f", id="s3"),
        pytest.param("X-Goog-Date=20261126T110000Z&X-Goog-Expires=3600&X-Goog-Signature=0f", id="google"),
        pytest.param("X-Tos-Date=20261125T120000Z&X-Tos-Expires=86400&X-Tos-Signature=0f", id="volcengine"),
        pytest.param("x-oss-date=20261126T110000Z&x-oss-expires=3600", id="alibaba-v4"),
        pytest.param(f"Expires={SECONDS}&Signature=a&Key-Pair-Id=K", id="cloudfront"),
        pytest.param(f"Expires={SECONDS}&OSSAccessKeyId=LTAI&Signature=a", id="alibaba"),
        pytest.param("se=2026-11-26T12%3A00%3A00Z&sp=r&sv=2024-11-04&sig=a", id="azure"),
        pytest.param(f"exp={SECONDS}&sig=a", id="ideogram"),
        pytest.param(f"ex={SECONDS:08x}&is=67000000&hm=ab", id="discord"),
        pytest.param(f"_jwt={token({'key': 1, 'exp': SECONDS})}", id="runway-jwt"),
    ],
)
def test_signed_url_states_its_expiry(query):
    assert signed_until(f"{BASE}?{query}") == UNTIL


@pytest.mark.parametrize(
    "query",
    [
        "",
        f"Expires={SECONDS}",
        f"exp={SECONDS}",
        "Expires=soon&Signature=a",
        "Expires=0&Signature=a",
        "Expires=99999999999999999999999&Signature=a",
        "X-Amz-Date=20261399T990000Z&X-Amz-Expires=3600",
        "X-Amz-Date=20261126T110000Z&X-Amz-Expires=-1",
        "X-Amz-Date=20261126T110000Z&X-Amz-Expires=999999999",
        "X-Amz-Date=20261126T110000Z",
        "se=tomorrow&sig=a",
        "ex=zzzzzzzz&hm=a",
        "token=a.b.c",
        "token=..",
        f"_jwt={token([1])}",
        f"_jwt={token({'exp': {}})}",
        "token=" + "a" * 10_000 + "." + "b" * 10_000,
        "&".join(f"a{number}=1" for number in range(500)),
    ],
)
def test_unsigned_or_odd_url_states_no_expiry(query):
    assert signed_until(f"{BASE}?{query}") is None


@pytest.mark.parametrize(
    "url", [BASE, "data:image/png;base64,AA?Expires=1&Signature=a", "https://[broken/?exp=1&sig=a"]
)
def test_url_without_a_readable_query_states_no_expiry(url):
    assert signed_until(url) is None


def test_expiry_that_the_provider_states_counts_instead_of_the_url():
    stated = UNTIL + dt.timedelta(hours=1)
    results = (
        Result("video", f"{BASE}?exp={SECONDS}&sig=a"),
        Result("video", f"{BASE}?exp={SECONDS}&sig=a", expires_at=stated),
    )
    update = completed(Update(state=State.SUCCEEDED, results=results), "https://gateway.example.com")
    assert [result.expires_at for result in update.results] == [UNTIL, stated]


@pytest.mark.parametrize(
    "value",
    [
        SECONDS,
        str(SECONDS),
        SECONDS * 1000,
        SECONDS + 0.7,
        "2026-11-26T12:00:00Z",
        "2026-11-26 12:00:00",
        "2026-11-26T13:00:00.5+01:00",
    ],
)
def test_time_is_read_in_every_usual_form(value):
    assert moment(value) == UNTIL


@pytest.mark.parametrize(
    "value", [None, True, 0, -5, "", "soon", [], {}, float("nan"), 10**40, "0001-01-01T00:00:00+14:00"]
)
def test_value_that_is_no_time_reads_as_none(value):
    assert moment(value) is None
