"""The encoding of a form: a server reads exactly the given values."""

import email
import email.policy

import pytest

from service.http.form import Part, encode


def read(content: bytes, content_type: str) -> list[tuple[str | None, str | None, str, bytes]]:
    """Return the name, file name, type and content of each part, by the standard library's parser."""
    whole = b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + content
    message = email.message_from_bytes(whole, policy=email.policy.HTTP)
    return [
        (
            part.get_param("name", header="content-disposition"),
            part.get_filename(),
            part.get_content_type(),
            part.get_payload(decode=True),
        )
        for part in message.iter_parts()
    ]


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([("model", "m")], id="text"),
        pytest.param([("prompt", "une pomme, 苹果"), ("n", "1")], id="texts beyond ASCII"),
        pytest.param([("image", ("a.png", b"\x89PNG\r\n\x1a\n--\x00\xff", "image/png"))], id="binary file"),
        pytest.param(
            [("image[]", ("a.png", b"1", "image/png")), ("image[]", ("b.png", b"2", "image/png"))], id="repeated"
        ),
        pytest.param([("tag", "a"), ("file", ("t.mp3", b"ID3", "audio/mpeg")), ("tag", "b")], id="mixed"),
    ],
)
def test_parts_are_read_back_in_order(parts: list[tuple[str, Part]]) -> None:
    expected = [
        (name, None, "text/plain", part.encode()) if isinstance(part, str) else (name, part[0], part[2], part[1])
        for name, part in parts
    ]
    assert read(*encode(parts)) == expected


def test_boundary_differs_from_form_to_form() -> None:
    assert encode([("a", "b")])[1] != encode([("a", "b")])[1]
