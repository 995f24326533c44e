"""The proofs of callbacks: signatures that several providers share, and the challenge of a callback URL.

A check is pure: the time of receipt is an argument.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from service.providers.read import fields, first_json, items, number, word
from service.providers.wire import Callback

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TOLERANCE = 300.0
"""Seconds that the stated time of a callback may differ from that of its receipt."""
SIGNATURE_HEADERS = ("webhook-", "svix-", "x-webhook-", "x-fal-webhook-", "x-ideogram-webhook-", "x-bfl-signature")
"""The beginnings of the headers that hold signatures, in lower case."""
MAX_CHALLENGE = 1024
"""Characters of a challenge that is answered."""
_ABOUT_A_TASK = frozenset({"id", "status", "task", "task_id"})
_SECRET_PREFIX = "whsec_"  # noqa: S105 - what a secret begins with, not a secret
_MAX_SIGNATURES = 20
_MAX_KEYS = 20


def challenge_in(body: bytes) -> str | None:
    """Return the challenge by which a provider checks a callback URL (MiniMax); None where a body is none.

    It is sent while the submit is still open, and must be answered within 3 s.
    """
    if len(body) > 2 * MAX_CHALLENGE or b'"challenge"' not in body:
        return None
    said = first_json(body.decode("utf-8", "replace"))
    if not isinstance(said, dict) or _ABOUT_A_TASK & said.keys():
        return None
    found = said.get("challenge")
    return found if isinstance(found, str) and 0 < len(found) <= MAX_CHALLENGE else None


def header(callback: Callback, name: str) -> str:
    """Return a header's value by its name in lower case; blank where there is none."""
    return next((value for stated, value in callback.headers.items() if stated.lower() == name), "")


def is_recent(callback: Callback, stated: str) -> bool:
    """Return whether a stated time, in Unix seconds, is close enough to that of the receipt."""
    at = number(stated)
    if at is None:
        return False
    return callback.received_at is None or abs(callback.received_at - at) <= TOLERANCE


def standard_webhook(callback: Callback, secret: str, *, plain: bool = False) -> bool:
    """Return whether a Standard Webhooks signature is right: base64(HMAC-SHA256(secret, ``id.timestamp.body``)).

    The headers begin with ``webhook-``, at some vendors with ``svix-``. One header may hold several signatures.

    :param plain: whether a secret without ``whsec_`` is the key itself, as at OpenAI, and not base64
    """
    prefix = "webhook-" if header(callback, "webhook-signature") else "svix-"
    name, at, stated = (header(callback, prefix + part) for part in ("id", "timestamp", "signature"))
    is_plain = plain and not secret.startswith(_SECRET_PREFIX)
    key = secret.encode("utf-8", "replace") if is_plain else _decoded(secret.strip().removeprefix(_SECRET_PREFIX))
    if key is None or not name or not is_recent(callback, at):
        return False
    signed = f"{name}.{at}.".encode("utf-8", "replace") + callback.body
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
    given = (each.removeprefix("v1,") for each in stated.split()[:_MAX_SIGNATURES] if each.startswith("v1,"))
    return any(hmac.compare_digest(expected, each.encode("utf-8", "replace")) for each in given)


def _decoded(text: str) -> bytes | None:
    """Return the bytes of a key in base64, also without its padding; None where it is none."""
    plain = text.rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True) or None
    except (binascii.Error, ValueError):
        return None


def hex_hmac(callback: Callback, secret: str, stated: str) -> bool:
    """Return whether a signature is the HMAC-SHA256 of the raw body in hexadecimal, also behind ``sha256=``."""
    expected = hmac.digest(secret.encode(), callback.body, hashlib.sha256).hex()
    given = stated.strip().removeprefix("sha256=").lower()
    return hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace"))


def ed25519_over_digest(callback: Callback, key_set: str, *, prefix: str, first: str) -> bool:
    """Return whether an Ed25519 signature over four lines is right: id, user, time, SHA-256 of the body (fal, Ideogram).

    :param key_set: the provider's public keys, as its JSON Web Key Set. Every key is tried
    :param prefix: what the headers begin with, such as ``x-fal-webhook-``
    :param first: the header with the job's id, after the prefix
    """
    names = (first, "user-id", "timestamp", "signature")
    job, user, at, stated = (header(callback, prefix + name) for name in names)
    digest = hashlib.sha256(callback.body).hexdigest()
    message = f"{job}\n{user}\n{at}\n{digest}".encode("utf-8", "replace")
    try:
        signature = bytes.fromhex(stated)
    except ValueError:
        return False
    if not job or not is_recent(callback, at):
        return False
    return any(_is_signed_by(key, signature, message) for key in _public_keys(key_set))


def _public_keys(key_set: str) -> Iterator["Ed25519PublicKey"]:
    """Yield the Ed25519 keys of a JSON Web Key Set. Other keys in it are skipped."""
    # Imported here: it takes 7 MB, and most installations have no provider that signs so.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    try:
        document = json.loads(key_set)
    except (ValueError, RecursionError):
        return
    for each in items(fields(document).get("keys"))[:_MAX_KEYS]:
        stated = word(fields(each).get("x")) or ""
        raw = _decoded(stated.replace("-", "+").replace("_", "/"))
        try:
            yield Ed25519PublicKey.from_public_bytes(raw or b"")
        except ValueError:
            continue


def _is_signed_by(key: "Ed25519PublicKey", signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - as above

    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True
