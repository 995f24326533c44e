"""Receive a callback: keep its headers that matter and its body without our tokens, and store it before anything is read."""

import functools
import hashlib
from collections.abc import Mapping
from uuid import UUID

from service.domain.compression import TooLarge, is_packed, unpack
from service.domain.redaction import Redactor
from service.domain.schedules import claimed_as_written
from service.flows.context import Context, log
from service.providers.signatures import SIGNATURE_HEADERS
from service.store import callbacks as callback_store
from service.store.callbacks import Received

MAX_UNPACKED = 8 * 1024 * 1024
"""Bytes of an unpacked body that are searched for tokens."""

MAX_HANDED = 64 * 1024
"""Bytes of a body that waits in memory until it is processed. A larger one is read back from the database."""

KEPT_HEADERS = frozenset({"content-encoding", "content-type", "user-agent", "date"})
"""Headers that are kept beside those of signatures, which are verified later. Credentials, cookies and addresses are not."""


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a callback that are stored."""
    return {
        name: value.replace("\x00", "")
        for name, value in headers.items()
        if name in KEPT_HEADERS or name.startswith(SIGNATURE_HEADERS)
    }


async def store_callback(
    context: Context, token: str, submission_id: UUID, headers: Mapping[str, str], body: bytes
) -> None:
    """Store a callback whose token has been verified; return after the commit.

    Some providers echo the URL that they call. The token in it is a secret and is not stored.

    :raises StoreUnavailable: when it could not be stored: the provider must be asked to send it again
    """
    now = context.now()
    redactor = Redactor(context.tokens, [token])
    body = await context.large.run(
        unpacked_size(headers, body), functools.partial(_stored_body, redactor, headers, body)
    )
    received = Received(
        id=context.new_id(),
        submission_id=submission_id,
        headers={name: redactor.text(value) for name, value in kept_headers(headers).items()},
        body=body,
        dedupe_key=hashlib.sha256(body).digest(),
        received_at=now,
        due_at=now,
    )
    is_claimed = len(body) <= MAX_HANDED and context.handed_callbacks.admits()
    if is_claimed:
        received = claimed_as_written(received, at=now)
    is_new = await context.writers.requests.batch(callback_store.receive, received)
    context.metrics.callbacks_stored.inc()
    log.info("callback stored callback=%s submission=%s bytes=%d", received.id, submission_id, len(body))
    if is_claimed and is_new:
        context.handed_callbacks.put(received)
    else:
        context.signals.wake("callbacks")


def unpacked_size(headers: Mapping[str, str], body: bytes) -> int:
    """Return the bytes that a body may have once it is unpacked."""
    return MAX_UNPACKED if is_packed(body, headers.get("content-encoding", "")) else len(body)


def _stored_body(redactor: Redactor, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return a body as it is stored: as it came, unless it holds a token, and then unpacked and without it."""
    try:
        unpacked = unpack(body, [headers.get("content-encoding", "")], MAX_UNPACKED)
    except TooLarge:
        unpacked = body
    redacted = redactor.body(unpacked)
    return body if redacted == unpacked else redacted
