"""OpenAI's audio: speech (POST /v1/audio/speech) answers with bytes; transcriptions and translations take a file."""

import base64
import re
from collections.abc import Mapping
from typing import Any

from service.domain.errors import Uncertain
from service.domain.task import Result, State, Task, Update
from service.domain.text import storable
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge
from service.providers.form import file, form, is_inline
from service.providers.openai.family import model_of
from service.providers.openai.refusals import carries_error, refusal, refused_within
from service.providers.read import compact, fields, items, unpacked
from service.providers.stream import events_in, is_stream
from service.providers.wire import Call, Exchange, Reply

_SPEECH = "/v1/audio/speech"
_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
"""The type of each ``response_format``."""
_MAGIC = (
    (b"ID3", "audio/mpeg"),
    (b"OggS", "audio/opus"),
    (b"fLaC", "audio/flac"),
    (b"RIFF", "audio/wav"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf1", "audio/aac"),
    (b"\xff\xf9", "audio/aac"),
)
_BYTES = ("application/octet-stream", "binary/octet-stream")
_MAX_TEXT = 4096
_MAX_FILE = 25 * 1024 * 1024
_PAGE = re.compile(r"\s*<(!doctype|html|head|body)\b", re.IGNORECASE)
_SUBTITLES = ("application/x-subrip", "application/srt")
_SEGMENTS = ("segments", "words")


class Audio(Dialect):
    """Speech, transcription, translation. All are synchronous."""

    facts = Facts(
        family="openai",
        name="audio",
        operations={
            "text_to_speech": _SPEECH,
            "transcription": "/v1/audio/transcriptions",
            "translation": "/v1/audio/translations",
        },
        synchronous=frozenset({"text_to_speech", "transcription", "translation"}),
        typical_seconds={"text_to_speech": 10.0, "transcription": 20.0, "translation": 20.0},
        uploads={"transcription": ("audio",), "translation": ("audio",)},
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call: JSON for speech, a form with the recording for the others."""
        del callback_url
        path, given = self.facts.operations[task.operation], task.input
        if task.operation == "text_to_speech":
            body = {
                "model": model_of(task),
                "input": given.get("text"),
                "voice": given.get("voice", "alloy"),
                "instructions": given.get("instructions"),
                "speed": given.get("speed"),
                "response_format": given.get("format"),
            }
            return Call(method="POST", path=path, json=merge(body, task.options), headers={"Accept": "*/*"})
        source = given.get("audio", "")
        fields_of_form = {
            "file": file(source, "audio") if is_inline(source) else source,
            "model": model_of(task),
            "language": given.get("language"),
            "prompt": given.get("prompt"),
            "temperature": given.get("temperature"),
            "response_format": given.get("format"),
        }
        sent = form(merge(fields_of_form, task.options))
        return Call(method="POST", path=path, form=sent, headers={"Accept": "*/*"})

    def submit(self, task: Task, callback_url: str | None) -> Exchange:
        """Request the work. The requested format gives the type of bytes whose type is not stated."""
        call = self.facts.creating(task.operation, self.create(task, callback_url))
        reply = yield call
        if task.operation != "text_to_speech":
            return _read_text(reply)
        wanted = task.options.get("response_format", task.input.get("format", "mp3"))
        return _read_speech(reply, _TYPES.get(str(wanted)))

    def query(self, task: Task) -> Call:
        """Return a call that finds nothing: there is no job."""
        del task
        return Call(method="GET", path="/v1/models")

    def read_created(self, reply: Reply) -> Update:
        """Read an answer: the bytes of a speech, or a transcript."""
        return _read_speech(reply, None) if reply.endpoint.endswith("/speech") else _read_text(reply)

    def read_status(self, reply: Reply) -> Update:
        """Raise the error of a poll: there is no job."""
        raise refusal(reply, creating=False)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what OpenAI's reference rules out."""
        found = super().validate(task)
        text, audio = task.input.get("text", ""), task.input.get("audio", "")
        if task.operation == "text_to_speech" and len(text) > _MAX_TEXT:
            found.append(Mistake("input.text", f"It may have {_MAX_TEXT:,} characters at most."))
        if audio[:5].lower() == "data:" and len(audio) * 3 // 4 > _MAX_FILE:
            found.append(Mistake("input.audio", "The recording may have 25 MB at most."))
        return found


# What is read ----------------------------------------------------------------------------------------------------


def _read_speech(reply: Reply, wanted: str | None) -> Update:
    """Read the bytes of a speech as a ``data:`` URL.

    :param wanted: the type that was asked for, where that is known
    """
    if not reply.ok or carries_error(reply.document) or isinstance(reply.document, dict):
        raise refusal(reply, creating=True)
    if is_stream(reply):
        return _speech(_joined_audio(reply), wanted or "audio/mpeg")
    body = unpacked(reply.body, reply.headers)
    stated = reply.header("content-type").partition(";")[0].strip().lower()
    if stated.startswith("audio/"):
        return _speech(body, stated)
    known = next((kind for magic, kind in _MAGIC if body.startswith(magic)), None)
    if known is None and (stated in _BYTES or not stated):
        known = wanted
    if known is None:
        raise Uncertain("unreadable", "the answer is no audio")
    return _speech(body, known)


def _speech(body: bytes, kind: str) -> Update:
    if not body:
        raise Uncertain("unreadable", "the answer is empty")
    url = f"data:{storable(kind)};base64,{base64.b64encode(body).decode()}"
    return Update(state=State.SUCCEEDED, results=(Result("audio", url),))


def _joined_audio(reply: Reply) -> bytes:
    """Return the audio that the pieces of a stream make (``stream_format`` sse)."""
    events, _ = events_in(reply.text)
    _raise_error_in([event.document for event in events])
    if not any(event.name == "speech.audio.done" for event in events):
        raise Uncertain("unreadable", "the stream ended before the speech was complete")
    pieces = [fields(event.document).get("audio") for event in events]
    try:
        return b"".join(base64.b64decode(piece) for piece in pieces if isinstance(piece, str))
    except ValueError:
        raise Uncertain("unreadable", "the stream holds no audio") from None


def _read_text(reply: Reply) -> Update:
    """Read a transcript: the ``text`` of a document, or the whole of a plain text. A silent recording has an empty one."""
    document = reply.document
    if not reply.ok or carries_error(document):
        raise refusal(reply, creating=True)
    if is_stream(reply):
        return _transcript(_joined_text(reply), {})
    text = document.get("text") if isinstance(document, dict) else None
    if isinstance(text, str):
        return _transcript(text, document)
    stated = reply.header("content-type").partition(";")[0].strip().lower()
    is_text = (
        stated.startswith("text/")
        or stated in _SUBTITLES
        or (not stated and reply.text.strip() and reply.text.lstrip()[0] not in "{[")
    )
    if is_text and not isinstance(document, dict) and not _PAGE.match(reply.text):
        return _transcript(reply.text, {})
    raise Uncertain("unreadable", "the answer is no transcript")


def _transcript(text: str, document: Mapping[str, Any]) -> Update:
    """Return the text; the times of segments and words, and their speakers, stand beside it."""
    kept = {name: document[name] for name in _SEGMENTS if items(document.get(name))}
    beside = (Result("json", text=compact(kept), role="extra"),) if kept else ()
    return Update(state=State.SUCCEEDED, results=(Result("text", text=storable(text)), *beside))


def _joined_text(reply: Reply) -> str:
    """Return the transcript of a stream: that of its last event, which has all of it."""
    events, _ = events_in(reply.text)
    _raise_error_in([event.document for event in events])
    done = next((fields(each.document) for each in events if each.name == "transcript.text.done"), {})
    text = done.get("text")
    if not isinstance(text, str):
        raise Uncertain("unreadable", "the stream ended before the transcript was complete")
    return text


def _raise_error_in(documents: list[Any]) -> None:
    """Raise the error that a stream holds, if any."""
    wrong = next((each for each in documents if carries_error(each)), None)
    if wrong is not None:
        raise refused_within(wrong)
