"""Forms that are read without the library are read as the library reads them."""

import asyncio
import base64
import random
import threading

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


FIELD = b'--b.-1\r\nContent-Disposition: form-data; name="a"\r\n\r\n%b\r\n--b.-1--'


@pytest.mark.parametrize(
    "charset",
    [
        "punycode",
        "idna",
        "utf-7",
        "unicode_escape",
        "raw_unicode_escape",
        "utf-16",
        "us-ascii",
        "nothing",
        "\x00",
        "hex",
    ],
)
def test_form_in_another_charset_is_refused_before_it_is_read(charset: str) -> None:
    # Python reads 100 kB of punycode for a second, and utf-7 as texts that JSON cannot hold.
    content = bytearray(FIELD % (b"+2AA-" + b"a" * 500_000 + b"-" + b"a" * 500_000))
    with pytest.raises(Problem, match="UTF-8") as refused:
        asyncio.run(body._multipart(f"multipart/form-data; charset={charset}; boundary=b.-1", content))
    assert refused.value.status == 415


@pytest.mark.parametrize("charset", ["utf-8", "UTF8", '"utf-8"'])
def test_form_that_states_the_usual_charset_is_read(charset: str) -> None:
    kind = f"multipart/form-data; charset={charset}; boundary=b.-1"
    assert asyncio.run(body._multipart(kind, bytearray(FIELD % "Möwe".encode()))) == {"a": "Möwe"}


async def test_large_form_is_read_outside_of_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    monkeypatch.setattr(body, "_type_of", lambda *_: threads.append(threading.get_ident()) or "image/png")
    file = b'--b.-1\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n%b\r\n--b.-1--'
    content = bytes(range(256)) * 2048
    read = await body._multipart(KIND, bytearray(file % content))
    assert read == {"f": "data:image/png;base64," + base64.b64encode(content).decode()}
    assert threads != [threading.get_ident()]
