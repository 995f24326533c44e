"""The forms in which doors show the id of a task."""

import base64
import binascii
import re
from typing import Final
from uuid import UUID

_HEX: Final = re.compile(r"[0-9a-f]{32}")
_BASE32: Final = re.compile(r"[a-z2-7]{26}")


def prefixed(prefix: str, task_id: UUID) -> str:
    """Return an id with a prefix, such as ``video_0198…``."""
    return f"{prefix}{task_id.hex}"


def short(task_id: UUID) -> str:
    """Return an id of 26 lower-case letters and digits, as Replicate has them."""
    return base64.b32encode(task_id.bytes).decode().rstrip("=").lower()


def task_id_of(named: str) -> UUID | None:
    """Return the id of a task that is written in any of these forms; None for any other text."""
    text = named.strip()
    if not text.isascii():
        return None
    rest = text.rpartition("_")[2].rpartition("chatcmpl-")[2]
    plain = rest.replace("-", "").lower()
    if _HEX.fullmatch(plain):
        return UUID(plain)
    if _BASE32.fullmatch(rest.lower()):
        try:
            return UUID(bytes=base64.b32decode(f"{rest.upper()}======"))
        except (binascii.Error, ValueError):
            return None
    return None
