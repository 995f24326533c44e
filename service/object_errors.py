"""The failures of object storage, and their short texts."""

import contextlib
import re
from collections.abc import Iterator
from typing import Final

from obstore.exceptions import BaseError, NotSupportedError

_SHOWN: Final = 160


class StorageError(Exception):
    """The storage did not do what was asked of it. The text names no URL and no credentials."""


class StorageAway(StorageError):
    """The storage cannot be opened now; its settings may be right."""


class StorageFull(StorageError):
    """There is no space left."""


class NoSuchObject(StorageError):
    """There is no object of this name."""


class ObjectTooLarge(Exception):
    """More bytes came than are allowed."""

    def __init__(self, limit: int) -> None:
        """Keep the limit."""
        super().__init__(f"more than {limit} bytes")
        self.limit = limit


_FULL: Final = ("os error 28", "os error 122", "No space left", "quota", "XMinioStorageFull", "507 ")
_MARKUP: Final = re.compile(r"https?://\S+|\s+")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise a :class:`StorageError` for the failures of the library, with a short text that names no URL."""
    failure: StorageError | None = None
    try:
        yield
    except FileNotFoundError:
        failure = NoSuchObject("there is no object of this name")
    except (StorageError, NotSupportedError):
        raise
    except (BaseError, OSError, ValueError, NotImplementedError) as error:
        said = str(error).partition("Debug source:")[0]
        text = _MARKUP.sub(" ", said).strip()[:_SHOWN] or type(error).__name__
        failure = (StorageFull if any(sign in said for sign in _FULL) else StorageError)(text)
    if failure is not None:
        raise failure
