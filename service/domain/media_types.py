"""Recognise the type of a file by its first bytes. What a client or a host states about it is not believed."""

import mimetypes
from typing import Final

HEAD: Final = 512
"""Bytes that are enough to recognise every known type."""
UNKNOWN: Final = "application/octet-stream"

_PREFIXES: Final = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"BM", "image/bmp"),
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"MThd", "audio/midi"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"\x00\x00\x01\xba", "video/mpeg"),
    (b"glTF", "model/gltf-binary"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
)
_RIFF: Final = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_BRANDS: Final = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heif",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"qt  ": "video/quicktime",
}
_MPEG_AUDIO: Final = frozenset({0xFB, 0xFA, 0xF3, 0xF2, 0xE3, 0xE2})
_AAC: Final = frozenset({0xF0, 0xF1, 0xF8, 0xF9})
_EXTENSIONS: Final = {
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/heic": "heic",
    "image/heif": "heif",
    "audio/mpeg": "mp3",
    "audio/mp4": "m4a",
    "audio/wav": "wav",
    "audio/ogg": "ogg",
    "audio/flac": "flac",
    "audio/aac": "aac",
    "audio/midi": "mid",
    "video/webm": "webm",
    "video/quicktime": "mov",
    "model/gltf-binary": "glb",
    "text/plain": "txt",
    UNKNOWN: "bin",
}


def sniffed(head: bytes) -> str | None:
    """Return the type of a file by its first bytes; None where they are those of no known type."""
    for prefix, found in _PREFIXES:
        if head.startswith(prefix):
            return found
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "video/mp4")
    if len(head) > 1 and head[0] == 0xFF:  # noqa: PLR2004 - the sync byte of MPEG audio
        return "audio/mpeg" if head[1] in _MPEG_AUDIO else "audio/aac" if head[1] in _AAC else None
    return None


def extension(content_type: str) -> str:
    """Return the usual extension of a type, without a dot."""
    known = _EXTENSIONS.get(content_type) or (mimetypes.guess_extension(content_type) or ".bin")
    return known.lstrip(".")
