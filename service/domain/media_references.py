"""References to media that Dovecote has: an upload of the client, or a result of the parent task.

A client writes ``{"upload": "upl_…"}`` or ``{"result": 0}`` in place of a URL. The task stores a text, because everything that
reads an input expects texts there: ``dovecote:upload/upl_…;image/png``.
"""

import base64
import binascii
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal
from uuid import UUID

SCHEME: Final = "dovecote:"
_TEXT: Final = re.compile(r"dovecote:(upload|result)/([A-Za-z0-9_-]{1,40});([a-z0-9.+-]+/[a-z0-9.+-]+)", re.ASCII)
_UPLOAD: Final = re.compile(r"upl_[A-Z2-7a-z]{26}", re.ASCII)
MAX_INDEX: Final = 999

Path = tuple[str | int, ...]
"""The keys and positions that lead to a value of an input."""


@dataclasses.dataclass(frozen=True, slots=True)
class MediaReference:
    """A reference to a medium."""

    source: Literal["upload", "result"]
    name: str
    """The id of the upload, or the position of the result."""
    content_type: str

    def __str__(self) -> str:
        """Return the text that a task stores."""
        return f"{SCHEME}{self.source}/{self.name};{self.content_type}"

    def as_json(self) -> dict[str, Any]:
        """Return the reference as a client writes it."""
        return {self.source: self.name if self.source == "upload" else int(self.name)}


def upload_name(upload_id: UUID) -> str:
    """Return the id of an upload as clients see it: ``upl_`` and 26 letters and digits."""
    return "upl_" + base64.b32encode(upload_id.bytes).decode().rstrip("=").lower()


def upload_id(name: Any) -> UUID | None:
    """Return the id that a name stands for; None for any other value."""
    if not isinstance(name, str) or not _UPLOAD.fullmatch(name):
        return None
    try:
        found = UUID(bytes=base64.b32decode(name[4:].upper() + "======"))
    except (binascii.Error, ValueError):
        return None
    return found if upload_name(found) == name else None


def reference_in(text: Any) -> MediaReference | None:
    """Return the reference that a stored text is; None for any other value."""
    found = _TEXT.fullmatch(text) if isinstance(text, str) and text.startswith(SCHEME) else None
    if found is None:
        return None
    return MediaReference("upload" if found[1] == "upload" else "result", found[2], found[3])


def written(value: Any) -> tuple[Literal["upload", "result"], Any] | None:
    """Return what a client's reference names; None for any other value."""
    if isinstance(value, Mapping) and len(value) == 1:
        if "upload" in value:
            return "upload", value["upload"]
        if "result" in value:
            return "result", value["result"]
    return None


def replaced(document: Any, replace: Callable[[Path, Any], Any], path: Path = ()) -> Any:
    """Return a document with values replaced. The document itself is returned where nothing is replaced.

    :param replace: is called with the path and the value, and returns the new one. A value that it returns unchanged is
        searched further
    """
    new = replace(path, document)
    if new is not document or isinstance(document, str | int | float):
        return new
    if isinstance(document, Mapping):
        changed = {name: replaced(value, replace, (*path, name)) for name, value in document.items()}
        return changed if any(changed[name] is not value for name, value in document.items()) else document
    if isinstance(document, list | tuple):
        items = [replaced(value, replace, (*path, number)) for number, value in enumerate(document)]
        return items if any(new is not old for new, old in zip(items, document, strict=True)) else document
    return document


def references_in(document: Any) -> Iterator[MediaReference]:
    """Yield the references in a stored input."""
    if isinstance(document, str):
        found = reference_in(document)
        if found is not None:
            yield found
    elif isinstance(document, Mapping):
        for value in document.values():
            yield from references_in(value)
    elif isinstance(document, list | tuple):
        for value in document:
            yield from references_in(value)


def as_written(document: Any) -> Any:
    """Return a stored input as the client wrote it."""

    def shown(_: Path, value: Any) -> Any:
        found = reference_in(value)
        return value if found is None else found.as_json()

    return replaced(document, shown)


def place(path: Path) -> str:
    """Return a path as mistakes show it: ``input.images[0]``."""
    return "input" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
