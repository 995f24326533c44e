"""API keys: what one says, what it may do, and how it is recognised without being kept."""

import dataclasses
import datetime as dt
import enum
import hashlib
import re
from collections.abc import Iterable
from typing import Final
from uuid import UUID

SECRET_BYTES: Final = 32
PREFIX_BYTES: Final = 4
_FORM: Final = re.compile(r"dove_[0-9a-f]{8}_[0-9a-f]{64}")


class Scope(enum.StrEnum):
    """What a key may do."""

    READ = "read"
    """See the client's own rows."""
    SUBMIT = "submit"
    """Submit tasks, cancel them, give them input: whatever changes the client's own rows."""
    ADMIN = "admin"
    """See and do all of that with the rows of every client."""


OWN: Final = frozenset({Scope.READ, Scope.SUBMIT})
"""All that a client may do with what is its own."""
ALL: Final = frozenset(Scope)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as the database has it: everything but the key."""

    id: UUID
    client: str
    name: str
    """What it is for."""
    prefix: str
    """Its visible beginning, such as ``dove_ab12cd34``: enough to tell keys apart, worth nothing to a thief."""
    hash: bytes
    scopes: frozenset[Scope]
    created_at: dt.datetime
    expires_at: dt.datetime | None = None
    revoked_at: dt.datetime | None = None
    last_used_at: dt.datetime | None = None
    """To the minute; None when it never was."""

    def fault(self, *, now: dt.datetime) -> str | None:
        """Say why it opens nothing any more; None when it does."""
        if self.revoked_at is not None:
            return "has been revoked"
        return "has expired" if self.expires_at is not None and now >= self.expires_at else None


def write_key(prefix: bytes, secret: bytes) -> str:
    """Write a key: a word by which scanners recognise it, the visible part, and the secret.

    :param prefix: 4 random bytes
    :param secret: 32 random bytes
    """
    if (len(prefix), len(secret)) != (PREFIX_BYTES, SECRET_BYTES):
        raise ValueError("a key is made of 4 and 32 bytes")
    return f"dove_{prefix.hex()}_{secret.hex()}"


def prefix_of(key: str) -> str:
    """Give the part of a key that may be shown."""
    return key.rpartition("_")[0]


def looks_like_one(text: str) -> bool:
    """Whether a text has the form of a key: what has not is not looked up."""
    return _FORM.fullmatch(text) is not None


def hash_key(key: str) -> bytes:
    """Hash a key for look-ups. One round of SHA-256 is enough: nobody guesses 256 random bits."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def allowed(held: Iterable[Scope]) -> frozenset[Scope]:
    """Say what scopes come to: ``admin`` implies the others."""
    return ALL if Scope.ADMIN in held else frozenset(held)
