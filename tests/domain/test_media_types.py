"""The types of files, by their first bytes."""

import pytest

from service.domain.media_types import contradicts, extension, is_inert, served_type, sniff

FILES = {
    "png": (b"\x89PNG\r\n\x1a\n\0\0", "image/png"),
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
    "gif": (b"GIF89a\1\0", "image/gif"),
    "webp": (b"RIFF\x24\0\0\0WEBPVP8 ", "image/webp"),
    "avif": (b"\0\0\0\x1cftypavif", "image/avif"),
    "heic": (b"\0\0\0\x18ftypheic", "image/heic"),
    "bmp": (b"BM\x36\0", "image/bmp"),
    "tiff": (b"II*\0\x08\0", "image/tiff"),
    "svg": (b'\xef\xbb\xbf  <svg xmlns="a">', "image/svg+xml"),
    "svg-xml": (b'<?xml version="1.0"?>\n<!-- x -->\n<svg>', "image/svg+xml"),
    "mp4": (b"\0\0\0\x18ftypisom\0\0\2\0", "video/mp4"),
    "mp42": (b"\0\0\0\x20ftypmp42", "video/mp4"),
    "mov": (b"\0\0\0\x14ftypqt  ", "video/quicktime"),
    "old-mov": (b"\0\0\0\x08wide\0\0\0\0mdat", "video/quicktime"),
    "webm": (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\x82\x84webm", "video/webm"),
    "mkv": (b"\x1a\x45\xdf\xa3\xa3B\x82\x88matroska", "video/x-matroska"),
    "avi": (b"RIFF\0\0\0\0AVI LIST", "video/x-msvideo"),
    "mp3": (b"ID3\4\0\0", "audio/mpeg"),
    "mp3-bare": (b"\xff\xfb\x90\x64", "audio/mpeg"),
    "aac": (b"\xff\xf1\x50\x80", "audio/aac"),
    "m4a": (b"\0\0\0\x1cftypM4A ", "audio/mp4"),
    "wav": (b"RIFF\x24\0\0\0WAVEfmt ", "audio/wav"),
    "ogg": (b"OggS\0\2\0\0vorbis", "audio/ogg"),
    "flac": (b"fLaC\0\0", "audio/flac"),
    "glb": (b"glTF\2\0\0\0", "model/gltf-binary"),
    "zip": (b"PK\3\4\x14\0", "application/zip"),
    "json": (b' {"a": 1}', "application/json"),
    "html": (b"\n<!DOCTYPE html><html>", "text/html"),
    "html-comment": (b"<!-- a --><html>", "text/html"),
    "tag": (b"<p>Expired</p>", "text/html"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>', "text/xml"),
    "text": ("1\n00:00:01,000 → Grüße".encode(), "text/plain"),
    "noise": (b"\x01\x02\x03\x04", "application/octet-stream"),
    "empty": (b"", "application/octet-stream"),
}


@pytest.mark.parametrize(("head", "expected"), FILES.values(), ids=FILES)
def test_type_is_read_from_the_content(head: bytes, expected: str) -> None:
    assert sniff(head) == expected


def test_page_is_no_film_picture_or_sound() -> None:
    for kind in ("video", "image", "audio"):
        for page in ("text/html", "text/xml", "application/json", "text/plain"):
            assert contradicts(kind, page)
        assert not contradicts(kind, "application/octet-stream")
    assert not contradicts("image", "image/svg+xml")
    assert not contradicts("text", "text/html")
    assert not contradicts("json", "application/json")


def test_only_types_without_scripts_are_shown_by_a_browser() -> None:
    for _, found in FILES.values():
        assert is_inert(found) <= (found.partition("/")[0] in {"image", "video", "audio"})
        assert served_type(found) not in {"text/html", "text/xml"}
    assert not is_inert("image/svg+xml")
    assert extension("video/mp4") == "mp4"
    assert extension("application/x-unknown") == "bin"
