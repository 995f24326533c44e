"""Reading of a video task as new-api gateways show it: their own record, a flat form, and OpenAI's video object."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from service.domain.errors import Unavailable, Uncertain, UpstreamError
from service.domain.task import Failure, Result, State, Update
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import RETRYABLE, failure_from_text
from service.providers.read import fields, identifier, items, kind_of, line, link, links, percent, word
from service.providers.wire import Reply

STATES: Mapping[str, State | None] = {
    **newapi_errors.STATES,
    "": State.SUBMITTED,  # a young task has no word yet
    **dict.fromkeys(("pending", "preparing", "created", "starting", "queueing"), State.SUBMITTED),
    **dict.fromkeys(("processing", "running", "generating"), State.RUNNING),
    **dict.fromkeys(("succeeded", "succeed", "completed", "complete", "finished"), State.SUCCEEDED),
    **dict.fromkeys(("failed", "fail", "error"), State.FAILED),
    **dict.fromkeys(("cancelled", "canceled"), State.CANCELLED),
    "expired": State.FAILED,
}
"""The status words of new-api's record and of OpenAI's video object, with the synonyms that new-api itself takes."""

Record = Mapping[str, Any]
_STATUS_FIELDS = ("status", "task_status")
_OUTPUTS = (
    ("metadata", "url"),
    ("video_url",),
    ("result", "video_url"),  # CometAPI's callback
    ("result_url",),
    ("url",),
)
"""The fields in which a gateway puts the URL, in order of precedence."""
_VENDOR_OUTPUTS = (
    ("task_result", "videos"),  # Kling
    ("task_result", "images"),
    ("file", "download_url"),  # MiniMax
    ("content", "video_url"),  # Seedance
    ("content", "url"),  # MiniMax-H3
    ("creations",),  # Vidu
    ("output", "video_url"),  # Wan
    ("output", "results"),
    ("video",),  # Grok
    ("assets", "video"),  # Luma
    ("video_url",),
    ("metadata", "url"),
    ("result_url",),
    ("url",),
    ("output",),
    ("outputs",),
    ("generations",),
)
"""The fields of vendors' URLs in the document that a gateway's record wraps."""
_REASONS = ("message", "msg", "fail_reason", "failure_reason", "task_status_msg", "status_msg", "err_msg", "detail")
_CODES = ("code", "err_code", "type")
_DEPTH = 5
_REJECTED = re.compile(r"\brejected\b|risk control|guardrail|third-party similarity", re.IGNORECASE)
_INVALID = re.compile(r"\binvalid\b", re.IGNORECASE)
_OF_THE_GATEWAY = re.compile(r"connection|proxy|character|json|response|status|session|header", re.IGNORECASE)
"""Words beside ``invalid`` and ``rejected`` that make it the gateway's own trouble."""


def is_task(document: Any) -> bool:
    """Return whether a document holds a task. A status word may also report an unknown task."""
    chain = records(document)
    if not chain or not _speaks(chain[0]):
        return False
    said = (_stated(chain[0]) or "").replace("-", "_")
    named = identifier_of(chain[0]) is not None or chain[0].get("object") == "video"
    shown = named or len(records(document, whole=True)) > 1 or "result_url" in chain[0]
    return shown and said != "not_found" and "error_type" not in chain[0]


def records(document: Any, *, whole: bool = False) -> list[Record]:
    """Return the objects that wrap one another as ``data`` or ``task``, from the outermost with a status on.

    :param whole: whether the envelope around it is returned, too
    """
    chain: list[Record] = []
    while len(chain) < _DEPTH and (record := fields(document)):
        chain.append(record)
        document = record.get("data") if fields(record.get("data")) else record.get("task")
    # Only the envelope and what it holds speak of the task. A vendor's word deeper in ends nothing by itself.
    return (
        chain if whole else chain[next((depth for depth, each in enumerate(chain[:2]) if _speaks(each)), len(chain)) :]
    )


def identifier_of(record: Record) -> str | None:
    """Return the id to ask with: ``task_id`` where there are two. The ``id`` of a record is a row's number."""
    return identifier(record.get("task_id")) or identifier(record.get("id"))


def created_id(document: Any) -> str | None:
    """Return the id in the answer to a submit, which may hold no status, or the id alone as ``data``."""
    data = fields(document).get("data")
    named = [identifier_of(record) for record in records(document, whole=True)[:2]]
    alone = identifier(data) if isinstance(data, str) and not fields(data) and agrees(document) else None
    return next((found for found in (*named, alone) if found is not None), None)


def agrees(document: Any) -> bool:
    """Return whether an answer is no refusal: its code, if any, reports success."""
    said = fields(document)
    code = word(said.get("code"))
    return not fields(said.get("error")) and (code is None or code.lower() in {"0", "1", "200", "success", "ok"})


def read_task(document: Any) -> Update:
    """Read a task in any of its shapes.

    The outermost status counts: a gateway may have given up what still runs inside. A success without a URL settles
    nothing, but for OpenAI's video object: there the file is below the task's own path.
    """
    chain = records(document)
    if not chain:
        return Update(external_id=created_id(document))
    said = _stated(chain[0])
    state = None if said is None else STATES.get(said)
    outputs = outputs_of(chain) if state is State.SUCCEEDED else ()
    job = identifier_of(chain[0])
    if state is State.SUCCEEDED and not outputs and chain[0].get("object") == "video" and job is not None:
        outputs = (Result("video", f"/v1/videos/{job}/content"),)
    return Update(
        state=state if outputs or state is not State.SUCCEEDED else None,
        external_id=job,
        progress=next((found for each in chain if (found := percent(each.get("progress"))) is not None), None),
        results=outputs,
        failure=failure_of(chain, state),
        incomplete=state is State.SUCCEEDED and not outputs,
        unknown_word=said if said is not None and said not in STATES else None,
    )


def outputs_of(chain: Sequence[Record]) -> tuple[Result, ...]:
    """Return the outputs of a success. Old gateways put the URL into ``fail_reason``."""
    found = _at(chain[0], _OUTPUTS, relative=False)
    for record in chain[1:]:
        found = found or _at(record, _VENDOR_OUTPUTS) or _at(record, _OUTPUTS, relative=False)
    found = found or _at(chain[0], _VENDOR_OUTPUTS[:-3]) or _at(chain[0], (("fail_reason",),), relative=False)
    return tuple(Result(kind_of(url, "video"), url) for url in found)


def _at(record: Record, paths: Sequence[tuple[str, ...]], *, relative: bool = True) -> list[str]:
    """Return the URLs at the first path of a record that has any."""
    for path in paths:
        holder: Any = record
        for name in path[:-1]:
            holder = fields(holder.get(name))
        value = holder.get(path[-1])
        found = links(value) if relative else [url for each in items(value) if (url := link(each, relative=False))]
        if found:
            return found
    return []


def failure_of(chain: Sequence[Record], state: State | None) -> Failure | None:
    """Return why it failed, by the innermost reason that names a cause."""
    reasons = [reason for record in reversed(chain) for reason in _reasons(record)]
    if state is State.CANCELLED:
        text = next((text for _, text in reasons if text is not None), None)
        return Failure("cancelled", text) if text else None
    if state is not State.FAILED:
        return None
    read = [video_failure(text, code) for code, text in reasons]
    found = next((each for each in read if each.code != "provider_error"), read[0] if read else None)
    if found is not None and found.code != "provider_error":
        return found
    for record in reversed(chain):
        if (ended := _ENDED.get(_stated(record) or "")) is not None:
            return Failure(ended, found.message if found else None, retryable=ended in RETRYABLE)
    return found or video_failure(None)


_ENDED = {"cancelled": "cancelled", "canceled": "cancelled", "expired": "provider_timeout"}
"""Vendors' words within a gateway's failure that tell the reason."""


def video_failure(text: str | None, code: str | None = None) -> Failure:
    """Return the failure that a code and a text report. Without either it is the provider's error.

    :param code: the provider's machine-readable word, which counts before the text
    """
    message = line(text) or line(code)
    if message is None:
        return Failure("provider_error", None, retryable=True)
    for said in (code, text):
        found = failure_from_text(said).code
        if found not in {"unknown", "provider_error"}:
            return Failure(found, message, retryable=found in RETRYABLE)
    plain = _OF_THE_GATEWAY.search(message) is None
    found = "provider_error"
    if plain and _REJECTED.search(message):
        found = "content_policy"
    elif plain and _INVALID.search(message):
        found = "invalid_input"
    return Failure(found, message, retryable=found in RETRYABLE)


def _reasons(record: Record) -> list[tuple[str | None, str | None]]:
    """Return the codes and texts that a record has for its failure, an error object's first."""
    found = []
    for holder in (record.get("error"), record.get("base_resp"), record.get("fail_reason"), record):
        said = fields(holder)
        if said is not record and fields(said.get("error")):
            said = fields(said.get("error"))  # a whole error envelope as a text
        text = (
            _plain(holder) if not said else next((text for each in _REASONS if (text := _plain(said.get(each)))), None)
        )
        names = ("err_code",) if said is record else _CODES
        code = next((code for name in names if (code := word(said.get(name)))), None)
        found.append((None if code is not None and code.lstrip("-").isdigit() else code, text))
    return [(code, text) for code, text in found if code is not None or text is not None]


def _plain(value: Any) -> str | None:
    """Return a text that is no URL and no object: of a JSON text its message."""
    said = fields(value)
    if said:
        return next((text for _, text in _reasons(said) if text is not None), None)
    text = line(value)
    return None if text is None or link(text, relative=False) is not None else text


def _stated(record: Record) -> str | None:
    """Return the status word in lower case; a blank one is a word too."""
    for name in _STATUS_FIELDS:
        value = record.get(name)
        if isinstance(value, str):
            return (word(value) or "").lower()
    return None


def _speaks(record: Record) -> bool:
    return _stated(record) is not None


def read_accepted(document: Any) -> Update | None:
    """Read the answer to a submit: where it has no word, the job is queued. None where it names no job, or refuses."""
    job = created_id(document)
    return None if job is None or not agrees(document) else accepted(read_task(document), job)


def refusal_of_submit(reply: Reply) -> UpstreamError:
    """Return the error that the answer to a refused submit means. An answer that names a job may hide it."""
    error = newapi_errors.refusal_in(reply, creating=True)
    if reply.ok and isinstance(error, Unavailable) and created_id(reply.document) is not None:
        return Uncertain(error.code, error.message)
    return error


def accepted(update: Update, job: str | None = None) -> Update:
    """Return the update of an accepted submit."""
    return dataclasses.replace(
        update, state=update.state or State.SUBMITTED, external_id=update.external_id or job, incomplete=False
    )
