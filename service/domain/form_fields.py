"""Read the fields of a URL-encoded form. A large one takes little memory: the standard parser makes a text of every escape."""

import binascii
import re
from typing import Final
from urllib.parse import unquote_to_bytes

_FEW: Final = 10_000
"""Escapes that the standard function decodes."""
_DAMAGED: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def form_fields(body: bytes, most: int, *, errors: str = "replace") -> list[tuple[str, str]]:
    """Return the fields of a form in their order, those without a value too.

    :param errors: what happens to bytes that are no UTF-8, as in :meth:`bytes.decode`
    :raises ValueError: when there are more fields than allowed, or when a large field has an escape that is none
    """
    if body.count(b"&") >= most:
        raise ValueError(f"more than {most} fields")
    found = []
    for part in body.split(b"&"):
        if part:
            name, _, value = part.partition(b"=")
            found.append((_decoded(name).decode(errors=errors), _decoded(value).decode(errors=errors)))
    return found


def _decoded(part: bytes) -> bytes:
    """Return a name or a value without its escapes."""
    part = part.replace(b"+", b" ")
    if part.count(b"%") <= _FEW:
        return unquote_to_bytes(part)
    if _DAMAGED.search(part) is not None:
        raise ValueError("an escape is not of the form %XX")
    # Quoted-printable has the same escapes behind another character, and a decoder that makes no objects.
    return binascii.a2b_qp(part.replace(b"=", b"%3D").replace(b"%", b"="))
