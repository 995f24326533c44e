"""The operations of Luma: Dream Machine, Ray, Photon and Uni."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from service.domain.task import Task
from service.domain.validation import Mistake
from service.providers.operation import FIELDS as SHARED
from service.providers.operation import Schema, closed, family, integer, number, operation, several, switch, text

_IMAGE: Schema = text("URL of an image.")
_PIXEL: Schema = {"minimum": 0}
_MODE = ("adhere_1", "adhere_2", "adhere_3", "flex_1", "flex_2", "flex_3", "reimagine_1", "reimagine_2", "reimagine_3")
FIELDS: Mapping[str, Schema] = SHARED | {
    "reference_images": several("URLs of images to draw on.", _IMAGE, examples=[["https://example.com/cat.jpg"]]),
    "style_images": several("URLs of images in the style wanted.", _IMAGE),
    "character_images": several("URLs of images of one figure.", _IMAGE),
    "concepts": several("Keys of Luma's concepts, such as `dolly_zoom`.", text("A key.")),
    "format": text("File format of the image: `jpg` or `png`.", examples=["png"]),
    "strength": text(
        f"How far the video may change: {', '.join(f'`{each}`' for each in _MODE)}.",
        enum=list(_MODE),
        examples=["flex_1"],
    ),
    "first_frame": text("URL of the image that the changed video begins with."),
    "keyframes": several(
        "Images, each with the number of the frame at which it is shown, at 24 frames a second.",
        closed("", "image", "frame", image=_IMAGE, frame=integer("Number of the frame.", minimum=0)),
        maxItems=64,
    ),
    "position": closed(
        "Where the picture lies in the new frame, in pixels of the new frame.",
        **{name: number("", **_PIXEL) for name in ("grid_position_x", "grid_position_y", "x_start", "x_end")},
        **{name: number("", **_PIXEL) for name in ("y_start", "y_end", "resized_width", "resized_height")},
    ),
    "hdr": switch("Whether the video has a high dynamic range."),
    "exr": switch("Whether the frames are exported as EXR files, too. It needs `hdr`."),
    "style": text("Style of the image: `auto` or `manga`."),
    "web_search": switch("Whether the model may look the subject up in the web."),
}
_operation = functools.partial(operation, known=FIELDS)
_CLIP = "duration+ aspect_ratio resolution loop concepts hdr exr model"
_STILL = "aspect_ratio+ format style web_search model"


FAMILY = family(
    "luma",
    "Luma (Dream Machine)",
    _operation("text_to_video", "video", f"prompt* {_CLIP}", aliases=("generate",)),
    _operation("image_to_video", "video", f"image* prompt+ last_image keyframes {_CLIP}"),
    dataclasses.replace(_operation("extend", "video", f"prompt+ {_CLIP}"), parent="required"),
    _operation("video_to_video", "video", "video* prompt+ strength+ first_frame resolution model", aliases=("modify",)),
    _operation("reframe_video", "video", "video* aspect_ratio* prompt position resolution model"),
    dataclasses.replace(_operation("upscale", "video", "resolution+"), parent="required"),
    dataclasses.replace(_operation("add_audio", "video", "prompt+ negative_prompt"), parent="required"),
    _operation("text_to_image", "image", f"prompt* reference_images style_images character_images {_STILL}"),
    _operation("image_to_image", "image", f"image* prompt* reference_images {_STILL}", aliases=("edit",)),
    _operation("reframe_image", "image", "image* aspect_ratio* prompt position format model"),
    _operation("layering", "image", "image* prompt+ resolution model"),
)


def renamed(task: Task, names: Mapping[str, str]) -> dict[str, Any]:
    """Return the input in Luma's words, without the fields that have none."""
    return {names[name]: value for name, value in task.input.items() if name in names}


def seconds(task: Task) -> str | None:
    """Return the duration as Luma writes it: ``5s``."""
    stated = task.input.get("duration")
    return None if stated is None else f"{stated:g}s"


def inline_media(task: Task) -> list[Mistake]:
    """Return a mistake for each medium that is no URL."""
    found = []
    for name, value in task.input.items():
        for each in value if isinstance(value, list) else [value]:
            source = each.get("image") if isinstance(each, dict) else each
            if isinstance(source, str) and source[:5].lower() == "data:":
                found.append(Mistake(f"input.{name}", "Luma takes URLs here, and no data: URLs."))
                break
    return found
