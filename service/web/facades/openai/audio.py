"""OpenAI's audio: speech, transcriptions, translations. The request is held until the result is there."""

import math
from typing import Any, Final

import orjson
from starlette.responses import PlainTextResponse, Response

from service.domain.task import Task
from service.flows.webhooks.formats.shapes import outputs, texts
from service.web.facades.body import Fields, is_one_of
from service.web.facades.door import DoorRequest, DoorRoute, shown
from service.web.facades.media import media_response
from service.web.facades.models import Target, fitting, target_of
from service.web.facades.outcome import held
from service.web.problems import Problem

_PLAIN: Final = frozenset({"text", "srt", "vtt"})
"""Formats of a transcript that are no JSON."""
_SPEECH: Final = {"model", "input", "voice", "instructions", "speed", "response_format", "stream_format"}
_TEXT: Final = {"model", "file", "language", "prompt", "temperature", "response_format", "stream"}


def speech_request(target: Target, said: Fields) -> dict[str, Any]:
    """Return our request of a speech in OpenAI's form."""
    voice = said.get("voice")
    given = {
        "text": said.get("input"),
        "prompt": said.get("input"),
        "voice": voice.get("id") if isinstance(voice, dict) else voice,
        "instructions": said.get("instructions"),
        "speed": said.get("speed"),
        "format": said.get("response_format"),
        "model": target.model,
    }
    return _asked(target, given, said, _SPEECH)


def transcript_request(target: Target, said: Fields) -> dict[str, Any]:
    """Return our request of a transcript in OpenAI's form."""
    given = {
        "audio": said.get("file"),
        "language": said.get("language"),
        "prompt": said.get("prompt"),
        "temperature": _number(said.get("temperature")),
        "format": said.get("response_format"),
        "model": target.model,
    }
    return _asked(target, given, said, _TEXT)


def _number(value: Any) -> Any:
    """Return a number that a form has as a text; anything else, such as ``nan``, as it is."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return value
    return number if math.isfinite(number) else value


def _asked(target: Target, given: dict[str, Any], said: Fields, own: set[str]) -> dict[str, Any]:
    options = {name: value for name, value in said.items() if name not in own and value is not None}
    if target.family != "openai":
        options = {}
    return {
        "family": target.family,
        "operation": target.operation,
        "input": fitting(target, given),
        "options": options,
    }


async def speak(request: DoorRequest) -> Response:
    """Accept a speech, and return its bytes when they are there."""
    said = await request.fields()
    target = _target(request, said, "text_to_speech")
    accepted = await request.accept(speech_request(target, said), said)
    task = await held(request, accepted.task)
    found = outputs(task, "audio") or outputs(task)
    if not found:
        raise Problem(500, "provider_error", "the task has no audio", headers={"x-should-retry": "false"})
    return await media_response(request, task, found[0])


async def transcribe(request: DoorRequest) -> Response:
    """Accept a recording, and return its text when it is there."""
    said = await request.fields()
    operation = "translation" if request.route.path.endswith("/translations") else "transcription"
    target = _target(request, said, operation)
    accepted = await request.accept(transcript_request(target, said), said)
    task = await held(request, accepted.task)
    if is_one_of(said.get("response_format"), _PLAIN):
        return PlainTextResponse("".join(texts(task)))
    return shown(transcript_document(task))


def transcript_document(task: Task) -> dict[str, Any]:
    """Return a task as OpenAI shows a transcript: segments and words stand beside the text."""
    document: dict[str, Any] = {"text": "".join(texts(task))}
    for each in task.results:
        if each.role == "extra" and each.text is not None:
            beside = _beside(each.text)
            document |= {name: value for name, value in beside.items() if name in {"segments", "words"}}
    return document


def _beside(text: str) -> dict[str, Any]:
    """Return what stands beside a transcript; nothing where a result is no JSON object."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _target(request: DoorRequest, said: Fields, operation: str) -> Target:
    target = target_of(request.context, said.get("model"), (operation,), default="openai")
    return Target("openai", operation, target.model) if target.is_any else target


ROUTES: Final = (
    DoorRoute(method="POST", path="/v1/audio/speech", handler=speak),
    DoorRoute(method="POST", path="/v1/audio/transcriptions", handler=transcribe),
    DoorRoute(method="POST", path="/v1/audio/translations", handler=transcribe),
)
