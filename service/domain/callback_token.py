"""Callback tokens: a submission's id and a MAC of it. A forged token is detected without a database query."""

import base64
import binascii
import hashlib
import hmac
from uuid import UUID

_ID = 16
_TIME = 8
_MAC = 16
"""128 bits of HMAC-SHA256: infeasible to guess, and the URL stays short."""


class Tokens:
    """Creates and verifies the tokens of one installation."""

    def __init__(self, secret: str) -> None:
        """Store the installation's callback secret."""
        self._secret = secret.encode()
        # A copy of a keyed hash takes half of the time of a new one, which each token of a callback would need.
        self._of_callbacks = hmac.new(self._secret, b"dovecote callback ", hashlib.sha256)

    def make(self, submission_id: UUID) -> str:
        """Return the token of a submission: 43 characters that are safe in a path."""
        return base64.urlsafe_b64encode(submission_id.bytes + self._mac(submission_id.bytes)).rstrip(b"=").decode()

    def read(self, token: str) -> UUID | None:
        """Return the submission that a token belongs to, or None when the token is forged."""
        raw = _decoded(token)
        if raw is None:
            return None
        # The whole token is compared, not what it decodes to: base64 has several spellings of one value.
        submission_id = UUID(bytes=raw[:_ID])
        return submission_id if hmac.compare_digest(token, self.make(submission_id)) else None

    def make_result_link(self, asset_id: UUID, until: int) -> str:
        """Return the token of a link to the copy of a result.

        :param until: the Unix second until which it is valid
        """
        raw = asset_id.bytes + until.to_bytes(_TIME, "big")
        return base64.urlsafe_b64encode(raw + self._mac_of_link(raw)).rstrip(b"=").decode()

    def read_result_link(self, token: str) -> tuple[UUID, int] | None:
        """Return the copy of a result that a link's token belongs to, and until when; None when the token is forged."""
        try:
            raw = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            return None
        if len(raw) != _ID + _TIME + _MAC:
            return None
        asset_id, until = UUID(bytes=raw[:_ID]), int.from_bytes(raw[_ID : _ID + _TIME], "big")
        return (asset_id, until) if hmac.compare_digest(token, self.make_result_link(asset_id, until)) else None

    def make_link(self, upload_id: UUID) -> str:
        """Return the token by which anybody can read an upload. It is none of a callback, and none can be guessed."""
        return base64.urlsafe_b64encode(upload_id.bytes + self._link_mac(upload_id.bytes)).rstrip(b"=").decode()

    def read_link(self, token: str) -> UUID | None:
        """Return the upload that a link's token belongs to, or None when the token is forged."""
        raw = _decoded(token)
        upload_id = None if raw is None else UUID(bytes=raw[:_ID])
        return upload_id if upload_id is not None and hmac.compare_digest(token, self.make_link(upload_id)) else None

    def sign_upload(self, upload_id: UUID, client: str, until: int) -> str:
        """Return the proof that a client may store one upload until a time, without its key."""
        text = f"dovecote upload {upload_id} {until} {client}"
        return hmac.digest(self._secret, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hex()

    def sign_stream(self, task_id: UUID, until: int) -> str:
        """Return the proof that anybody may read the events of a task until a time, without a key."""
        return hmac.digest(self._secret, f"dovecote stream {task_id} {until}".encode(), hashlib.sha256).hex()

    def prove(self, nonce: str) -> str:
        """Return a proof that only this installation can compute. ``dovecote doctor`` uses it to identify the server."""
        return hmac.digest(self._secret, b"dovecote proof " + nonce.encode("utf-8", "replace"), hashlib.sha256).hex()

    def _mac_of_link(self, raw: bytes) -> bytes:
        return hmac.digest(self._secret, b"dovecote result " + raw, hashlib.sha256)[:_MAC]

    def _mac(self, raw: bytes) -> bytes:
        mac = self._of_callbacks.copy()
        mac.update(raw)
        return mac.digest()[:_MAC]

    def _link_mac(self, raw: bytes) -> bytes:
        return hmac.digest(self._secret, b"dovecote upload " + raw, hashlib.sha256)[:_MAC]


def _decoded(token: str) -> bytes | None:
    """Return the id and the MAC of a token; None for a text of another form."""
    try:
        raw = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
    return raw if len(raw) == _ID + _MAC else None
