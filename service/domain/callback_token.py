"""Callback tokens: a submission's id and a MAC of it, so that a forgery is known without asking the database."""

import base64
import binascii
import hashlib
import hmac
from uuid import UUID

_ID = 16
_MAC = 16
"""128 bits of HMAC-SHA256: more than anybody guesses, and the URL stays short."""


class Tokens:
    """Makes and reads the tokens of one installation."""

    def __init__(self, secret: str) -> None:
        """Keep the installation's callback secret."""
        self._secret = secret.encode()

    def make(self, submission_id: UUID) -> str:
        """Make the token of a submission: 43 characters that are safe in a path."""
        return base64.urlsafe_b64encode(submission_id.bytes + self._mac(submission_id.bytes)).rstrip(b"=").decode()

    def read(self, token: str) -> UUID | None:
        """Give the submission that a token belongs to; None when we did not make it."""
        try:
            raw = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            return None
        if len(raw) != _ID + _MAC:
            return None
        # The whole token is compared, not what it decodes to: base64 has several spellings of one value.
        submission_id = UUID(bytes=raw[:_ID])
        return submission_id if hmac.compare_digest(token, self.make(submission_id)) else None

    def prove(self, nonce: str) -> str:
        """Answer a question that only this installation can: so ``dovecote doctor`` knows whom it has reached."""
        return hmac.digest(self._secret, b"dovecote proof " + nonce.encode("utf-8", "replace"), hashlib.sha256).hex()

    def _mac(self, raw: bytes) -> bytes:
        return hmac.digest(self._secret, b"dovecote callback " + raw, hashlib.sha256)[:_MAC]
