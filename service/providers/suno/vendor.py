"""Reading of the records and callbacks of sunoapi.org and kie.ai, and of their refusals."""

import base64
import dataclasses
import hashlib
import hmac
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from service.domain.errors import AccountProblem, NotFound, Unavailable, Uncertain, Unreadable, UpstreamError
from service.domain.task import ENDED, Failure, Result, State, Update
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import RETRYABLE, failure_from_text
from service.providers.read import compact, fields, identifier, items, line, link, links, number, percent, prose, word
from service.providers.suno.clips import (
    Record,
    extras_of,
    file_result,
    lyrics_in,
    outputs_of,
    status_word,
    translated,
)
from service.providers.wire import Balance, BalanceExchange, Call, Callback, Reply

WORDS: Mapping[str, State | None] = {
    "pending": State.SUBMITTED,
    "text_success": State.RUNNING,
    "first_success": State.RUNNING,
    "success": State.SUCCEEDED,
    **dict.fromkeys(("create_task_failed", "sensitive_word_error"), State.FAILED),
    **dict.fromkeys((f"generate_{what}_failed" for what in ("audio", "lyrics", "wav", "mp4")), State.FAILED),
    "callback_exception": State.FAILED,  # of the delivery: of the song only when it brings no tracks
    # A callback's stages
    "text": State.RUNNING,
    "first": State.RUNNING,
    "complete": State.SUCCEEDED,
    "error": State.FAILED,
    # kie.ai's task API, and callbacks of voices
    **dict.fromkeys(("waiting", "queuing"), State.SUBMITTED),
    "generating": State.RUNNING,
    "fail": State.FAILED,
}
"""``status``, ``successFlag`` or ``state`` of a record, ``callbackType`` of a callback, in lower case."""
FAILURES = {
    **dict.fromkeys(("400", "422"), "invalid_input"),  # lyrics under copyright among them
    "408": "provider_timeout",
    "413": "content_policy",  # the upload is protected by copyright
    "451": "invalid_input",  # our file could not be fetched
    **dict.fromkeys(("429", "433"), "rate_limited"),
    **dict.fromkeys(("500", "501", "531"), "provider_error"),
}
"""``errorCode`` or ``failCode`` of a record, ``code`` of an error callback."""
VERDICTS = {"sensitive_word_error": "content_policy", "create_task_failed": "provider_error"}
"""Failure codes of statuses that name the cause; for any other the code tells, else the text."""
REFUSALS: Mapping[int, tuple[type[UpstreamError], str]] = {
    405: (Unavailable, "rate_limited"),
    430: (Unavailable, "rate_limited"),
    433: (Unavailable, "rate_limited"),
    455: (Unavailable, "overloaded"),
    505: (AccountProblem, "forbidden"),  # the feature is switched off for the account or the model
}
"""Codes in a body whose meaning differs from that of the HTTP status (sunoapi.org, status codes)."""
_UNSETTLED = frozenset({409, 501})
"""Codes after which a job may exist: a conflict, and a failed generation."""
_TOO_MANY = 429
_SIGNATURE_TOLERANCE = 300.0
"""Seconds."""
_UNKNOWN_RECORD = "recordinfo is null"
_STATUS_FIELDS = ("callbackType", "status", "successFlag", "state")
_FILES = ("audioWavUrl", "audio_wav_url", "videoUrl", "video_url")
_SPLIT = ("vocal_removal_info", "vocalRemovalInfo")
_TEXT_FIELDS = ("errorMessage", "failMsg", "errorMsg", "error")
_CODE_FIELDS = ("errorCode", "failCode")


def agrees(document: Any) -> bool:
    """Return whether a body reports success. Some bodies leave the code out."""
    code = document.get("code") if isinstance(document, dict) else "no object"
    return code is None or str(code) == str(HTTPStatus.OK.value)


def refusal_of(reply: Reply, *, creating: bool) -> UpstreamError:
    """Return what a refusal means: by the body's code, whatever the HTTP status.

    429 means no credit at sunoapi.org and too many requests at kie.ai, and a dialect does not know its host. The text
    decides; without one it reads as too many requests. Nothing was created either way. A retry is right after a limit
    and harmless without credit, while to stop using the account would be wrong after a limit.
    """
    said = fields(reply.document)
    code, message = number(said.get("code")), line(said.get("msg")) or line(said.get("message"))
    if code is None or agrees(said):
        return newapi_errors.refusal_in(reply, creating=creating)
    if not creating and _UNKNOWN_RECORD in (message or "").lower():
        return NotFound("not_found", message)
    if code in REFUSALS:
        error, name = REFUSALS[int(code)]
        return error(name, message, retry_after=reply.retry_after)
    if code in _UNSETTLED:
        return (Uncertain if creating else Unavailable)("provider_error", message)
    if code == _TOO_MANY and failure_from_text(message).code == "insufficient_credit":
        return AccountProblem("insufficient_credit", message)
    return newapi_errors.refusal_in(dataclasses.replace(reply, status=int(code)), creating=creating)


def job_of(data: Record) -> str | None:
    """Return the task's id: callbacks of music spell it otherwise than those of lyrics, and than records."""
    return identifier(data.get("task_id")) or identifier(data.get("taskId"))


def read_record(document: Any) -> Update | None:
    """Read a record, which is in camelCase, or a callback, which is in snake_case; None for any other document."""
    envelope = fields(document)
    data = fields(envelope.get("data"))
    job, stage = job_of(data), data.get("callbackType")
    said = next((text for name in _STATUS_FIELDS if (text := status_word(data.get(name)))), None)
    tracks = _tracks(data)
    outputs = outputs_of(tracks) + lyrics_in(tracks) or _converted(data) or immediate_results(data)
    if said is None:
        return _without_status(document, job, outputs if job is not None else ())
    state, unknown = translated(said, WORDS)
    if said == "callback_exception" and outputs:
        state = State.SUCCEEDED
    elif state is State.SUCCEEDED and not outputs:
        state = None  # a success without an output settles nothing
    return Update(
        state=state,
        external_id=job,
        progress=percent(data.get("progress")),
        results=(outputs if state in ENDED else ()) + extras_of(tracks, ended=state in ENDED),
        failure=_failure(said, envelope, data, called_back=stage is not None) if state is State.FAILED else None,
        unknown_word=unknown,
    )


def read_status(reply: Reply) -> Update:
    """Read the answer to a poll: a record."""
    if reply.ok and (update := read_record(reply.document)) is not None:
        return update
    raise refusal_of(reply, creating=False)


def read_callback(callback: Callback) -> list[Update]:
    """Read a callback: a stage with its tracks, or a whole record."""
    update = read_record(callback.document)
    if update is None:
        raise Unreadable("no task in it")
    return [update]


def credits_left(path: str) -> BalanceExchange:
    """Request the credits of the account."""
    reply = yield Call(method="GET", path=path)
    left = number(fields(reply.document).get("data"))
    if not reply.ok or not agrees(reply.document) or left is None:
        raise refusal_of(reply, creating=False)
    return Balance(left, "credits")


def _without_status(document: Any, job: str | None, outputs: tuple[Result, ...]) -> Update | None:
    """Read a callback of a conversion, which states no status, or a record that is not there yet."""
    if not agrees(document):
        return None
    if outputs:
        return Update(state=State.SUCCEEDED, external_id=job, results=outputs)
    envelope = fields(document)
    return Update(external_id=job) if job is not None or ("data" in envelope and not envelope["data"]) else None


def _response(data: Record) -> Record:
    """Return what holds a record's outputs: an object, also as JSON text."""
    return fields(data.get("response")) or fields(data.get("resultJson"))


def _tracks(data: Record) -> list[Record]:
    """Return the tracks, or the lyrics, of a record's response or of a callback."""
    response = _response(data)
    held = items(response.get("sunoData")) or items(response.get("data")) or items(data.get("data"))
    return [track for track in held if isinstance(track, dict)]


def _converted(data: Record) -> tuple[Result, ...]:
    """Return the files of a conversion: a WAV, a video, the tracks that a song was split into."""
    response = _response(data)
    split = next((fields(data.get(name)) for name in _SPLIT if data.get(name)), {})
    listed = links(response.get("resultUrls"))
    named = [link(url) for name, url in {**response, **split}.items() if name.endswith(("Url", "_url"))]
    own = [link(data.get(name)) for name in _FILES]
    if listed:
        named = []  # frames and covers beside the list
    origins = {link(holder.get(name)) for holder in (response, split) for name in ("originUrl", "origin_url")}
    found = dict.fromkeys(url for url in [*listed, *named, *own] if url is not None and url not in origins)
    return tuple(file_result(url) for url in found)


def immediate_results(data: Record) -> tuple[Result, ...]:
    """Return a result that is a text: a persona, a voice, timings, a style, or another structured output."""
    made = _response(data).get("resultObject")
    timings = compact(data) if isinstance(data.get("alignedWords"), list) else None
    text = identifier(data.get("personaId")) or identifier(data.get("voiceId")) or timings or prose(data.get("result"))
    text = text or prose(made) or (compact(made) if isinstance(made, dict | list) and made else None)
    return () if text is None else (Result("text", text=text),)


def _failure(said: str, envelope: Record, data: Record, *, called_back: bool) -> Failure:
    """Return why it failed: by the status, the code, or the text, in this order. kie.ai's task API is read by the text first."""
    stated_texts = [line(holder.get(name)) for holder in (data, envelope) for name in _TEXT_FIELDS]
    stated_texts.append(line(envelope.get("msg")) if called_back else None)
    text = next(filter(None, stated_texts), None)
    stated = next(filter(None, (word(data.get(name)) for name in _CODE_FIELDS)), None)
    stated = stated or (word(envelope.get("code")) if called_back else None) or ""
    # 'Rejected' is their word for any failure; gateways use it for refused content.
    plain = failure_from_text((text or "").lower().replace("rejected", "")).code
    by_code = FAILURES.get(stated)
    first = plain if "state" in data and plain not in {"unknown", "provider_error"} else None
    code = VERDICTS.get(said) or first or by_code or plain
    code = "provider_error" if code == "unknown" and "state" not in data else code
    return Failure(code, text, retryable=code in RETRYABLE)


def signature_is_right(callback: Callback, secret: str | None) -> bool | None:
    """Return whether kie.ai's signature is right: base64(HMAC-SHA256(task id + "." + timestamp, key)); None without a key."""
    if secret is None:
        return None
    stated = {name.lower(): value for name, value in callback.headers.items()}
    at, signature = stated.get("x-webhook-timestamp", ""), stated.get("x-webhook-signature", "")
    data, signed_at = fields(fields(callback.document).get("data")), number(at)
    given = signature.encode("utf-8", "replace")
    # Callbacks spell the id in two ways, and the vendor's sample takes only one of them.
    jobs = {identifier(data.get("taskId")), identifier(data.get("task_id"))} - {None}
    signed = [f"{job}.{at}".encode("utf-8", "replace") for job in jobs]
    expected = [base64.b64encode(hmac.digest(secret.encode(), each, hashlib.sha256)) for each in signed]
    if signed_at is None or not any(hmac.compare_digest(each, given) for each in expected):
        return False
    return abs((callback.received_at or signed_at) - signed_at) <= _SIGNATURE_TOLERANCE
