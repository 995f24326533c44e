"""The operations of Seedance and Seedream, and the bodies that all their hosts take."""

import functools
import re
from typing import Any, NamedTuple

from service.domain.task import Task
from service.domain.validation import Mistake
from service.providers.dialect import merge, whole
from service.providers.operation import FIELDS as SHARED
from service.providers.operation import family, integer, number, operation, several, switch, text

_SOURCE = "URL, or `data:`, or `asset://`."
FIELDS = SHARED | {
    "images": several(f"Pictures to draw on: {_SOURCE}", text("URL of an image."), maxItems=14,
                      examples=[["https://example.com/cat.jpg"]]),
    "model": text("Model, or endpoint id. Volcengine and BytePlus have other names for the same model."),
    "sound": switch("Whether the video gets sound, for the models that can."),
    "camera_fixed": switch("Whether the camera stands still."),
    "watermark": switch("Whether the output is marked as made by AI."),
    "last_frame": switch("Whether the last frame is returned as an image, too."),
    "draft": switch("Whether a cheap preview is made."),
    "tier": text("`default`, or `flex`: cheaper, and may take hours.", pattern="^(default|flex)$"),
    "guidance": number("How closely the prompt is followed; for 3.0 models.", minimum=1, maximum=10),
    "format": text("File format: `png` or `jpeg`; for 5.0 models.", examples=["png"]),
    "count": integer("How many images at most.", minimum=1, maximum=15, examples=[1]),
}  # fmt: skip
_operation = functools.partial(operation, known=FIELDS)
_SHOT = "duration+ aspect_ratio+ resolution seed sound camera_fixed watermark last_frame draft tier model"
_STILL = "aspect_ratio resolution count seed guidance watermark format model"
FAMILY = family(
    "seedance",
    "Seedance and Seedream",
    _operation("text_to_video", "video", f"prompt* {_SHOT}"),
    _operation("image_to_video", "video", f"image* prompt+ last_image {_SHOT}"),
    _operation("reference_to_video", "video", f"prompt* images+ video audio {_SHOT}"),
    _operation("text_to_image", "image", f"prompt* {_STILL}", deadline=1800.0),
    _operation("image_to_image", "image", f"image* prompt* images {_STILL}", deadline=1800.0),
)
VIDEOS = ("text_to_video", "image_to_video", "reference_to_video")
IMAGES = ("text_to_image", "image_to_image")
SECONDS = {**dict.fromkeys(VIDEOS, 150.0), **dict.fromkeys(IMAGES, 20.0)}
LIFETIME = 86400.0
"""Seconds for which the signed URLs hold, of videos and of images."""


class Models(NamedTuple):
    """The models of a host, where a task names none."""

    video: str
    image: str


VOLCENGINE = Models("doubao-seedance-1-5-pro-251215", "doubao-seedream-4-5-251128")
MODELARK = Models("seedance-1-5-pro-251215", "seedream-4-5-251128")
"""The same models at BytePlus. Each host has its own names, and does not know those of the other."""
_SAME = {
    "duration": "duration",
    "aspect_ratio": "ratio",
    "resolution": "resolution",
    "seed": "seed",
    "sound": "generate_audio",
    "camera_fixed": "camera_fixed",
    "watermark": "watermark",
    "last_frame": "return_last_frame",
    "draft": "draft",
    "tier": "service_tier",
}
_FLAGS = {
    "resolution": "rs",
    "ratio": "rt",
    "duration": "dur",
    "seed": "seed",
    "camera_fixed": "cf",
    "watermark": "wm",
}
"""The options of older models, which stand at the end of the text."""
_OLDER = re.compile(r"seedance-1-0\b", re.IGNORECASE)
_SIDES = {"1k": 1024, "2k": 2048, "3k": 3072, "4k": 4096}
_STEP = 16
_TOGETHER = 15


def model_of(task: Task, models: Models = VOLCENGINE) -> str:
    """Return the model: the one that the task names, or the usual one of its kind at the host."""
    return str(task.input.get("model") or (models.image if task.operation in IMAGES else models.video))


def video_body(task: Task, callback_url: str | None, models: Models = VOLCENGINE) -> dict[str, Any]:
    """Return the body of a video task: its content, and its options, which older models have in the text."""
    given, model = task.input, model_of(task, models)
    options = {theirs: whole(given[ours]) for ours, theirs in _SAME.items() if ours in given}
    words = str(given.get("prompt", ""))
    if _OLDER.search(model):
        flags = [f"--{_FLAGS[name]} {_flag(options.pop(name))}" for name in list(options) if name in _FLAGS]
        words = " ".join([words, *flags]).strip()
    content: list[dict[str, Any]] = [{"type": "text", "text": words}] if words else []
    for name, role in (("image", "first_frame"), ("last_image", "last_frame")):
        if name in given:
            content.append(_medium("image", given[name], role))
    content += [_medium("image", each, "reference_image") for each in given.get("images", ())]
    content += [_medium(name, given[name], f"reference_{name}") for name in ("video", "audio") if name in given]
    return merge({"model": model, "content": content, **options, "callback_url": callback_url}, task.options)


def image_body(task: Task, models: Models = VOLCENGINE) -> dict[str, Any]:
    """Return the body of an image call; with an image it is an edit."""
    given = task.input
    pictures = [given["image"], *given.get("images", ())] if "image" in given else []
    count = given.get("count", 1)
    body = {
        "model": model_of(task, models),
        "prompt": given["prompt"],
        "image": pictures[0] if len(pictures) == 1 else pictures or None,
        "size": _size(task),
        "seed": given.get("seed"),
        "guidance_scale": given.get("guidance"),
        "watermark": given.get("watermark"),
        "output_format": given.get("format"),
        "response_format": "url",
        "sequential_image_generation": "auto" if count > 1 else None,
        "sequential_image_generation_options": {"max_images": count} if count > 1 else None,
    }
    return merge(body, task.options)


def mistakes_in(task: Task) -> list[Mistake]:
    """Return what the pages rule out."""
    given, found = task.input, list[Mistake]()
    if task.operation == "reference_to_video" and not {"images", "video", "audio"} & given.keys():
        found.append(Mistake("input.images", "Give a picture, a video or a sound to refer to."))
    pictures = len(given.get("images", ())) + ("image" in given)
    if task.operation in IMAGES and pictures + given.get("count", 1) > _TOGETHER:
        found.append(Mistake("input.count", f"Images in and out are at most {_TOGETHER} together."))
    return found


def _size(task: Task) -> str | None:
    """Return the size: a word such as ``2K``, or pixels where a shape is given."""
    ratio, resolution = task.input.get("aspect_ratio"), task.input.get("resolution")
    if "seededit" in model_of(task).lower():
        return "adaptive"
    if ratio is None:
        return None if resolution is None else str(resolution).upper()
    across, down = (int(side) for side in ratio.split(":"))
    side = _SIDES.get(str(resolution or "2k").lower(), _SIDES["2k"])
    scale = side / (across * down) ** 0.5
    return "x".join(str(max(round(each * scale / _STEP) * _STEP, _STEP)) for each in (across, down))


def _medium(kind: str, url: str, role: str) -> dict[str, Any]:
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url}, "role": role}


def _flag(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
