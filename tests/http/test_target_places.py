"""Which URLs are below an upstream's base URL: only these get its key."""

import pytest

from service.http.target import is_same_host, path_below

BASE = "https://gateway.test/api/"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://gateway.test/api/v1/videos/1/content?variant=a", "/v1/videos/1/content?variant=a"),
        ("https://gateway.test:443/api/x", "/x"),
        ("https://GATEWAY.test/api/x", "/x"),
        ("https://gateway.test/apis/x", None),
        ("https://gateway.test/x", None),
        ("https://gateway.test:8443/api/x", None),
        ("https://gateway.test:99999/api/x", None),
        ("http://gateway.test/api/x", None),
        ("https://gateway.test.evil.test/api/x", None),
        ("https://gateway.test@evil.test/api/x", None),
        ("https://[", None),
        ("https://[::1/api/x", None),
    ],
)
def test_path_below_a_base_url_is_found(url: str, path: str | None) -> None:
    assert path_below(BASE, url) == path


def test_host_is_the_same_by_scheme_name_and_port() -> None:
    assert is_same_host(BASE, "https://gateway.test/elsewhere")
    assert not is_same_host(BASE, "http://gateway.test/api/x")
    assert not is_same_host(BASE, "https://[")
