"""API keys: their form, their scopes, and their hash. The key itself is never stored."""

import dataclasses
import datetime as dt
import enum
import hashlib
import re
from collections.abc import Iterable
from typing import Final, Literal
from uuid import UUID

KeyFault = Literal["revoked", "expired"]

SECRET_BYTES: Final = 32
PREFIX_BYTES: Final = 4
_FORM: Final = re.compile(r"dove_[0-9a-f]{8}_[0-9a-f]{64}")


class Scope(enum.StrEnum):
    """A permission of a key."""

    READ = "read"
    """Read the client's own rows."""
    SUBMIT = "submit"
    """Change the client's own rows: submit, cancel, send input."""
    ADMIN = "admin"
    """Read and change the rows of every client."""
    METRICS = "metrics"
    """Read the metrics, which name no client and no task."""


OWN: Final = frozenset({Scope.READ, Scope.SUBMIT})
"""Every permission on the client's own rows."""
ALL: Final = frozenset(Scope)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as the database stores it: without the secret."""

    id: UUID
    client: str
    name: str
    """A description by the operator."""
    prefix: str
    """Its visible beginning, such as ``dove_ab12cd34``. It identifies the key and is not secret."""
    hash: bytes
    scopes: frozenset[Scope]
    created_at: dt.datetime
    expires_at: dt.datetime | None = None
    revoked_at: dt.datetime | None = None
    last_used_at: dt.datetime | None = None
    """Precise to a minute; None when it was never used."""

    def fault(self, *, now: dt.datetime) -> "KeyFault | None":
        """Return why the key is not valid; None when it is."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now >= self.expires_at else None


def write_key(prefix: bytes, secret: bytes) -> str:
    """Return the text of a key: a prefix that secret scanners recognise, the visible part, and the secret.

    :param prefix: 4 random bytes
    :param secret: 32 random bytes
    """
    if (len(prefix), len(secret)) != (PREFIX_BYTES, SECRET_BYTES):
        raise ValueError("a key needs 4 and 32 bytes")
    return f"dove_{prefix.hex()}_{secret.hex()}"


def prefix_of(key: str) -> str:
    """Return the part of a key that may be shown."""
    return key.rpartition("_")[0]


def looks_like_one(text: str) -> bool:
    """Return whether a text has the form of a key. No other text is searched in the database."""
    return _FORM.fullmatch(text) is not None


def hash_key(key: str) -> bytes:
    """Return the hash that identifies a key in the database. One round of SHA-256 is enough for 256 random bits."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def allowed(held: Iterable[Scope]) -> frozenset[Scope]:
    """Return all scopes that the held ones imply: ``admin`` implies the others."""
    return ALL if Scope.ADMIN in held else frozenset(held)
