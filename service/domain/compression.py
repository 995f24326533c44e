"""Unpack compressed bodies, independent of their headers, and never beyond a limit."""

import sys
import zlib
from collections.abc import Callable, Sequence
from typing import Final

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_LAYERS: Final = 3
"""Codings that are removed one after the other."""

_GZIP: Final = b"\x1f\x8b\x08"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_ZLIB_METHOD: Final = 8
_ZLIB_LARGEST_WINDOW: Final = 7
_ZLIB_CHECK: Final = 31
_ZLIB_DICTIONARY: Final = 0x20
_MAX_MEMBERS: Final = 1000
_ALIASES: Final = {"x-gzip": "gzip", "zlib": "deflate", "x-deflate": "deflate", "brotli": "br"}


class TooLarge(Exception):
    """The unpacked body is larger than its limit."""

    def __init__(self, limit: int) -> None:
        """Return the limit."""
        super().__init__(f"more than {limit} bytes")


def unpack(body: bytes, codings: Sequence[str], limit: int) -> bytes:
    """Return a body without its compression.

    The first bytes decide, because headers are often missing or wrong. A coding that they do not show (``br``, raw ``deflate``)
    is tried when it is named. A body that cannot be unpacked is returned as it is, and one that is cut is unpacked as far as
    it goes.

    :param codings: the values of ``Content-Encoding`` and ``Transfer-Encoding``
    :raises TooLarge: when there are more bytes than the limit, packed or unpacked
    """
    named = [name for value in codings for each in value.lower().split(",") if (name := _name(each)) in _UNPACK]
    for _ in range(MAX_LAYERS):
        if len(body) > limit:
            raise TooLarge(limit)
        coding: str | None = _shown(body) or (named[-1] if named else None)
        if coding is None:
            return body
        if coding in named:
            named.remove(coding)
        unpacked = _UNPACK[coding](body, limit)
        if unpacked is None:
            return body
        body = unpacked
    if len(body) > limit:
        raise TooLarge(limit)
    return body


def is_packed(body: bytes, coding: str) -> bool:
    """Return whether a body is compressed, by its first bytes or by its ``Content-Encoding``."""
    return _shown(body) is not None or _name(coding.lower()) in _UNPACK


def _name(coding: str) -> str:
    return _ALIASES.get(coding.strip(), coding.strip())


def _shown(body: bytes) -> str | None:
    """Return the coding that the first bytes show."""
    if body.startswith(_GZIP):
        return "gzip"
    if body.startswith(_ZSTD):
        return "zstd"
    return "deflate" if _is_zlib(body) else None


def _is_zlib(body: bytes) -> bool:
    """Return whether the first two bytes are those of zlib: a method, a window of any size, and a check, with no dictionary.

    Two letters can be such bytes, too: ``x^`` is the only such pair that is taken for zlib.
    """
    if len(body) < 2:  # noqa: PLR2004 - the two bytes
        return False
    first, second = body[0], body[1]
    known = first & 15 == _ZLIB_METHOD and first >> 4 <= _ZLIB_LARGEST_WINDOW and not second & _ZLIB_DICTIONARY
    printable = body[:2].isascii() and body[:2].decode("ascii").isprintable() and body[:2] != b"x^"
    return known and (first * 256 + second) % _ZLIB_CHECK == 0 and not printable


def _inflate(wbits: int) -> Callable[[bytes, int], bytes | None]:
    def inflate(body: bytes, limit: int) -> bytes | None:
        try:
            return zlib.decompressobj(wbits).decompress(body, limit + 1) or None
        except zlib.error:
            return None

    return inflate


_INFLATE_ZLIB, _INFLATE_RAW = _inflate(zlib.MAX_WBITS), _inflate(-zlib.MAX_WBITS)


def _gunzip(body: bytes, limit: int) -> bytes | None:
    """Unpack every member of a gzip file."""
    found = bytearray()
    for _ in range(_MAX_MEMBERS):
        unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            found += unpacker.decompress(body, limit + 1 - len(found))
        except zlib.error:
            break
        body = unpacker.unused_data
        if len(found) > limit or not body.startswith(_GZIP):
            break
    return bytes(found) or None


def _deflate(body: bytes, limit: int) -> bytes | None:
    """Unpack ``deflate`` in both of its forms: with the frame of zlib, and without it."""
    return _INFLATE_ZLIB(body, limit) or _INFLATE_RAW(body, limit)


def _brotli(body: bytes, limit: int) -> bytes | None:
    decompressor, parts, size = brotli.Decompressor(), list[bytes](), 0
    try:
        part: bytes = decompressor.process(body, output_buffer_limit=limit + 1)
        while part and size <= limit:
            parts.append(part)
            size += len(part)
            if decompressor.is_finished() or decompressor.can_accept_more_data():
                break
            part = decompressor.process(b"", output_buffer_limit=limit + 1)
    except brotli.error:
        return b"".join(parts) or None
    return b"".join(parts) or None


def _zstd(body: bytes, limit: int) -> bytes | None:
    try:
        return zstd.ZstdDecompressor().decompress(body, limit + 1) or None
    except zstd.ZstdError:
        return None


_UNPACK: Final[dict[str, Callable[[bytes, int], bytes | None]]] = {
    "gzip": _gunzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
