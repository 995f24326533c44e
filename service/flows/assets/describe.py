"""Read the width, height and duration of a kept file. A damaged file has none, and costs little time and memory."""

import contextlib
import dataclasses
import io
import struct
from collections.abc import Iterator
from typing import BinaryIO, Final, cast

import imagesize
from tinytag import TinyTag

MAX_READ: Final = 16 * 2**20
"""Bytes that are read of one file."""
MAX_CALLS: Final = 20_000
_MAX_SIDE: Final = 1_000_000
_MAX_SECONDS: Final = 1_000_000.0
_MAX_BOXES: Final = 2_000


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """The facts that a file shows of itself."""

    width: int | None = None
    height: int | None = None
    duration: float | None = None


class _TooMuch(Exception):
    """The file leads its reader on and on."""


class _Bounded(io.RawIOBase):
    """A file of which a bounded part can be read."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._left = MAX_READ
        self._calls = MAX_CALLS
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._count(0)
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def read(self, size: int = -1) -> bytes:
        wanted = self._size - self._at if size < 0 else size
        wanted = max(min(wanted, self._size - self._at), 0)
        self._count(wanted)
        if not wanted:
            return b""
        self._file.seek(self._at)
        found = bytes(self._file.read(wanted))
        self._at += len(found)
        return found

    def _count(self, size: int) -> None:
        self._left -= size
        self._calls -= 1
        if self._left < 0 or self._calls < 0:
            raise _TooMuch


def describe(file: BinaryIO, size: int, media_type: str) -> Facts:
    """Return what a file shows of itself."""
    bounded = _Bounded(file, size)
    kind = media_type.partition("/")[0]
    with contextlib.suppress(Exception):  # a damaged file, or one that no reader knows
        if kind == "image":
            width, height = imagesize.get(io.BytesIO(bounded.read(2**18)))
            return Facts(_side(width), _side(height))
        if media_type in {"video/mp4", "video/quicktime", "audio/mp4"}:
            return _of_boxes(bounded, size)
        if kind == "audio":
            return Facts(duration=_seconds(TinyTag.get(file_obj=cast("BinaryIO", bounded), tags=False).duration))
    return Facts()


def _side(value: float) -> int | None:
    return int(value) if 0 < value <= _MAX_SIDE else None


def _seconds(value: float | None) -> float | None:
    return round(value, 3) if value is not None and 0 < value <= _MAX_SECONDS else None


def _of_boxes(file: _Bounded, size: int) -> Facts:
    """Read an ISO file (MP4, QuickTime): the duration of the film, and the size of its first picture track."""
    duration: float | None = None
    sides: tuple[int | None, int | None] = (None, None)
    for name, start, end in _boxes(file, 0, size, within=frozenset({b"moov", b"trak"})):
        file.seek(start)
        if name == b"mvhd":
            duration = _duration(file.read(min(end - start, 32)))
        elif name == b"tkhd" and sides == (None, None):
            width, height = struct.unpack(">II", file.read(min(end - start, 200))[-8:])
            if width and height:
                sides = _side(width / 65536), _side(height / 65536)
    return Facts(*sides, duration)


def _duration(box: bytes) -> float | None:
    scale, length = struct.unpack(">IQ", box[20:32]) if box[0] == 1 else struct.unpack(">II", box[12:20])
    return _seconds(length / scale)


def _boxes(file: _Bounded, start: int, end: int, *, within: frozenset[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Yield the boxes of a part of a file, and the boxes within some of them."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        file.seek(start)
        length, name = struct.unpack(">I4s", file.read(8))
        head = 8
        if length == 1:
            head, (length,) = 16, struct.unpack(">Q", file.read(8))
        length = length or end - start
        if length < head:
            return
        if name in within:
            yield from _boxes(file, start + head, min(start + length, end), within=within)
        else:
            yield name, start + head, min(start + length, end)
        start += length
