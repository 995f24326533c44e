"""The stored callbacks of providers, and every call to the API about them, as generators (see :mod:`dovecote.protocol`)."""

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from dovecote.calls import given, id_of, page_of, value_of
from dovecote.protocol import Call, Request, Session, read_document, send, unexpected
from dovecote.values import Page


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """A provider's request to a callback URL, as it was stored."""

    id: str
    task_id: str | None = None
    """None where the submission is not in the database."""
    upstream: str | None = None
    dialect: str | None = None
    decision: str | None = None
    """None until it has been processed."""
    detail: str | None = None
    size: int = 0
    """Bytes of the body."""
    copies: int = 1
    received_at: dt.datetime | None = None
    decided_at: dt.datetime | None = None
    headers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Only a single callback has its headers and body; callbacks of lists do not."""
    body: str | None = None
    reads_as: str | None = None
    """The content in words, as this version reads it."""
    reading_error: str | None = None
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)


CallbackOrId = Callback | str | UUID


def list_callbacks(session: Session, filters: Mapping[str, Any], cursor: str | None) -> Call[Page[Callback]]:
    """List one page of callbacks, newest first."""
    chosen = given({**filters, "cursor": cursor})
    params = chosen | ({"task": id_of(chosen["task"])} if "task" in chosen else {})
    response = yield from send(session, Request(method="GET", path="/v1/callbacks", params=params))
    return page_of(Callback, "callbacks", response)


def get_callback(session: Session, callback: CallbackOrId) -> Call[Callback]:
    """Get a callback with its body."""
    return value_of(Callback, (yield from send(session, Request(method="GET", path=_callback(callback)))))


def rerun_callback(session: Session, callback: CallbackOrId) -> Call[Callback]:
    """Process a callback again, as this version reads it."""
    response = yield from send(session, Request(method="POST", path=f"{_callback(callback)}/rerun"))
    return value_of(Callback, response)


def rerun_callbacks(session: Session, decisions: Sequence[str], limit: int | None) -> Call[int]:
    """Process every callback with some decisions again; return their number."""
    document = given({"decision": list(decisions), "limit": limit})
    response = yield from send(session, Request(method="POST", path="/v1/callbacks/rerun", document=document))
    try:
        return int(read_document(response)["rerun"])
    except (KeyError, TypeError, ValueError) as error:
        raise unexpected(response) from error


def _callback(callback: CallbackOrId) -> str:
    return f"/v1/callbacks/{id_of(callback)}"
