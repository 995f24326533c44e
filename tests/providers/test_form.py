"""Forms: media given as ``data:`` become files, and values become texts."""

import base64

import pytest

from service.providers.form import file, form, is_inline
from service.providers.wire import File

PNG = base64.b64decode("iVBORw0KGgo=")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("data:image/png;base64,iVBORw0KGgo=", File("picture.png", PNG, "image/png")),
        ("DATA:IMAGE/PNG;BASE64,iVBORw0KGgo=", File("picture.png", PNG, "image/png")),
        ("data:image/png;base64,iVBORw0KGgo", File("picture.png", PNG, "image/png")),
        ("data:image/png;base64,iVBO\r\nRw0KGgo=", File("picture.png", PNG, "image/png")),
        ("data:image/png;base64,iVBORw0KGgo%3D", File("picture.png", PNG, "image/png")),
        ("data:image/jpeg;name=x.jpg;base64,/-8=", File("picture.jpg", b"\xff\xef", "image/jpeg")),
        ("data:audio/mpeg;base64,SUQz", File("picture.mp3", b"ID3", "audio/mpeg")),
        ("data:audio/x-m4a;base64,SUQz", File("picture.m4a", b"ID3", "audio/x-m4a")),
        ("data:application/x-nobody-knows;base64,SUQz", File("picture.bin", b"ID3", "application/x-nobody-knows")),
        ("data:,a%20b", File("picture.txt", b"a b", "text/plain")),
        ("data:text/plain;charset=utf-8,a", File("picture.txt", b"a", "text/plain")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_data_url_becomes_a_file(source: str, expected: File) -> None:
    assert is_inline(source)
    assert file(source, "picture") == expected


@pytest.mark.parametrize(
    "source",
    [
        "https://example.com/a.png",
        "",
        "data:",
        "data:image/png;base64,",
        "data:image/png;base64,@@@@",
        "data:image/png;base64,iVBO@@Rw0KGgo=",
        "data:x",
        7,
        None,
    ],
)
def test_other_source_is_no_file(source: str) -> None:
    assert not is_inline(source)


def test_file_of_an_unreadable_source_is_an_error() -> None:
    with pytest.raises(ValueError, match="data: URL"):
        file("https://example.com/a.png", "picture")


def test_values_become_texts_and_lists_are_repeated() -> None:
    one = File("a.png", PNG, "image/png")
    given = {
        "n": 2,
        "speed": 0.5,
        "raw": True,
        "none": None,
        "prompt": "a dove",
        "box": {"x": 1},
        "image[]": [one, one],
        "tags": ["a", 1, None],
    }
    assert form(given) == {
        "n": "2",
        "speed": "0.5",
        "raw": "true",
        "prompt": "a dove",
        "box": '{"x":1}',
        "image[]": [one, one],
        "tags": ["a", "1"],
    }
