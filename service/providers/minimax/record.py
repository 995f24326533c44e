"""Reading of MiniMax's answers about a task: of both generations, of a file, and of a callback."""

from collections.abc import Mapping
from typing import Any

from service.domain.task import Result, State, Update
from service.providers.minimax import codes
from service.providers.read import fields, identifier, items, link, prose, word

Record = Mapping[str, Any]
STATES: Mapping[str, State | None] = {
    "preparing": State.SUBMITTED,
    "queueing": State.SUBMITTED,
    "queued": State.SUBMITTED,
    "processing": State.RUNNING,
    "running": State.RUNNING,
    "success": State.SUCCEEDED,
    "succeeded": State.SUCCEEDED,
    "fail": State.FAILED,
    "failed": State.FAILED,
    "cancelled": State.CANCELLED,
    "expired": State.FAILED,
    "unknown": None,
}
"""The status words of both generations, in lower case."""
_EXPIRED = "expired"
_DEPTH = 4


def stated(record: Record) -> str | None:
    """Return the status word of a task in lower case."""
    found = record.get("status")
    return (word(found) or "").lower() or None if isinstance(found, str) else None


def task_in(document: Any) -> Record | None:
    """Return the task of a document: in ``task``, first in ``items``, or alone; None where there is none."""
    envelope = fields(document)
    listed = envelope.get("items")
    candidates = [
        fields(envelope.get("task")),
        *([fields(listed[0])] if isinstance(listed, list) and listed else []),
        envelope,
    ]
    return next((each for each in candidates if stated(each) is not None), None)


def is_challenge(document: Any) -> bool:
    """Return whether a document is the question by which MiniMax checks a callback URL."""
    return isinstance(document, dict) and isinstance(document.get("challenge"), str) and "status" not in document


def file_of(document: Any) -> Update | None:
    """Return the update of a file, whose link is the task's result; None where the document is none."""
    url = link(fields(fields(document).get("file")).get("download_url"))
    if url is None or codes.status_code_of(document):
        return None
    return Update(state=State.SUCCEEDED, results=(Result("video", url),))


def is_empty_file(document: Any) -> bool:
    """Return whether a document is a file without a link: it is not there yet."""
    return (
        bool(fields(fields(document).get("file"))) and codes.status_code_of(document) == 0 and file_of(document) is None
    )


def file_id_of(document: Any) -> str | None:
    """Return the id of the file that a finished task names. A gateway's record has it as ``fail_reason``, or within."""
    for _ in range(_DEPTH):
        record = fields(fields(document).get("task")) or fields(document)
        if STATES.get(stated(record) or "") is State.SUCCEEDED:
            reason = word(record.get("fail_reason")) or ""
            named = identifier(record.get("file_id")) or (reason if reason.isdigit() else None)
            if named is not None:
                return named
        document = fields(document).get("data")
    return None


def read_task(record: Record) -> Update:
    """Read a task of either generation. A success of the older one names a file: it settles nothing without its link."""
    said = stated(record)
    state = None if said is None else STATES.get(said)
    results = _results(record) if state is State.SUCCEEDED else ()
    return Update(
        state=None if state is State.SUCCEEDED and not results else state,
        external_id=identifier(record.get("task_id")) or identifier(record.get("id")),
        results=results,
        failure=_failure(record, state),
        incomplete=state is State.SUCCEEDED and not results,
        unknown_word=said if said is not None and said not in STATES else None,
    )


def _results(record: Record) -> tuple[Result, ...]:
    """Return the video, or the text that was asked for."""
    content = fields(record.get("content"))
    url = link(content.get("url")) or link(record.get("video_url"))
    if url is not None:
        return (Result("video", url),)
    text = prose(content.get("prompt"))
    return () if text is None else (Result("text", text=text),)


def _failure(record: Record, state: State | None) -> Any:
    if state is not State.FAILED:
        return None
    if stated(record) == _EXPIRED:
        return codes.failure(1001, fields(record.get("error")).get("message"))
    error, base = fields(record.get("error")), fields(record.get("base_resp"))
    if error:
        return codes.failure(error.get("code"), error.get("message"))
    return codes.failure(base.get("status_code"), base.get("status_msg"))


def jobs_in(document: Any) -> tuple[list[Record], int] | None:
    """Return the tasks of a page of the list and their total number; None where the document is none."""
    envelope = fields(document)
    listed, total = envelope.get("items"), envelope.get("total")
    if not isinstance(listed, list) or type(total) is not int:
        return None
    return [fields(each) for each in items(listed)], total
