"""Width, height and duration of files; a damaged or hostile file has none, and costs little."""

import io
import os
import struct
import time
import wave

import pytest

from service.flows.assets.describe import Facts, describe
from service.sandbox.files import FILES


def described(content: bytes, media_type: str) -> Facts:
    return describe(io.BytesIO(content), len(content), media_type)


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def mvhd(scale: int, length: int) -> bytes:
    return box(b"mvhd", struct.pack(">IIIII", 0, 0, 0, scale, length) + bytes(80))


def tkhd(width: int, height: int) -> bytes:
    return box(b"tkhd", bytes(76) + struct.pack(">II", width << 16, height << 16))


FTYP = box(b"ftyp", b"isom\0\0\2\0")
FILM = (
    FTYP
    + box(b"mdat", bytes(5000))
    + box(b"moov", mvhd(600, 3000) + box(b"trak", tkhd(0, 0)) + box(b"trak", tkhd(1280, 720)))
)


def test_film_has_size_and_duration_wherever_its_index_is() -> None:
    assert described(FILM, "video/mp4") == Facts(1280, 720, 5.0)
    large = FTYP + struct.pack(">I4sQ", 1, b"mdat", 16 + 5000) + bytes(5000) + FILM[len(FTYP) + 5008 :]
    assert described(large, "video/mp4") == Facts(1280, 720, 5.0)


def test_picture_has_a_size() -> None:
    assert described(FILES["png"][1], "image/png") == Facts(192, 108)
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="30" height="20"></svg>'
    assert described(svg, "image/svg+xml") == Facts(30, 20)


def test_sound_has_a_duration() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(2 * 8000 * 3))
    assert described(file.getvalue(), "audio/wav") == Facts(duration=3.0)


ENDLESS = FTYP + box(b"moov", b"")[:4] + b"moov" + struct.pack(">I4s", 8, b"free") * 200_000


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"", "video/mp4"),
        (FILM[:-30], "video/mp4"),
        (struct.pack(">I4s", 2, b"moov") * 100, "video/mp4"),
        (struct.pack(">I4sQ", 1, b"moov", 2**63), "video/mp4"),
        (box(b"moov", mvhd(0, 5)), "video/mp4"),
        (b"\x89PNG\r\n\x1a\n" + b"\xff" * 100, "image/png"),
        (b"\xff\xd8" + b"\xff" * 100_000, "image/jpeg"),
        (b"ID3\4\0\0\x7f\x7f\x7f\x7f", "audio/mpeg"),
        (b"OggS" + os.urandom(5000), "audio/ogg"),
        (b"<svg width='1e999' height='-5'>", "image/svg+xml"),
        (ENDLESS, "video/mp4"),
    ],
    ids=["empty", "cut", "short-box", "huge-box", "no-scale", "png", "jpeg", "mp3", "ogg", "svg", "endless"],
)
def test_damaged_file_has_no_facts_and_costs_little(content: bytes, media_type: str) -> None:
    began = time.process_time()
    found = described(content, media_type)
    assert (found.width, found.height) in {(None, None), (1280, 720)}
    assert time.process_time() - began < 5


@pytest.mark.parametrize("media_type", ["video/mp4", "audio/mpeg", "audio/ogg", "audio/flac", "audio/wav", "image/png"])
def test_random_bytes_are_no_error(media_type: str) -> None:
    for _ in range(20):
        described(os.urandom(3000), media_type)
