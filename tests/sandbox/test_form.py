"""Forms at the sandbox: their fields are read as those of a JSON object are."""

import pytest

from service.http.form import Part, encode
from service.sandbox.form import read_form

FILE = {"file": "a.png", "content_type": "image/png", "size": 3}


@pytest.mark.parametrize(
    ("parts", "fields"),
    [
        ([("prompt", "une pomme, 苹果")], {"prompt": "une pomme, 苹果"}),
        ([("image", ("a.png", b"\x00\xff\n", "image/png"))], {"image": FILE}),
        ([("image[]", ("a.png", b"123", "image/png"))] * 3, {"image[]": [FILE] * 3}),
    ],
    ids=["text", "file", "repeated"],
)
def test_form_is_read(parts: list[tuple[str, Part]], fields: dict[str, object]) -> None:
    content, content_type = encode(parts)
    assert read_form(content_type, content) == fields


@pytest.mark.parametrize("body", [b"", b"{}", b"--x\r\n", b"\xff\x00"])
def test_body_that_is_no_form_is_none(body: bytes) -> None:
    assert read_form("multipart/form-data; boundary=y", body) is None
    assert read_form("multipart/form-data", body) is None
