"""The operations of OpenAI, and of the gateways with its protocols."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from service.domain.task import ResultKind, Task
from service.providers.operation import (
    FIELDS,
    SOURCE,
    Operation,
    Schema,
    choice,
    family,
    integer,
    number,
    operation,
    several,
    text,
)
from service.providers.talk import TALK_FIELDS

MODELS: Mapping[str, str] = {
    "text_to_image": "gpt-image-2",
    "image_to_image": "gpt-image-2",
    "chat": "gpt-6-luna",
    "chat_image": "gpt-4o-image",
    "response": "gpt-6-luna",
    "embeddings": "text-embedding-3-small",
    "text_to_speech": "gpt-4o-mini-tts",
    "transcription": "gpt-transcribe",
    "translation": "whisper-1",
    "text_to_video": "sora-2",
    "image_to_video": "sora-2",
}
"""The model of each operation, where the task names none. A gateway may offer others."""

_QUICK = 900.0
"""Seconds: the answer is the result, and is waited for 10 minutes."""
_TEXTS: Schema = {
    "description": "The text, or a list of texts.",
    "anyOf": [text("A text."), several("Texts.", text("A text."), maxItems=200)],
    "examples": [["dove", "cote"]],
}
_FIELDS: Mapping[str, Schema] = {
    **FIELDS,
    **TALK_FIELDS,
    "mask": text("PNG whose transparent parts are to be changed: a URL, or `data:`.", pattern=SOURCE),
    "quality": text("Quality of the image: `low`, `medium`, `high`, `auto`; of newer models also `xhigh`, `max`."),
    "background": choice("Background of the image.", "auto", "transparent", "opaque"),
    "output_format": text("Format of the image: `png`, `jpeg`, `webp`; of newer models also `gif`, `svg`."),
    "output_compression": integer("Compression of a WebP or JPEG, in percent.", minimum=0, maximum=100),
    "moderation": choice("How strictly the prompt is checked.", "auto", "low"),
    "input_fidelity": choice("How closely the given images are kept.", "high", "low"),
    "text": text("The words to be spoken.", examples=["Good morning from the dovecote."]),
    "texts": _TEXTS,
    "dimensions": integer("Length of each vector.", minimum=1),
    "voice": text("Name of the voice, such as `alloy`, `marin`, `cedar`.", default="alloy", examples=["alloy"]),
    "instructions": text("How it is to be spoken. `tts-1` has no such thing."),
    "speed": number("Pace of the speech.", minimum=0.25, maximum=4),
    "format": text(
        "Format of the output, by the provider's word: `mp3`, `wav`, `opus`; of a transcript `json`, `srt`, `vtt`."
    ),
    "language": text("Code of the language that is spoken, such as `en`.", examples=["en"]),
    "video": text(
        "The video: a URL, or `data:`. A `parent_id` names one that was made here.",
        pattern=SOURCE,
        examples=["https://example.com/cat.mp4"],
    ),
    "duration": number("Length in seconds: 4, 8, 12; at some hosts others.", exclusiveMinimum=0, examples=[8]),
    "name": text("Name of the character.", examples=["Ada"]),
}
_SHAPE = "quality background output_format output_compression moderation count aspect_ratio resolution model"
_TALK = "prompt+ messages system images max_tokens temperature model"


def _operation(
    name: str, produces: ResultKind, takes: str, *, aliases: tuple[str, ...] = (), deadline: float = _QUICK, **more: Any
) -> Operation:
    """Return an operation; ``more`` are other fields of it, and ``meanings`` of fields."""
    meanings: Mapping[str, str] | None = more.pop("meanings", None)
    made = operation(name, produces, takes, known=_FIELDS, aliases=aliases, deadline=deadline, meanings=meanings)
    model = made.input["properties"].get("model")
    if model is not None and name in MODELS:
        model["default"] = MODELS[name]
    return dataclasses.replace(made, **more)


_VIDEO = 3600.0
FAMILY = family(
    "openai",
    "OpenAI",
    _operation("text_to_image", "image", f"prompt* {_SHAPE}", aliases=("generate_image",)),
    _operation(
        "image_to_image", "image", f"prompt* image+ images mask input_fidelity {_SHAPE}", aliases=("edit_image",)
    ),
    _operation("chat", "text", f"{_TALK} count seed", aliases=("completion",)),
    _operation("chat_image", "image", "prompt* images model", aliases=("gpt_4o_image",)),
    _operation("response", "text", _TALK, aliases=("responses",), deadline=7200.0),
    _operation("embeddings", "json", "texts* dimensions model", aliases=("embedding",)),
    _operation("text_to_speech", "audio", "text* voice instructions speed format model", aliases=("speech",)),
    _operation("transcription", "text", "audio* language prompt temperature format model", aliases=("speech_to_text",)),
    _operation("translation", "text", "audio* prompt temperature format model"),
    _operation("text_to_video", "video", "prompt* duration+ aspect_ratio resolution model", deadline=_VIDEO),
    _operation("image_to_video", "video", "prompt* image* duration+ aspect_ratio resolution model", deadline=_VIDEO),
    _operation("remix", "video", "prompt*", deadline=_VIDEO, parent="required"),
    _operation("video_to_video", "video", "prompt* video", deadline=_VIDEO, parent="optional"),
    _operation("extend", "video", "prompt* duration+ video", deadline=_VIDEO, parent="optional"),
    _operation("character", "text", "name* video*"),
    _operation("models", "text", ""),
)


def model_of(task: Task) -> str:
    """Return the model that a task names, or else the one of its operation."""
    return task.model or MODELS[task.operation]
