"""OpenAI's images (POST /v1/images/generations and /v1/images/edits): the answer is the picture."""

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from typing import Any

from service.domain.errors import Uncertain
from service.domain.task import Result, State, Task, Update
from service.domain.text import storable
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge
from service.providers.form import file, form, is_inline
from service.providers.openai.family import model_of
from service.providers.openai.refusals import carries_error, refusal, refused_within
from service.providers.read import fields, is_output, items, link, word
from service.providers.stream import events_in, is_stream
from service.providers.wire import Call, Reply

_SAME = ("quality", "background", "output_format", "output_compression", "moderation", "input_fidelity")
_FIXED = {"1:1": "1024x1024", "3:2": "1536x1024", "2:3": "1024x1536"}
"""The sizes of models before gpt-image-2."""
_OLD = ("gpt-image-1", "chatgpt-image", "dall-e")
_LONG_SIDES = {"1k": 1536, "2k": 2560, "4k": 3840}
_MAX_PIXELS = 3840 * 2160
_STEP = 16
_MAX_RATIO = 3
_MAX_PROMPT = 32_000
_MAX_ANSWER = 32 * 1024 * 1024
"""Bytes: a picture of 3840x2160 takes some 15 MB in base64."""
_TYPES = {"jpg": "jpeg", "svg": "svg+xml"}
_MAGIC = (
    (b"\x89PNG", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF8", "gif"),
    (b"<svg", "svg+xml"),
    (b"<?xml", "svg+xml"),
)


class Images(Dialect):
    """Images and edits. They are synchronous: a lost answer is uncertain, and there is nothing to poll."""

    facts = Facts(
        family="openai",
        name="images",
        operations={"text_to_image": "/v1/images/generations", "image_to_image": "/v1/images/edits"},
        synchronous=frozenset({"text_to_image", "image_to_image"}),
        typical_seconds={"text_to_image": 40.0, "image_to_image": 50.0},
        uploads={"image_to_image": ("image", "images", "mask")},
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that makes the images; an edit is a form with files."""
        del callback_url
        path, body = self.facts.operations[task.operation], _body(task)
        if task.operation == "text_to_image":
            return Call(method="POST", path=path, json=merge(body, task.options), max_answer=_MAX_ANSWER)
        sent = form(merge({**body, **_files(task)}, task.options))
        return Call(method="POST", path=path, form=sent, max_answer=_MAX_ANSWER)

    def query(self, task: Task) -> Call:
        """Return a call that finds nothing: there is no job."""
        del task
        return Call(method="GET", path="/v1/models")

    def read_created(self, reply: Reply) -> Update:
        """Read the images, also of a stream."""
        if not reply.ok or carries_error(reply.document):
            raise refusal(reply, creating=True)
        holders = _streamed(reply) if is_stream(reply) else [fields(reply.document)]
        results = [each for holder in holders for each in _pictures(holder)]
        if not results:
            raise Uncertain("unreadable", "the answer has no image")
        return Update(state=State.SUCCEEDED, results=tuple(results))

    def read_status(self, reply: Reply) -> Update:
        """Raise the error of a poll: there is no job."""
        raise refusal(reply, creating=False)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what OpenAI's reference rules out."""
        found = super().validate(task)
        if task.operation not in self.facts.operations:
            return found
        if len(task.input.get("prompt", "")) > _MAX_PROMPT:
            found.append(Mistake("input.prompt", f"It may have {_MAX_PROMPT:,} characters at most."))
        if "size" not in task.options:
            found += _size_mistakes(task)
        if task.operation == "image_to_image" and not {"image", "image[]"} & task.options.keys():
            found += [] if _sources(task) else [Mistake("input.image", "is required here")]
        return found


# What is sent ----------------------------------------------------------------------------------------------------


def _body(task: Task) -> dict[str, Any]:
    given = task.input
    body = {"model": model_of(task), "prompt": given.get("prompt"), "n": given.get("count"), "size": _size(task)}
    return body | {name: given[name] for name in _SAME if name in given}


def _sources(task: Task) -> list[str]:
    """Return the pictures that are given, the first one first."""
    first = [task.input["image"]] if "image" in task.input else []
    return [*first, *task.input.get("images", ())]


def _files(task: Task) -> dict[str, Any]:
    """Return the pictures as files; ``image[]`` is repeated where there are several."""
    pictures = [_medium(source, f"image-{number}") for number, source in enumerate(_sources(task), 1)]
    mask = task.input.get("mask")
    named = {"image": pictures[0]} if len(pictures) == 1 else {"image[]": pictures}
    return {**(named if pictures else {}), "mask": None if mask is None else _medium(mask, "mask")}


def _medium(source: str, stem: str) -> Any:
    return file(source, stem) if is_inline(source) else source


def _size(task: Task) -> str | None:
    """Return the size in pixels of a shape and a resolution; None where neither is given."""
    ratio, resolution = task.input.get("aspect_ratio"), task.input.get("resolution")
    if ratio is None and resolution is None:
        return None
    shape = _reduced(ratio or "1:1")
    if resolution is None and shape in _FIXED:
        return _FIXED[shape]
    width, height = (int(side) for side in shape.split(":"))
    long = _LONG_SIDES.get(str(resolution or "1k").lower(), _LONG_SIDES["1k"])
    if resolution is None or str(resolution).lower() == "1k":
        long = long if width != height else 1024
    scale = min(long / max(width, height), math.sqrt(_MAX_PIXELS / (width * height)))
    sides = (max(int(side * scale) // _STEP * _STEP, _STEP) for side in (width, height))
    return "x".join(map(str, sides))


def _reduced(ratio: str) -> str:
    width, height = (int(side) for side in ratio.split(":"))
    divisor = math.gcd(width, height)
    return f"{width // divisor}:{height // divisor}"


def _size_mistakes(task: Task) -> Sequence[Mistake]:
    ratio, resolution = task.input.get("aspect_ratio"), task.input.get("resolution")
    model, found = model_of(task), []
    if resolution is not None and str(resolution).lower() not in _LONG_SIDES:
        found.append(Mistake("input.resolution", f"Give one of {', '.join(_LONG_SIDES)}, or `size` in options."))
    if resolution is not None and model.startswith(_OLD) and str(resolution).lower() != "1k":
        found.append(Mistake("input.resolution", f"{model} makes 1k only."))
    if ratio is None:
        return found
    width, height = (int(side) for side in ratio.split(":"))
    if model.startswith(_OLD) and _reduced(ratio) not in _FIXED:
        found.append(Mistake("input.aspect_ratio", f"{model} makes {', '.join(_FIXED)} only."))
    elif max(width, height) > _MAX_RATIO * min(width, height):
        found.append(Mistake("input.aspect_ratio", "It may be from 1:3 to 3:1."))
    return found


# What is read ----------------------------------------------------------------------------------------------------


def _streamed(reply: Reply) -> list[Mapping[str, Any]]:
    """Return the content of the completed events of a stream. Partial images are no results."""
    events, _ = events_in(reply.text)
    for event in events:
        if event.name == "error" or carries_error(event.document):
            raise refused_within(event.document)
    done = [fields(event.document) for event in events if event.name.endswith(".completed")]
    if not done:
        raise Uncertain("unknown", None)
    return done


def _pictures(holder: Mapping[str, Any]) -> list[Result]:
    """Return the pictures of an answer, or the one of a completed event."""
    stated = word(holder.get("output_format"))
    held = [fields(each) for each in items(holder.get("data"))] if "data" in holder else [holder]
    found = [_picture(each, word(each.get("output_format")) or stated) for each in held]
    return [each for each in found if each is not None]


def _picture(item: Mapping[str, Any], stated: str | None) -> Result | None:
    encoded = item.get("b64_json")
    if isinstance(encoded, str) and encoded.strip():
        source = encoded.strip()
        if source[:5].lower() != "data:":
            source = f"data:image/{_type(source, stated)};base64,{source}"
        url = storable(source) if is_output(source) else None
    else:
        url = link(item.get("url"), relative=False)
    return None if url is None else Result("image", url)


def _type(encoded: str, stated: str | None) -> str:
    """Return the type of a picture: as stated, else by its first bytes, else PNG."""
    if stated is not None:
        return _TYPES.get(stated.lower(), stated.lower())
    try:
        start = base64.b64decode(encoded[:64].rstrip("=")[: len(encoded[:64].rstrip("=")) // 4 * 4])
    except (binascii.Error, ValueError):
        return "png"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "webp"
    return next((kind for magic, kind in _MAGIC if start.startswith(magic)), "png")
