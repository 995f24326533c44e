"""Sessions of the dashboard: an API key exchanged for a signed cookie. Pure.

The cookie names the hash of the key, and every request looks that key up: a session ends with its key. See
docs/decisions/0034.
"""

import base64
import binascii
import dataclasses
import datetime as dt
import hashlib
import hmac
from typing import Final

import orjson

LIFETIME: Final = dt.timedelta(hours=12)
"""How long a session lasts."""
_NAME: Final = "dovecote_session"
_MAX_COOKIE: Final = 600
"""Characters of a cookie that are read."""
_DIGEST: Final = 32
"""Bytes of a key's hash."""
KEYLESS: Final = "keyless"
"""Stands for a session where no API key exists."""


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """A visitor who has signed in."""

    digest: bytes
    """The hash of the API key."""
    expires_at: dt.datetime
    nonce: str
    """Chance that makes the session's form token differ from those of other sessions."""


def signing_key(secret: str) -> bytes:
    """Return the key that signs sessions, derived from the secret of the installation."""
    return hmac.digest(secret.encode(), b"dovecote dashboard session", "sha256")


def cookie_name(*, secure: bool) -> str:
    """Return the name of the cookie. A browser accepts the prefixed one over https only."""
    return f"__Secure-{_NAME}" if secure else _NAME


def write_session(session: Session, key: bytes) -> str:
    """Return the value of the cookie."""
    content = orjson.dumps([session.digest.hex(), int(session.expires_at.timestamp()), session.nonce])
    return f"{_encode(content)}.{_encode(_mac(content, key))}"


def read_session(cookie: str, key: bytes, *, now: dt.datetime) -> Session | None:
    """Return the session of a cookie; None where it is forged, damaged or over."""
    if len(cookie) > _MAX_COOKIE or not cookie.isascii():
        return None
    content_part, _, mac_part = cookie.partition(".")
    try:
        content, mac = _decode(content_part), _decode(mac_part)
        if not hmac.compare_digest(mac, _mac(content, key)):
            return None
        digest, expires, nonce = orjson.loads(content)
        session = Session(bytes.fromhex(digest), dt.datetime.fromtimestamp(expires, dt.UTC), str(nonce))
    except (binascii.Error, ValueError, TypeError, OverflowError):
        return None
    return session if len(session.digest) == _DIGEST and now < session.expires_at else None


def form_token(session: Session | None, key: bytes) -> str:
    """Return the token that every form of a session carries."""
    content = KEYLESS if session is None else f"{session.digest.hex()} {session.nonce}"
    return _encode(_mac(f"form {content}".encode(), key))


def is_form_token(stated: str, session: Session | None, key: bytes) -> bool:
    """Return whether a form's token is the one of its session."""
    return hmac.compare_digest(stated.encode("utf-8", "replace"), form_token(session, key).encode())


def _mac(content: bytes, key: bytes) -> bytes:
    return hmac.new(key, content, hashlib.sha256).digest()


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
