"""The operations of Flux, and the bodies and checks that its protocols share."""

import functools
import math
import re
from collections.abc import Mapping
from typing import Any

from service.domain.task import Task
from service.domain.validation import Mistake
from service.providers import market
from service.providers.dialect import merge
from service.providers.operation import FIELDS as SHARED
from service.providers.operation import Schema, family, integer, number, operation, several, switch, text

VIDEO = "flux-3-video"
_SIDES = "Pixels to add at this side."
_FIELDS: Mapping[str, Schema] = SHARED | {
    "mask": text("URL of the mask, or `data:`. White is changed.", examples=["https://example.com/mask.png"]),
    "reference_images": several("Images besides the first, URLs or `data:`.", text("URL of the image."), maxItems=7),
    "finetune": text("Id of a LoRA, for the models that end in `-finetuned`."),
    "strength": number("How strongly the LoRA counts.", minimum=0, maximum=2),
    "width": integer("Width in pixels.", minimum=64),
    "height": integer("Height in pixels.", minimum=64),
    "generate_audio": switch("Whether the video has sound."),
    "draft": switch("Whether a cheap preview is made, which `enhance_draft` makes a video of."),
    "draft_cache": text("URL of the draft: a result of the preview.", examples=["https://example.com/draft.bin"]),
    **{side: integer(_SIDES, minimum=0, maximum=2048) for side in ("top", "bottom")},
    **{side: integer(_SIDES, minimum=0, maximum=2048, examples=[256]) for side in ("left", "right")},
    "grow": integer("Pixels by which the mask grows.", minimum=0, maximum=25),
}
_operation = functools.partial(operation, known=_FIELDS)
_image = functools.partial(_operation, deadline=1200.0)
_SIZE = "aspect_ratio width height"
_CLIP = "duration resolution aspect_ratio generate_audio draft"

FAMILY = family(
    "flux",
    "Flux",
    _image("text_to_image", "image", f"prompt* {_SIZE} seed model finetune strength", aliases=("text2image",)),
    _image("image_to_image", "image", f"image* prompt* reference_images {_SIZE} seed model"),
    _image("inpaint", "image", "image* mask+ prompt+ seed model", aliases=("fill",)),
    _image("outpaint", "image", "image* left+ right+ top bottom prompt seed model", aliases=("expand",)),
    _image("erase", "image", "image* mask* grow model"),
    _operation("text_to_video", "video", f"prompt* {_CLIP} model", aliases=("text2video",)),
    _operation("image_to_video", "video", f"image* last_image prompt+ {_CLIP} model", aliases=("image2video",)),
    _operation("video_to_video", "video", f"video* prompt+ {_CLIP} model"),
    _operation("enhance_draft", "video", "draft_cache* model"),
)
IMAGES = ("text_to_image", "image_to_image", "inpaint", "outpaint", "erase")
VIDEOS = ("text_to_video", "image_to_video", "video_to_video", "enhance_draft")
_MODES = {"text_to_video": "t2v", "image_to_video": "i2v", "video_to_video": "v2v", "enhance_draft": "draft_enhance"}
_NAMES = {
    "finetune": "finetune_id",
    "strength": "finetune_strength",
    "grow": "dilate_pixels",
    "video": "start_video",
}
_RESOLUTIONS = {"720p": "hd", "1080p": "fhd"}
_IMAGE: tuple[tuple[str, str], ...] = (
    ("flux-kontext", "input_image"),
    ("flux-2", "input_image"),
    ("flux-pro-1.0", "image"),
    ("flux-tools", "image"),
)
"""The field that takes the image, by the beginning of the model's name. Others have ``image_prompt``."""
_SHAPED = ("flux-kontext", "flux-pro-1.1-ultra", "flux-3")
"""The beginnings of models that take a shape. Others take a width and a height."""
_MEDIA = ("image", "last_image", "mask", "video", "draft_cache")
_BASE64 = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_PIXELS = 1024 * 1024
_STEP = 32
_MOST = 1440
_LEAST = 256
_SECONDS = range(5, 21)


def model_of(task: Task, defaults: Mapping[str, str]) -> str:
    """Return the model, which is a part of the path."""
    return str(task.input.get("model") or defaults.get(task.operation, VIDEO))


def body_of(task: Task, model: str, callback_url: str | None) -> dict[str, Any]:
    """Return the body of a submit."""
    given = {name: value for name, value in task.input.items() if name not in {"model", "reference_images"}}
    given |= {name: _bare(given[name]) for name in _MEDIA if isinstance(given.get(name), str)}
    body = _clip(task, given) if task.operation in _MODES else _picture(task, given, model)
    return merge({**body, "webhook_url": callback_url}, task.options)


def _picture(task: Task, given: dict[str, Any], model: str) -> dict[str, Any]:
    image = next((name for prefix, name in _IMAGE if model.startswith(prefix)), "image_prompt")
    if "aspect_ratio" in given and not model.startswith(_SHAPED):
        width, height = size_of(given.pop("aspect_ratio"))
        given = {"width": width, "height": height, **given}
    names = _NAMES | {"image": image}
    body = {names.get(name, name): value for name, value in given.items()}
    more = task.input.get("reference_images", ())
    return body | {f"input_image_{at}": _bare(each) for at, each in enumerate(more, start=2)}


def _clip(task: Task, given: dict[str, Any]) -> dict[str, Any]:
    body = {"mode": _MODES[task.operation], **{_NAMES.get(name, name): value for name, value in given.items()}}
    frames = [body.pop(name) for name in ("image", "last_image") if name in body]
    if frames:
        body["keyframes"] = frames if len(frames) > 1 else frames[0]
    if "resolution" in body:
        body["resolution"] = _RESOLUTIONS.get(body["resolution"], body["resolution"])
    if isinstance(body.get("duration"), float) and body["duration"].is_integer():
        body["duration"] = int(body["duration"])
    return body


def _bare(source: str) -> str:
    """Return a medium as BFL takes it: a URL, or base64 without the ``data:`` before it."""
    head = _BASE64.match(source)
    return source if head is None else source[head.end() :]


def size_of(ratio: str) -> tuple[int, int]:
    """Return a width and a height of about a megapixel, in steps of 32 pixels, for a shape such as ``16:9``."""
    across, down = (int(side) for side in ratio.split(":"))
    width = _stepped(math.sqrt(_PIXELS * across / down))
    return width, _stepped(width * down / across)


def _stepped(pixels: float) -> int:
    return min(max(round(pixels / _STEP) * _STEP, _LEAST), _MOST)


def mistakes_in(task: Task, model: str) -> list[Mistake]:
    """Return what BFL's pages rule out. Fields that ``options`` set are not checked."""
    given = task.input
    found = market.path_mistakes(model, "input.model", least=1, most=3)
    for name in _MEDIA:
        source = str(given.get(name, ""))
        if source[:5].lower() == "data:" and _BASE64.match(source) is None:
            found.append(Mistake(f"input.{name}", "must be base64 where it is data:"))
    if {"finetune", "strength"} & given.keys() and "finetuned" not in model:
        found.append(Mistake("input.finetune", "goes with a model that ends in -finetuned only"))
    if "aspect_ratio" in given and {"width", "height"} & given.keys():
        found.append(Mistake("input.aspect_ratio", "goes not with width and height: give one of them"))
    if "reference_images" in given and not model.startswith(("flux-2", "flux-kontext")):
        found.append(Mistake("input.reference_images", f"{model} takes one image only."))
    if given.get("duration", _SECONDS[0]) not in _SECONDS and "duration" not in task.options:
        found.append(Mistake("input.duration", "Flux makes videos of 5 to 20 whole seconds."))
    return found
