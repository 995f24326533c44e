"""The types of files: read from their first bytes, and what a browser may do with each. Pure."""

import re
from typing import Final

HEAD: Final = 4096
"""Bytes of the beginning that tell the type."""

_SIGNATURES: Final = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (0, b"8BPS", "image/vnd.adobe.photoshop"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"fLaC", "audio/flac"),
    (0, b"MThd", "audio/midi"),
    (0, b"#!AMR", "audio/amr"),
    (0, b"FLV\x01", "video/x-flv"),
    (0, b"\x00\x00\x01\xba", "video/mpeg"),
    (0, b"\x00\x00\x01\xb3", "video/mpeg"),
    (0, b"glTF", "model/gltf-binary"),
    (0, b"Kaydara FBX Binary", "application/octet-stream"),
    (0, b"ply\n", "application/octet-stream"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"\x1f\x8b\x08", "application/gzip"),
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
_QUICKTIME: Final = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip"})
_MARKUP: Final = re.compile(
    rb"\s*(?:<!--.*?-->\s*)*<(!doctype\s+html|html|head|body|script|title|svg|\?xml|[a-z!])", re.IGNORECASE | re.DOTALL
)
_TEXT: Final = re.compile(rb"[^\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]*")
_MPEG_LAYERS: Final = frozenset({0xFB, 0xFA, 0xF3, 0xF2, 0xE3, 0xE2})
_AAC: Final = frozenset({0xF1, 0xF9})

EXTENSIONS: Final = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/heic": "heic",
    "image/bmp": "bmp",
    "image/tiff": "tiff",
    "image/svg+xml": "svg",
    "video/mp4": "mp4",
    "video/webm": "webm",
    "video/quicktime": "mov",
    "video/x-msvideo": "avi",
    "audio/mpeg": "mp3",
    "audio/mp4": "m4a",
    "audio/wav": "wav",
    "audio/ogg": "ogg",
    "audio/flac": "flac",
    "audio/aac": "aac",
    "model/gltf-binary": "glb",
    "application/json": "json",
    "application/pdf": "pdf",
    "application/zip": "zip",
    "text/plain": "txt",
    "text/html": "html",
}
"""The extension of a file's name, by type. Any other type has ``bin``."""

_INERT: Final = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp"}
    | {"video/mp4", "video/webm", "video/quicktime", "video/mpeg"}
    | {"audio/mpeg", "audio/mp4", "audio/wav", "audio/ogg", "audio/flac", "audio/aac", "audio/amr"}
)
"""Types that a browser shows or plays, and that can hold no script for it."""
_FORM: Final = re.compile(r"[a-z0-9.+-]{1,80}/[a-z0-9.+-]{1,80}", re.ASCII)
UNTYPED: Final = "application/octet-stream"
"""The type of a file of which none is known."""
_TEXTS: Final = frozenset({"text/html", "text/xml", "application/json", "text/plain"})


def sniff(head: bytes) -> str:
    """Return the type of a file by its first bytes. What its server says about it does not count."""
    simple = (found for at, signature, found in _SIGNATURES if head.startswith(signature, at))
    return next(simple, None) or _sniff_container(head) or _sniff_frames(head) or _sniff_text(head)


def _sniff_container(head: bytes) -> str | None:
    """Return the type of a RIFF, ISO, Matroska or Ogg file."""
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "video/mp4")
    if head[4:8] in _QUICKTIME:
        return "video/quicktime"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "video/webm" if b"webm" in head[:64] else "video/x-matroska"
    if head[:4] == b"OggS":
        return "video/ogg" if b"theora" in head[:64] else "audio/ogg"
    return None


def _sniff_frames(head: bytes) -> str | None:
    """Return the type of a sound that begins with a frame."""
    if head[:1] != b"\xff" or len(head) < 2:  # noqa: PLR2004 - the two bytes of a frame's mark
        return None
    return "audio/mpeg" if head[1] in _MPEG_LAYERS else "audio/aac" if head[1] in _AAC else None


def _sniff_text(head: bytes) -> str:
    text = head.removeprefix(b"\xef\xbb\xbf")
    if not head or _TEXT.fullmatch(text) is None:
        return "application/octet-stream"
    markup = _MARKUP.match(text)
    if markup is not None:
        word = markup[1].lower()
        if word == b"svg" or (word == b"?xml" and b"<svg" in text.lower()):
            return "image/svg+xml"
        return "text/xml" if word == b"?xml" else "text/html"
    return "application/json" if text.lstrip()[:1] in {b"{", b"["} else "text/plain"


def contradicts(kind: str, media_type: str) -> bool:
    """Return whether a file of this type is no output of a kind: a page that says that a film is gone is no film."""
    return kind in {"video", "image", "audio"} and media_type in _TEXTS


def served_type(media_type: str) -> str:
    """Return the type with which a file is served: as it is, but no page and no document that a browser could run."""
    if media_type in {"text/html", "text/xml", "text/plain"}:
        return "text/plain; charset=utf-8"
    return media_type


def well_formed(stated: str) -> str:
    """Return a type that somebody has stated, without parameters; ``application/octet-stream`` where it has not the form of one."""
    found = stated.partition(";")[0].strip().lower()
    return found if _FORM.fullmatch(found) else UNTYPED


def is_inert(media_type: str) -> bool:
    """Return whether a browser may show a file in place of downloading it."""
    return media_type in _INERT


def extension(media_type: str) -> str:
    """Return the extension of a file's name."""
    return EXTENSIONS.get(media_type, "bin")
