"""Reading of the records and callbacks of sunoapi.org and kie.ai, and of their refusals."""

from collections.abc import Mapping
from typing import Any

from service.domain.errors import Unreadable
from service.domain.task import ENDED, Failure, Result, State, Update
from service.providers.kie_envelope import FAILURES, agrees, job_of, refusal_of
from service.providers.newapi.failure_texts import RETRYABLE, failure_from_text
from service.providers.read import compact, fields, identifier, items, line, link, links, percent, prose, word
from service.providers.suno.clips import (
    Record,
    extras_of,
    file_result,
    lyrics_in,
    outputs_of,
    status_word,
    translated,
)
from service.providers.wire import Callback, Reply

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
VERDICTS = {"sensitive_word_error": "content_policy", "create_task_failed": "provider_error"}
"""Failure codes of statuses that name the cause; for any other the code tells, else the text."""
_STATUS_FIELDS = ("callbackType", "status", "successFlag", "state")
_FILES = ("audioWavUrl", "audio_wav_url", "videoUrl", "video_url")
_SPLIT = ("vocal_removal_info", "vocalRemovalInfo")
_TEXT_FIELDS = ("errorMessage", "failMsg", "errorMsg", "error")
_CODE_FIELDS = ("errorCode", "failCode")


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
