"""Suno by sunoapi.org and kie.ai (/api/v1/*)."""

import base64
import dataclasses
import hashlib
import hmac
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from service.domain.errors import AccountProblem, Unavailable, Unreadable, UpstreamError
from service.domain.task import ENDED, Failure, Result, State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge
from service.providers.newapi import errors as newapi_errors
from service.providers.read import compact, fields, identifier, link, number, prose, word
from service.providers.suno.clips import (
    Record,
    extras_of,
    file_result,
    lyrics_in,
    outputs_of,
    status_word,
    translated,
)
from service.providers.suno.family import NO_SUBJECT, TYPICAL_SECONDS, clip_of, inherited_from, too_long
from service.providers.wire import UNREACHABLE_CALLBACK, Balance, BalanceExchange, Call, Callback, Reply

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
}
"""``status`` or ``successFlag`` of a record, ``callbackType`` of a callback (sunoapi.org and kie.ai), in lower case."""
FAILURES = {
    "400": "invalid_input",  # lyrics under copyright among them
    "408": "provider_timeout",
    "413": "content_policy",  # the upload is somebody's work
    "451": "invalid_input",  # our file could not be fetched
    **dict.fromkeys(("500", "501", "531"), "provider_error"),
}
"""``errorCode`` of a record, ``code`` of an error callback (kie.ai, music callbacks)."""
VERDICTS = {"sensitive_word_error": "content_policy", "create_task_failed": "provider_error"}
"""Failure codes of statuses that name the cause; for any other the code tells, else the text."""
REFUSALS: Mapping[int, tuple[type[UpstreamError], str]] = {
    405: (Unavailable, "rate_limited"),
    430: (Unavailable, "rate_limited"),
    455: (Unavailable, "overloaded"),
}
"""Codes in a body whose meaning differs from that of the HTTP status (sunoapi.org, status codes)."""
_ROUTES = {
    **dict.fromkeys(("music", "persona_music"), "/api/v1/generate"),
    "extend": "/api/v1/generate/extend",
    "stems": "/api/v1/vocal-removal/generate",
    "lyrics": "/api/v1/lyrics",
    "wav": "/api/v1/wav/generate",
    "mp4": "/api/v1/mp4/generate",
    "persona": "/api/v1/generate/generate-persona",
    "timing": "/api/v1/generate/get-timestamped-lyrics",
    "style_tags": "/api/v1/style/generate",
}
_RECORDS = {"stems": "vocal-removal", "lyrics": "lyrics", "wav": "wav", "mp4": "mp4"}
"""Which kind of record is asked for: GET /api/v1/{kind}/record-info. All others are of ``generate``."""
_SAME = {
    "style": "style",
    "title": "title",
    "negative_prompt": "negativeTags",
    "vocal_gender": "vocalGender",
    "style_weight": "styleWeight",
    "weirdness": "weirdnessConstraint",
    "audio_weight": "audioWeight",
    "continue_at": "continueAt",
    "name": "name",
    "description": "description",
}
_FIELDS = frozenset({*_SAME, "prompt", "lyrics", "instrumental", "model", "clip", "persona", "split"})
_MODEL = "V4_5"
_SIGNATURE_TOLERANCE = 300.0
_TOO_MANY = 429


class SunoApi(Dialect):
    """/api/v1/* of sunoapi.org and kie.ai. Callbacks of kie.ai may be signed, but no more than their id and time."""

    facts = Facts(
        family="suno",
        name="sunoapi",
        operations=_ROUTES,
        callbacks=True,
        confirms=True,
        synchronous=frozenset({"persona", "timing", "style_tags"}),
        cost_unit="credits",
        refunds=True,
        reserved=frozenset({"callback_url", "callBackUrl"}),
        typical_seconds={name: seconds for name, seconds in TYPICAL_SECONDS.items() if name in _ROUTES},
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job. Both vendors refuse one without a callback URL."""
        hook = None if task.operation in self.facts.synchronous else callback_url or UNREACHABLE_CALLBACK
        body = merge({**_body(task), "callBackUrl": hook}, task.options)
        return Call(method="POST", path=self.facts.operations[task.operation], json=body)

    def query(self, task: Task) -> Call:
        """Return the call that asks for the record. The vendors allow three a second and task, and advise one in 30 seconds."""
        kind = _RECORDS.get(task.operation, "generate")
        return Call(method="GET", path=f"/api/v1/{kind}/record-info?taskId={quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: an id, or the result itself. A refusal is a ``code``, whatever the HTTP status."""
        data = fields(fields(reply.document).get("data"))
        outputs, job = _texts(data), identifier(data.get("taskId"))
        if not reply.ok or not _agrees(reply.document) or not (outputs or job):
            raise _refusal(reply, creating=True)
        state = State.SUCCEEDED if outputs else State.SUBMITTED
        return Update(state=state, external_id=None if outputs else job, results=outputs)

    def read_status(self, reply: Reply) -> Update:
        """Read the record."""
        if reply.ok and (update := _read_record(reply.document)) is not None:
            return update
        raise _refusal(reply, creating=False)

    def from_parent(self, task: Task, parent: Task) -> Mapping[str, Any] | list[Mistake]:
        """Return the clip, its task, and the model: an extension must be of the same."""
        found = inherited_from(task, parent)
        return found if isinstance(found, list) else {**found, "model": parent.model}

    def balance(self) -> BalanceExchange:
        """Request the credits."""
        reply = yield Call(method="GET", path="/api/v1/generate/credit")
        credit = number(fields(reply.document).get("data"))
        if not reply.ok or not _agrees(reply.document) or credit is None:
            raise _refusal(reply, creating=False)
        return Balance(credit, self.facts.cost_unit)

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: a stage with its tracks, or a whole record."""
        update = _read_record(callback.document)
        if update is None:
            raise Unreadable("no task in it")
        return [update]

    def verify_signature(self, callback: Callback, secret: str | None) -> bool | None:
        """Return whether kie.ai's signature is right, where its key is set: base64(HMAC-SHA256(taskId + "." + timestamp, key))."""
        if secret is None:
            return None
        stated = {name.lower(): value for name, value in callback.headers.items()}
        at, signature = stated.get("x-webhook-timestamp", ""), stated.get("x-webhook-signature", "")
        data, signed_at = fields(fields(callback.document).get("data")), number(at)
        signed = f"{_job(data)}.{at}".encode("utf-8", "replace")
        expected = base64.b64encode(hmac.digest(secret.encode(), signed, hashlib.sha256))
        if signed_at is None or not hmac.compare_digest(expected, signature.encode("utf-8", "replace")):
            return False
        return abs((callback.received_at or signed_at) - signed_at) <= _SIGNATURE_TOLERANCE

    def validate(self, task: Task) -> list[Mistake]:
        """Return what the vendors' pages rule out."""
        found = super().validate(task)
        return found + _mistakes(task) if task.operation in self.facts.operations else found


def _body(task: Task) -> dict[str, Any]:
    """Return a task as sunoapi.org and kie.ai take it."""
    given, taken = task.input, task.inherited
    body: dict[str, Any] = {theirs: given[ours] for ours, theirs in _SAME.items() if ours in given}
    source = {"taskId": taken.get("task_id"), "audioId": clip_of(task)}
    model = given.get("model", taken.get("model") or _MODEL)
    match task.operation:
        case "music" | "persona_music":
            body |= {"customMode": "prompt" not in given, "instrumental": given.get("instrumental", False)}
            body |= {"prompt": given.get("prompt", given.get("lyrics")), "model": model}
            return body | {"personaId": given.get("persona", taken.get("persona"))}
        case "extend":
            own = not given.keys().isdisjoint({"lyrics", "style", "title", "continue_at"})
            said = {"defaultParamFlag": own, "audioId": source["audioId"], "prompt": given.get("lyrics")}
            return {**body, **said, "model": model}
        case "stems":
            return {**source, "type": "split_stem" if given.get("split") == "twelve" else "separate_vocal"}
        case "lyrics":
            return {"prompt": given.get("prompt")}
        case "style_tags":
            return {"content": given.get("style")}
        case _:
            return {**body, **source}


def _mistakes(task: Task) -> list[Mistake]:
    """Return what sunoapi.org and kie.ai are known to refuse, and fields that they do not have."""
    body, kind = merge(_body(task), task.options), task.operation
    unsaid = "This protocol has no such field: leave it out, or choose another upstream."
    found = [Mistake(f"input.{name}", unsaid) for name in task.input if name not in _FIELDS]
    if kind == "music" and not (body.get("prompt") or body.get("style")):
        return [*found, NO_SUBJECT]
    written = kind in {"music", "persona_music"} and body.get("customMode") is not False
    needed = {
        "input.style": written and "style",
        "input.title": written and "title",
        "input.lyrics": written and body.get("instrumental") is False and "prompt",
        "input.persona": kind == "persona_music" and "personaId",
        "input.clip": kind in {"extend", "stems", "wav", "mp4", "persona", "timing"} and "audioId",
        "input.description": kind == "persona" and "description",
        "parent_id": kind in {"stems", "wav", "mp4", "persona", "timing"} and "taskId",
    }
    found += [Mistake(path, "is required here") for path, name in needed.items() if name and not body.get(name)]
    return found + too_long(task, body.get("model"), {"lyrics": body.get("prompt"), "style": body.get("style")})


def _agrees(document: Any) -> bool:
    """Return whether a body says that the request went well; some leave the code out."""
    code = document.get("code") if isinstance(document, dict) else "no object"
    return code is None or str(code) == str(HTTPStatus.OK.value)


def _refusal(reply: Reply, *, creating: bool) -> UpstreamError:
    """Return what a refusal means: by the body's code, whatever the HTTP status.

    429 means no credit at sunoapi.org and too many requests at kie.ai, and a dialect does not know its host. The text
    decides; without one it reads as too many requests. Nothing was created either way. A retry is right after a limit
    and harmless without credit, while to stop using the account would be wrong after a limit.
    """
    said = fields(reply.document)
    code, message = number(said.get("code")), word(said.get("msg")) or word(said.get("message"))
    if code is None or _agrees(said):
        return newapi_errors.refusal_in(reply, creating=creating)
    if code in REFUSALS:
        error, name = REFUSALS[int(code)]
        return error(name, message, retry_after=reply.retry_after)
    if code == _TOO_MANY and newapi_errors.failure_from_text(message).code == "insufficient_credit":
        return AccountProblem("insufficient_credit", message)
    return newapi_errors.refusal_in(dataclasses.replace(reply, status=int(code)), creating=creating)


def _job(data: Record) -> str | None:
    """Return the task's id: callbacks of music spell it otherwise than those of lyrics, and than records."""
    return identifier(data.get("task_id")) or identifier(data.get("taskId"))


def _read_record(document: Any) -> Update | None:
    """Read a record, which is in camelCase, or a callback, which is in snake_case."""
    envelope = fields(document)
    data = fields(envelope.get("data"))
    job, stage = _job(data), data.get("callbackType")
    said = next(
        (text for name in ("callbackType", "status", "successFlag") if (text := status_word(data.get(name)))), None
    )
    if said is None:
        known = job is not None or ("data" in envelope and not envelope["data"])  # null: not there yet
        return Update(external_id=job) if known and _agrees(document) else None
    state, unknown = translated(said, WORDS)
    tracks = _tracks(data)
    outputs = outputs_of(tracks) + lyrics_in(tracks) or _converted(data)
    if said == "callback_exception" and outputs:
        state = State.SUCCEEDED
    elif state is State.SUCCEEDED and not outputs:
        state = None  # a success without an output settles nothing
    return Update(
        state=state,
        external_id=job,
        results=(outputs if state in ENDED else ()) + extras_of(tracks, ended=state in ENDED),
        failure=_failure(said, envelope, data, called_back=stage is not None) if state is State.FAILED else None,
        unknown_word=unknown,
    )


def _tracks(data: Record) -> list[Record]:
    """Return the tracks, or the lyrics, of a record's response or of a callback."""
    response = fields(data.get("response"))
    held = response.get("sunoData") or response.get("data") or data.get("data")
    return [track for track in held if isinstance(track, dict)] if isinstance(held, list) else []


def _converted(data: Record) -> tuple[Result, ...]:
    """Return the files of a conversion: a WAV, a video, the tracks that a song was split into."""
    made = {name: link(url) for name, url in fields(data.get("response")).items() if name.endswith("Url")}
    return tuple(file_result(url) for name, url in made.items() if url is not None and name != "originUrl")


def _texts(data: Record) -> tuple[Result, ...]:
    """Return a result that is answered at once: a persona, timings, a style."""
    timings = compact(data) if isinstance(data.get("alignedWords"), list) else None
    text = identifier(data.get("personaId")) or timings or prose(data.get("result"))
    return () if text is None else (Result("text", text=text),)


def _failure(said: str, envelope: Record, data: Record, *, called_back: bool) -> Failure:
    """Return why it failed: by the code, else by the text."""
    told = [word(holder.get(name)) for holder in (data, envelope) for name in ("errorMessage", "errorMsg", "error")]
    told.append(word(envelope.get("msg")) if called_back else None)
    text = next(filter(None, told), None)
    stated = word(data.get("errorCode")) or (word(envelope.get("code")) if called_back else None) or ""
    # 'Rejected' is a word of theirs for any failure; gateways say it of the content.
    plain = newapi_errors.failure_from_text((text or "").lower().replace("rejected", "")).code
    code = VERDICTS.get(said) or FAILURES.get(stated) or plain
    code = "provider_error" if code == "unknown" else code
    return Failure(code, text, retryable=code in newapi_errors.RETRYABLE)
