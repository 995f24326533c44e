"""Forms with files: a mapped body as the fields of a form, and media that a provider takes as files."""

import base64
import binascii
import json
import mimetypes
import re
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from service.domain.task import Task
from service.domain.validation import Mistake
from service.providers.wire import File, Form

_REMOTE = re.compile(r"https?://", re.IGNORECASE)
_DATA = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[^;,]*)*),", re.ASCII | re.IGNORECASE)
_EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/mp4": "m4a",
    "audio/x-m4a": "m4a",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/ogg": "ogg",
    "audio/webm": "webm",
    "audio/flac": "flac",
    "audio/x-flac": "flac",
}
"""Extensions that the ``mimetypes`` module does not know, or names differently on other machines."""


def is_inline(source: Any) -> bool:
    """Return whether a medium is given as ``data:`` with content that can be read."""
    return isinstance(source, str) and _parsed(source) is not None


def content_of(source: str) -> bytes | None:
    """Return the bytes that a ``data:`` URL holds; None for any other text."""
    parsed = _parsed(source)
    return None if parsed is None else parsed[1]


def file(source: str, stem: str) -> File:
    """Return the file that a ``data:`` URL holds.

    :param stem: its name without the extension, which follows from the type
    :raises ValueError: when it is no readable ``data:`` URL
    """
    parsed = _parsed(source)
    if parsed is None:
        raise ValueError("not a data: URL")
    content_type, content = parsed
    extension = _EXTENSIONS.get(content_type) or (mimetypes.guess_extension(content_type) or ".bin").lstrip(".")
    return File(f"{stem}.{extension}", content, content_type)


def unreadable_media(task: Task, names: Collection[str]) -> list[Mistake]:
    """Return a mistake for each medium that is to be sent as a file and is neither at a URL nor readable ``data:``."""
    given = [(name, each) for name in names for each in _listed(task.input.get(name))]
    wrong = dict.fromkeys(name for name, each in given if not _REMOTE.match(str(each)) and not is_inline(each))
    return [Mistake(f"input.{name}", "Give a URL, or data: with content in base64.") for name in wrong]


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _parsed(source: str) -> tuple[str, bytes] | None:
    """Return the type and the content of a ``data:`` URL; None for any other text."""
    head = _DATA.match(source)
    if head is None:
        return None
    encoded = source[head.end() :]
    if not head[2].lower().endswith(";base64"):
        content = unquote_to_bytes(encoded)
    else:
        plain = re.sub(r"\s+", "", unquote(encoded) if "%" in encoded else encoded).rstrip("=")
        try:
            content = base64.b64decode(plain.translate(_URL_SAFE) + "=" * (-len(plain) % 4), validate=True)
        except (binascii.Error, ValueError):
            return None
    return ((head[1] or "text/plain").lower(), content) if content else None


_URL_SAFE = str.maketrans("-_", "+/")


def form(body: Mapping[str, Any]) -> Form:
    """Return a body as the fields of a form: numbers and switches as texts, objects as JSON, None left out."""
    fields: dict[str, str | File | list[str | File]] = {}
    for name, value in body.items():
        if isinstance(value, list | tuple):
            fields[name] = [_field(item) for item in value if item is not None]
        elif value is not None:
            fields[name] = _field(value)
    return fields


def _field(value: Any) -> str | File:
    if isinstance(value, str | File):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
