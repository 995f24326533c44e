"""Forms that are read without the library are read as the library reads them."""

import asyncio
import random

import pytest

from service.web.facades import body
from service.web.problems import Problem

KIND = "multipart/form-data; boundary=b.-1"
PIECES = [
    *(
        b"--b.-1",
        b"\r\n",
        b"--b.-1--",
        b'Content-Disposition: form-data; name="a"',
        b"\r\n\r\n",
        b"value",
        b"--",
        b"\n",
    ),
    *(b'; filename="x"', b"Content-Type: text/plain", b'name="\xc3\xa9"', b"\xff", b"--b.-", b'"', b"\\", b" ", b""),
]
PLAIN = b'--b.-1\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'


def by_the_library(content: bytes) -> object:
    try:
        return asyncio.run(body._multipart(KIND, bytearray(content)))
    except Problem as problem:
        return problem.status


@pytest.mark.parametrize(
    "fields",
    [
        [(b"prompt", b"a dove")],
        [(b"prompt", "eine Möwe 🕊".encode()), (b"seconds", b"8")],
        [(b"a", b""), (b"", b"x")],
        [(b"a[]", b"1"), (b"a[]", b"2"), (b"m[x][y]", b"z")],
        [(b"a", b"1"), (b"a", b"2")],
        [(b"text", b"line\r\nline\n--b\r\n--b.-"), (b"a%22b", b"%0d")],
    ],
    ids=["one", "several", "empty", "nested", "repeated", "lines"],
)
def test_plain_form_is_read_as_the_library_reads_it(fields: list[tuple[bytes, bytes]]) -> None:
    for end in (b"--b.-1--", b"--b.-1--\r\n"):
        content = b"".join(PLAIN % each for each in fields) + end
        found = body._plain_form(KIND, bytearray(content))
        assert found is not None
        assert body._nested(found) == by_the_library(content)


def test_any_bytes_that_are_read_are_read_as_the_library_reads_them() -> None:
    chance, plain = random.Random(7), 0
    for _ in range(1500):
        content = b"".join(chance.choice([PLAIN % (b"a", b"1"), *PIECES]) for _ in range(chance.randrange(1, 7)))
        content = (
            chance.choice([b"", PLAIN % (b"b", b"2")]) + content + chance.choice([b"--b.-1--", b"--b.-1--\r\n", b""])
        )
        found = body._plain_form(KIND, bytearray(content))
        if found is not None:
            plain += 1
            assert body._nested(found) == by_the_library(content), content
    assert plain > 50


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (KIND, b'--b.-1\r\nContent-Disposition: form-data; name="f"; filename="a.png"\r\n\r\nx\r\n--b.-1--'),
        (KIND, b"--b.-1\r\nContent-Type: text/plain\r\n\r\nx\r\n--b.-1--"),
        (KIND, b"".join(PLAIN % (b"f%d" % each, b"x") for each in range(201)) + b"--b.-1--"),
        ("multipart/form-data; charset=x; boundary=b.-1", PLAIN % (b"a", b"1") + b"--b.-1--"),
        (KIND, b"--b.-1--"),
        (KIND, PLAIN % (b"a", b"\xff") + b"--b.-1--"),
    ],
    ids=["file", "type", "too many", "other head", "no part", "no text"],
)
def test_other_forms_are_left_to_the_library(kind: str, content: bytes) -> None:
    assert body._plain_form(kind, bytearray(content)) is None
