"""Reading of clips, lyrics and the documents around them, which all protocols of Suno share."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from service.domain.task import ENDED, Failure, Result, State, Update
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import failure_from_text
from service.providers.read import (
    MAX_ITEMS,
    compact,
    fields,
    identifier,
    items,
    kind_of,
    line,
    link,
    nested,
    percent,
    prose,
    word,
)

WORDS: Mapping[str, State | None] = {
    **newapi_errors.STATES,  # a task's own: NOT_START, SUBMITTED, QUEUED, IN_PROGRESS, SUCCESS, FAILURE, UNKNOWN
    "": State.SUBMITTED,
    "streaming": State.RUNNING,  # a clip's: it can be listened to, and is not finished
    "processing": State.RUNNING,
    "complete": State.SUCCEEDED,
    "error": State.FAILED,
    "fail": State.FAILED,
    "cancelled": State.CANCELLED,
    "canceled": State.CANCELLED,
    "text": State.RUNNING,  # stages of a callback
    "first": State.RUNNING,
    # Words of related gateways
    **dict.fromkeys(("pending", "ready", "created"), State.SUBMITTED),
    **dict.fromkeys(("stream", "awaiting"), State.RUNNING),
    **dict.fromkeys(("completed", "succeeded", "succeed", "success", "done"), State.SUCCEEDED),
    **dict.fromkeys(("failed", "timeout", "expired"), State.FAILED),
}
"""The words of tasks (Suno-API, new-api) and of clips (Suno itself), in lower case; case is not to be relied on."""
_NOT_READY = 1102
_DONE = 100
_AGREES = frozenset({"success", "0", "1", "200"})
_ROW = frozenset({"action", "fail_reason", "submit_time"})
_CLIP = frozenset({"audio_url", "video_url", "image_url", "media_urls", "metadata", "clipId", "cld2AudioUrl"})
_AUDIO = ("audio_url", "cld2AudioUrl", "audioUrl", "source_audio_url", "sourceAudioUrl")
_STREAM = ("stream_audio_url", "streamAudioUrl", "source_stream_audio_url", "sourceStreamAudioUrl")
_COVER = ("image_large_url", "image_url", "imageUrl", "source_image_url", "sourceImageUrl")
_FILE = ("wav_file_url", "wav_url", "mp4_file_url", "mp4_url", "mp4", "video_url")
_DEPTH = 5
Record = Mapping[str, Any]


def agrees(envelope: Record) -> bool:
    """Return whether an envelope reports that the request succeeded. It does not report on the task."""
    code = envelope.get("code")
    return envelope.get("success") is True or (not isinstance(code, bool) and str(code).strip().lower() in _AGREES)


def unwrapped(document: Any) -> Any:
    """Return the content of the envelopes. A task has its outputs as ``data``, but is no envelope."""
    for _ in range(_DEPTH):
        if not isinstance(document, dict) or "data" not in document or is_row(document):
            break
        if "code" in document and not agrees(document):
            break
        document = nested(document["data"])
    return document


def is_row(said: Any) -> bool:
    """Return whether a value is a task as a gateway keeps it: not a clip, and not an envelope."""
    if not isinstance(said, dict):
        return False
    return bool({"task_id", "callbackType", *_ROW} & said.keys()) or ("status" in said and "data" in said)


def is_lyrics(said: Any) -> bool:
    """Return whether a value is a text of lyrics."""
    return isinstance(said, dict) and "text" in said and "audio_url" not in said


def clips_in(value: Any) -> list[Record]:
    """Return the clips in a value: a list, an object with a list, or a clip alone."""
    value = nested(value)
    if isinstance(value, dict):
        held = (nested(value.get(name)) for name in ("clips", "data"))
        value = next((each for each in held if isinstance(each, list)), [value])
    clips = value[:MAX_ITEMS] if isinstance(value, list) else []
    return [clip for clip in clips if isinstance(clip, dict) and _CLIP & clip.keys()]


def job_of(row: Record) -> str | None:
    """Return a task's id: ``task_id``, or an ``id`` that is a text. Newer builds use ``id`` for the number of a row."""
    stated = identifier(row.get("task_id")) or identifier(row.get("taskId"))
    return stated or (identifier(row["id"]) if isinstance(row.get("id"), str) else None)


def status_word(value: Any) -> str | None:
    """Return a status word; a blank one is a word too, None where there is none."""
    return value.strip().lower() if isinstance(value, str) else None


def translated(value: Any, words: Mapping[str, State | None]) -> tuple[State | None, str | None]:
    """Return the state that a word means; and the word where the table does not have it."""
    said = status_word(value)
    return (None, None) if said is None else (words.get(said), None if said in words else word(said))


def read_row(row: Record) -> Update:
    """Read a task as a gateway keeps it. Its own word counts; where it has none, those of its clips."""
    held = nested(row.get("data"))
    clips, texts = clips_in(held), lyrics_in(held)
    stated = status_word(row.get("status", row.get("callbackType")))
    state, unknown = translated(stated, WORDS)
    if stated is None and _ROW.isdisjoint(row):
        state, unknown = _state_of([fields(held)] if is_lyrics(held) else clips)
    progress = percent(row.get("progress")) if "progress" in row else _slowest(clips)
    reason = None if link(row.get("fail_reason"), relative=False) else line(row.get("fail_reason"))
    outputs = outputs_of(clips) + texts + (_links(row) if state is State.SUCCEEDED and not clips else ())
    if state is State.SUCCEEDED and not outputs:
        state = None  # a success without an output settles nothing
    elif reason and progress == _DONE and stated and unknown is None and state not in ENDED:
        state = State.FAILED  # new-api has refunded it and never polls again, although the word means running
    return Update(
        state=state,
        external_id=job_of(row),
        progress=progress,
        results=(outputs if state in ENDED else ()) + extras_of(clips, ended=state in ENDED),
        failure=_failure(state, reason, clips),
        unknown_word=unknown,
    )


def read_clips(clips: Sequence[Record], *, whole: bool = True) -> Update:
    """Read clips without a task around them.

    :param whole: whether these are all clips: a part of them does not show the end of the task
    """
    state, unknown = _state_of(clips)
    outputs = outputs_of(clips)
    if state is State.SUCCEEDED and not outputs:
        state = None
    if state in ENDED and not whole:
        state = State.RUNNING
    ids = [found for clip in clips if (found := _clip_id(clip)) is not None]
    return Update(
        state=state,
        external_id=",".join(ids) or None,
        progress=_slowest(clips),
        results=(outputs if state in ENDED else ()) + extras_of(clips, ended=state in ENDED),
        failure=_failure(state, None, clips),
        unknown_word=unknown,
    )


def _state_of(clips: Sequence[Record]) -> tuple[State | None, str | None]:
    """Return a task's state by its clips: the state of the first unfinished one; without one, a failed clip fails the task.

    Suno-API reads only two clips. It reports a failed task while the second clip may still become playable.
    """
    states: list[State | None] = []
    for clip in clips:
        state, unknown = translated(clip.get("status"), WORDS)
        if unknown is not None:
            return None, unknown
        # Without a word only a final URL settles a clip: a percentage proves nothing.
        bare = status_word(clip.get("status")) is None and _final(clip) is not None
        states.append(State.SUCCEEDED if bare else state)
    if None in states or not states:
        return None, None
    unfinished = (state for state in states if state not in ENDED)
    return next(unfinished, State.SUCCEEDED if set(states) == {State.SUCCEEDED} else State.FAILED), None


def _clip_id(clip: Record) -> str | None:
    return identifier(clip.get("id")) or identifier(clip.get("clipId"))


def first_link(said: Record, names: Iterable[str]) -> str | None:
    """Return the first link among these fields."""
    return next((url for name in names if (url := link(said.get(name))) is not None), None)


def _final(clip: Record) -> str | None:
    """Return the clip's own file. audiopipe serves a stream that ends with the work; a failed clip does not play."""
    url, state = _audio(clip), WORDS.get(status_word(clip.get("status")) or "")
    return None if url is None or state is State.FAILED or "//audiopipe." in url else url


def _audio(clip: Record) -> str | None:
    """Return the clip's audio. Where its own field holds a placeholder, the audio is in ``media_urls``."""
    listed = (url for item in items(clip.get("media_urls")) if (url := link(item)) is not None)
    return first_link(clip, _AUDIO) or next((url for url in listed if kind_of(url, "audio") == "audio"), None)


def _is_withheld(clip: Record) -> bool:
    """Return whether a clip has an address for its audio that leads to none."""
    stated = [clip.get(name) for name in _AUDIO]
    return _audio(clip) is None and any(isinstance(each, str) and "://" in each for each in stated)


def outputs_of(clips: Sequence[Record]) -> tuple[Result, ...]:
    """Return the finished songs."""
    return tuple(Result("audio", url, item=_clip_id(clip)) for clip in clips if (url := _final(clip)) is not None)


def extras_of(clips: Sequence[Record], *, ended: bool) -> tuple[Result, ...]:
    """Return what goes with the songs: previews of unfinished ones, covers, videos."""
    found: list[Result] = []
    for clip in clips:
        if _is_withheld(clip):
            continue
        item, final = _clip_id(clip), _final(clip)
        heard = None if ended and final else _audio(clip) or first_link(clip, _STREAM)
        cover, video = first_link(clip, _COVER), link(clip.get("video_url"))
        found += [Result("audio", heard, role="preview", item=item)] if heard else []
        found += [Result("image", cover, role="cover", item=item)] if cover else []
        found += [Result("video", video, role="extra", item=item)] if video else []
    return tuple(found)


def _links(row: Record) -> tuple[Result, ...]:
    """Return a link of the row itself. Builds of new-api differ in the field."""
    url = link(row.get("result_url")) or link(row.get("fail_reason"), relative=False)
    return () if url is None else (file_result(url),)


def lyrics_in(held: Any) -> tuple[Result, ...]:
    """Return the texts of lyrics."""
    texts = [prose(each.get("text")) for each in (held if isinstance(held, list) else [held]) if is_lyrics(each)]
    return tuple(Result("text", text=text) for text in texts if text is not None)


def file_result(url: str) -> Result:
    """Return a file as a result; of unknown kind it counts as audio."""
    return Result(kind_of(url, "audio"), url)


def _slowest(clips: Sequence[Record]) -> int | None:
    return min((stated for clip in clips if (stated := percent(clip.get("progress"))) is not None), default=None)


def _failure(state: State | None, reason: str | None, clips: Sequence[Record]) -> Failure | None:
    """Return why it failed: by the task's reason, or by that of the failed clip. Suno's own word gives the better code."""
    if state is State.CANCELLED:
        return Failure("cancelled", reason) if reason else None
    if state is not State.FAILED:
        return None
    metadata = [fields(clip.get("metadata")) for clip in clips]
    kind = next(filter(None, (word(each.get("error_type")) for each in metadata)), None)
    text = next(filter(None, (word(each.get("error_message")) for each in metadata)), None)
    named = failure_from_text(kind)
    plain = failure_from_text(reason or text or kind)
    return plain if named.code in {"unknown", "provider_error"} else dataclasses.replace(named, message=plain.message)


def read_any(document: Any, *, raw: bool = False) -> Update | None:
    """Read a task of any shape: a row, clips, lyrics, bare or in an envelope, or a result by itself.

    :param raw: whether the ids of clips are the job's
    """
    held = unwrapped(document)
    said, clips = fields(held), clips_in(held)
    rows = [each for each in (held if isinstance(held, list) else [held]) if is_row(each)]
    if (update := read_immediate(said)) is not None:
        return update
    if rows:
        return read_row(rows[0])
    if is_lyrics(said):
        return dataclasses.replace(read_row({"data": said}), external_id=identifier(said.get("id")))
    if clips:
        return read_clips(clips) if raw else dataclasses.replace(read_clips(clips), external_id=None)
    if held == [] or (held is not document and held in (None, {})):
        return Update()  # an empty envelope has no information
    url = link(held) if isinstance(held, str) else None
    return None if url is None else Update(state=State.SUCCEEDED, results=(file_result(url),))


def read_immediate(said: Record) -> Update | None:
    """Read a document that is the whole result: a persona, a style, timings, a link; or that the file is not ready."""
    if said.get("code") == _NOT_READY:
        return Update(state=State.RUNNING)
    clip = identifier(said.get("root_clip_id"))
    persona = None if clip is None else identifier(said.get("id"))
    made = identifier(said["clip_id"]) if said.keys() == {"clip_id"} else None
    timings = compact(said) if isinstance(said.get("aligned_words"), list) else None
    text = persona or timings or made or prose(said.get("upsampled_tags"))
    url = None if is_row(said) or {"id", "clipId", "audio_url"} & said.keys() else first_link(said, _FILE)
    if text is not None:
        return Update(state=State.SUCCEEDED, results=(Result("text", text=text, item=clip),))
    return None if url is None else Update(state=State.SUCCEEDED, results=(file_result(url),))
