"""The lenient parser of responses. Every oddity is fed at once, byte by byte, and in two parts cut at every place."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.http.response import MAX_FIELD, MAX_FIELDS, MAX_HEAD, BrokenResponse, Response
from tests.support.odd_responses import BODY, CHUNKED, OK, WHOLE, sized


@dataclasses.dataclass(frozen=True)
class Read:
    """The parsed parts of a response."""

    status: int | None
    body: bytes
    complete: bool


def read(data: bytes, pieces: list[bytes] | None = None, *, has_body: bool = True) -> Read:
    response = Response(has_body=has_body)
    body = b""
    try:
        for piece in pieces or [data]:
            response.feed(piece)
            body += response.take_body()
        response.end()
    except BrokenResponse:
        pass
    return Read(response.status, body + response.take_body(), response.complete)


BROKEN: dict[str, tuple[bytes, Read]] = {
    "nothing": (b"", Read(None, b"", complete=False)),
    "no HTTP": (b"220 mail.example.com ESMTP\r\n", Read(None, b"", complete=False)),
    "HTTP/0.9": (b"<html>hello</html>", Read(None, b"", complete=False)),
    "a status that is no number": (b"HTTP/1.1 OK\r\n\r\n", Read(None, b"", complete=False)),
    "a status of four digits": (b"HTTP/1.1 2000 OK\r\n\r\n", Read(None, b"", complete=False)),
    "half a status line": (b"HTTP/1.1 200 O", Read(None, b"", complete=False)),
    "an interim response only": (b"HTTP/1.1 100 Continue\r\n\r\n", Read(None, b"", complete=False)),
    "half of the headers": (OK + b"X-A: b\r\n", Read(200, b"", complete=False)),
    "half of the body": (sized(BODY)[:-4], Read(200, BODY[:-4], complete=False)),
    "half of a chunk": (CHUNKED + b"a\r\n" + BODY[:4], Read(200, BODY[:4], complete=False)),
    "chunks without the last": (CHUNKED + b"a\r\n" + BODY + b"\r\n", Read(200, BODY, complete=False)),
    "a size that is no number": (CHUNKED + b"a\r\n" + BODY + b"\r\nzz\r\n", Read(200, BODY, complete=False)),
    "headers without end": (OK + b"X-A: b\r\n" * (MAX_HEAD // 7), Read(200, b"", complete=False)),
}


@pytest.mark.parametrize("oddity", WHOLE)
def test_odd_response_is_read(oddity: str) -> None:
    data = WHOLE[oddity]
    expected = Read(200, BODY, complete=True)
    assert read(data) == expected
    if len(data) < 2000:
        assert read(data, [bytes([byte]) for byte in data]) == expected
        for cut in range(1, len(data)):
            assert read(data, [data[:cut], data[cut:]]) == expected, cut


@pytest.mark.parametrize("oddity", BROKEN)
def test_broken_response_is_read_as_far_as_possible(oddity: str) -> None:
    data, expected = BROKEN[oddity]
    assert read(data) == expected
    if len(data) < 2000:
        assert read(data, [bytes([byte]) for byte in data]) == expected


@pytest.mark.parametrize("line", [b"HTTP/1.1 204 No\r\n", b"HTTP/1.1 304 Not\r\n", b"HTTP/1.1 101 Switch\r\n"])
def test_status_without_a_body_is_complete_at_once(line: bytes) -> None:
    response = Response()
    response.feed(sized(BODY, line=line))
    assert (response.complete, response.take_body(), response.status) == (True, b"", int(line[9:12]))


def test_response_to_head_has_no_body() -> None:
    response = Response(has_body=False)
    response.feed(OK + b"Content-Length: 10\r\n\r\n")
    assert response.complete


def test_status_is_known_as_soon_as_its_line_is_complete() -> None:
    response = Response()
    response.feed(b"HTTP/1.1 20")
    assert response.status is None
    response.feed(b"1 Created\r\nRetry-After: 5\r\nX-Cut: ha")
    assert (response.status, response.headers_complete) == (201, False)
    assert response.partial_headers() == [(b"Retry-After", b"5")]


def test_fields_are_kept_up_to_their_limits() -> None:
    response = Response()
    fields = (b"X-%d: y" % number for number in range(MAX_FIELDS + 50))
    response.feed(sized(BODY, b"X-Long: " + b"a" * (2 * MAX_FIELD), b"X-A: b\r\n\tc", *fields))
    found = dict(response.headers)
    assert len(response.headers) == MAX_FIELDS
    assert len(found[b"X-Long"]) == MAX_FIELD - len(b"X-Long: ")
    assert found[b"X-A"] == b"b c"


@given(st.binary(max_size=200), st.sampled_from([b"", OK, CHUNKED, OK + b"Content-Length: 9\r\n\r\n"]))
def test_no_bytes_raise_an_undeclared_error(noise: bytes, before: bytes) -> None:
    read(before + noise)
    read(before + noise, [bytes([byte]) for byte in before + noise])
