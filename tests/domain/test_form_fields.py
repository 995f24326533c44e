"""Fields of URL-encoded forms, read as the standard library reads them, and with little memory."""

import tracemalloc
from urllib.parse import parse_qsl, quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.form_fields import form_fields

MIB = 1024 * 1024


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=8))
def test_encoded_fields_are_read_back(pairs: list[tuple[str, str]]) -> None:
    body = urlencode(pairs, errors="surrogatepass").encode()
    assert form_fields(body, 10) == parse_qsl(body.decode(), keep_blank_values=True)


@pytest.mark.parametrize(
    "body", ["", "&&", "a", "a=", "=b", "a=b=c", "a=1&a=2", "a+b=c+d", "a=%", "a=%zz&b=%4", "a=%ff", "a;b=1", "%26=%3D"]
)
def test_odd_form_is_read_as_by_the_standard_library(body: str) -> None:
    assert form_fields(body.encode(), 10) == parse_qsl(body, keep_blank_values=True)


@pytest.mark.parametrize("text", ["a=b&c +%_\r\n.é中😀\x00" * 3000, "=\n" * 10_000, "a" * 100 + "\n"])
def test_large_field_is_read_back(text: str) -> None:
    everything = "".join(f"%{byte:02x}" for byte in text.encode())
    assert form_fields(f"x=1&y={everything}".encode(), 10) == [("x", "1"), ("y", text)]
    assert form_fields(f"y={quote(text, safe='')}".encode(), 10) == [("y", text)]


def test_too_many_fields_are_refused() -> None:
    assert len(form_fields(b"a=1&b=2&c=3", 3)) == 3
    with pytest.raises(ValueError, match="more than 2 fields"):
        form_fields(b"a=1&b=2&c=3", 2)


def test_large_field_with_a_damaged_escape_is_refused() -> None:
    with pytest.raises(ValueError, match="%XX"):
        form_fields(b"a=" + b"%41" * 20_000 + b"%4", 3)


def test_many_escapes_take_a_few_times_the_size_of_the_body() -> None:
    body = b"a=" + b"%41" * MIB
    tracemalloc.start()
    try:
        form_fields(body, 3)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * len(body)
