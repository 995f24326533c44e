"""The responses about providers' callbacks as types."""

from typing import Annotated, Any, Final

from typing_extensions import TypedDict

from service.domain.events import rfc3339
from service.store.inbox import Entry
from service.store.tables import DECISIONS
from service.web.api.schema import Id, Time, about, one_of


class StoredCallback(TypedDict):
    """A provider's request to a callback URL, as it was stored."""

    id: Id
    task_id: Annotated[Id | None, about("Null where the submission is not in the database.")]
    upstream: str | None
    dialect: str | None
    decision: Annotated[str | None, one_of([*DECISIONS, None], "Null until it has been processed.")]
    detail: Annotated[str | None, about("The reason for the decision.")]
    size: Annotated[int, about("Bytes of the body.")]
    copies: Annotated[int, about("How many equal requests came.")]
    received_at: Time
    decided_at: Time | None


class WholeCallback(StoredCallback):
    """A callback with its headers, its body, and what this version reads in it."""

    headers: Annotated[dict[str, Any], about("The stored headers.")]
    body: Annotated[str, about("The body as text.")]
    reads_as: Annotated[str | None, about("What this version reads in it, in words.")]
    reading_error: Annotated[str | None, about("Why this version reads nothing in it.")]


class CallbackList(TypedDict):
    """A page of callbacks."""

    callbacks: list[StoredCallback]
    next: Annotated[str | None, about("The cursor of the next page; null on the last page.")]


class RerunResult(TypedDict):
    """The number of callbacks that are processed again."""

    rerun: int


MODELS: Final = (CallbackList, WholeCallback, RerunResult)


def render_callback(entry: Entry) -> dict[str, Any]:
    """Return a callback as lists show it."""
    received, submission = entry.received, entry.submission
    return {
        "id": str(received.id),
        "task_id": None if submission is None else str(submission.task_id),
        "upstream": None if submission is None else submission.upstream,
        "dialect": None if submission is None else submission.dialect,
        "decision": received.decision,
        "detail": received.detail,
        "size": len(received.body),
        "copies": received.copies,
        "received_at": rfc3339(received.received_at),
        "decided_at": rfc3339(received.decided_at),
    }
