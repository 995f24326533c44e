"""Cursors of the feed: opaque texts that reveal no position and cannot be guessed.

A cursor names the history of the database that issued it. A restore from a backup begins a new history. A cursor of an
earlier history is valid up to the position at which the two histories separate.
"""

import base64
import binascii
import dataclasses
import functools
import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

BEGINNING: Final = "0"
"""The cursor before the first event, of every history."""
PATTERN: Final = "^([0-9]{1,19}|[A-Za-z0-9_-]{27})$"
"""The form of a cursor. Numbers other than :data:`BEGINNING` are cursors of earlier versions."""
MAX_NUMBER: Final = 2**63 - 1
"""The highest cursor of earlier versions."""
KEY_SIZE: Final = 16
"""Bytes of the key of an epoch."""
_ID, _TAG, _POSITION = 4, 8, 8
_LENGTH: Final = 27
"""Characters of a cursor."""


class NotACursor(ValueError):
    """A text that no version has issued as a cursor."""


class UnknownCursor(ValueError):
    """A cursor that this history cannot have issued to this client."""


@dataclasses.dataclass(frozen=True, slots=True)
class Epoch:
    """The time of a database between two restores."""

    key: bytes = dataclasses.field(repr=False)
    starts_after: int = 0
    """The last position that it has in common with the epoch before it."""

    @property
    def id(self) -> bytes:
        """The beginning of its cursors."""
        return hashlib.blake2b(self.key, digest_size=_ID, person=b"epoch").digest()


@dataclasses.dataclass(frozen=True, slots=True)
class History:
    """The epochs of a database, oldest first."""

    epochs: tuple[Epoch, ...]

    @property
    def text(self) -> str:
        """The text that the database keeps."""
        return ",".join(f"{each.key.hex()}:{each.starts_after}" for each in self.epochs)

    def restored(self, key: bytes, newest: int) -> "History":
        """Return the history after a restore.

        :param key: random bytes
        :param newest: the highest position that the restored database has assigned
        """
        return History((*self.epochs, Epoch(key, newest)))

    def encode(self, position: int, client: str) -> str:
        """Return the cursor of a position for a client. Equal positions have equal cursors."""
        epoch = self.epochs[-1]
        tag = _tag(epoch.key, position, client)
        hidden = position ^ _mask(epoch.key, tag)
        return base64.urlsafe_b64encode(epoch.id + tag + hidden.to_bytes(_POSITION)).rstrip(b"=").decode()

    def decode(self, cursor: str, client: str) -> int:
        """Return the position of a cursor.

        :raises NotACursor: for any other text
        :raises UnknownCursor: for the cursor of another history, another client or an earlier version
        """
        if cursor == BEGINNING:
            return 0
        if cursor.isascii() and cursor.isdecimal() and len(cursor) < _LENGTH:
            if int(cursor) > MAX_NUMBER:
                raise NotACursor(cursor)
            raise UnknownCursor("it is a number, as earlier versions issued")
        packed = _unpacked(cursor)
        shown, tag = packed[:_ID], packed[_ID : _ID + _TAG]
        hidden = int.from_bytes(packed[_ID + _TAG :])
        for number, epoch in enumerate(self.epochs):
            position = hidden ^ _mask(epoch.key, tag)
            if epoch.id == shown and hmac.compare_digest(tag, _tag(epoch.key, position, client)):
                self._check_shared(position, self.epochs[number + 1 :])
                return position
        raise UnknownCursor("another history of the database, another Dovecote or another client has it")

    def _check_shared(self, position: int, later: Iterable[Epoch]) -> None:
        if any(position > each.starts_after for each in later):
            raise UnknownCursor("it is from after the backup from which the database was restored")


@functools.lru_cache(maxsize=8)
def read_history(text: str) -> History:
    """Parse the text that the database keeps."""
    parts = [part.partition(":") for part in text.split(",")]
    return History(tuple(Epoch(bytes.fromhex(key), int(number)) for key, _, number in parts))


def _unpacked(cursor: str) -> bytes:
    if len(cursor) != _LENGTH or not cursor.isascii():
        raise NotACursor(cursor)
    try:
        packed = base64.b64decode(cursor + "=", altchars=b"-_", validate=True)
    except binascii.Error:
        raise NotACursor(cursor) from None
    if len(packed) != _ID + _TAG + _POSITION:
        raise NotACursor(cursor)
    return packed


def _tag(key: bytes, position: int, client: str) -> bytes:
    """Return the code that proves and hides a position. It cannot be made without the key."""
    said = position.to_bytes(_POSITION) + client.encode()
    return hashlib.blake2b(said, digest_size=_TAG, key=key, person=b"tag").digest()


def _mask(key: bytes, tag: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(tag, digest_size=_POSITION, key=key, person=b"mask").digest())
