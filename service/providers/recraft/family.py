"""The operations of Recraft, and the bodies that its protocols share."""

import functools
from collections.abc import Mapping
from typing import Any

from service.domain.task import Task
from service.domain.validation import Mistake
from service.providers.operation import FIELDS as SHARED
from service.providers.operation import Schema, choice, family, integer, number, operation, several, text

_PICTURE = "data:image/png;base64,iVBORw0KGgo="
_SIDES = "Pixels to add at this side."
_FIELDS: Mapping[str, Schema] = SHARED | {
    "image": text("URL of the image, or `data:`.", examples=[_PICTURE]),
    "mask": text("URL of the mask, or `data:`. White is changed.", examples=[_PICTURE]),
    "images": several("Images that show the style.", text("URL of the image, or `data:`."), maxItems=10, examples=[[_PICTURE]]),
    "count": integer("How many images.", minimum=1, maximum=6, examples=[1]),
    "resolution": text("Size in pixels, as `1280x1024`.", pattern="^[0-9]{3,4}x[0-9]{3,4}$", examples=["1280x1024"]),
    "style": text("Style: `realistic_image`, `digital_illustration`, `vector_illustration`, `icon` …", examples=["digital_illustration"]),
    "style_id": text("Id of a style of one's own, in place of `style`."),
    "strength": number("How far the image may change.", minimum=0, maximum=1, examples=[0.2]),
    "similarity": integer("How similar, 1 to 5.", minimum=1, maximum=5, examples=[3]),
    "source": text("Id of an image that `explore` made.", examples=["a1f2c8d4-1234-4abc-9def-1111111111aa"]),
    "mode": choice("Sharper, or with detail that is made up.", "crisp", "creative"),
    "zoom": number("Percent by which the picture is zoomed out.", exclusiveMinimum=0, examples=[50]),
    **{side: integer(_SIDES, minimum=0) for side in ("left", "right", "top", "bottom")},
}  # fmt: skip
_image = functools.partial(operation, produces="image", known=_FIELDS, deadline=1200.0)
_text = functools.partial(operation, produces="text", known=_FIELDS, deadline=900.0)
_MADE = "count aspect_ratio resolution style style_id negative_prompt seed model"

FAMILY = family(
    "recraft",
    "Recraft",
    _image("text_to_image", takes=f"prompt* {_MADE}"),
    _image("image_to_image", takes=f"image* prompt* strength* {_MADE}"),
    _image("inpaint", takes=f"image* mask* prompt* {_MADE}"),
    _image("outpaint", takes=f"image* prompt+ left right top bottom zoom {_MADE}"),
    _image("replace_background", takes=f"image* prompt* {_MADE}"),
    _image("generate_background", takes=f"image* mask* prompt* {_MADE}"),
    _image("remove_background", takes="image*"),
    _image("erase", takes="image* mask*"),
    _image("vectorize", takes="image*"),
    _image("image_upscale", takes="image* mode"),
    _image("remix", takes="image* aspect_ratio+ resolution count model"),
    _image("explore", takes="prompt* aspect_ratio resolution model"),
    _image("explore_similar", takes="source* similarity*"),
    _text("create_style", takes="style* images* model prompt"),
    _text("enhance_prompt", takes="prompt*"),
    _text("list_styles", takes=""),
)
_NAMES = {
    "count": "n",
    "seed": "random_seed",
    "resolution": "size",
    "aspect_ratio": "size",
    "source": "source_image_id",
    "zoom": "zoom_out_percentage",
    **{side: f"expand_{side}" for side in ("left", "right", "top", "bottom")},
}
MEDIA = ("image", "mask", "images")
_OLD = ("recraftv2", "recraftv3")
_OLD_FIELDS = ("style", "style_id", "negative_prompt")


def fields_of(task: Task) -> dict[str, Any]:
    """Return the fields of a task in Recraft's names, without its media."""
    given = {name: value for name, value in task.input.items() if name not in {*MEDIA, "mode"}}
    return {_NAMES.get(name, name): value for name, value in given.items()}


def media_of(task: Task) -> dict[str, Any]:
    """Return the media of a task, by our names."""
    return {name: task.input[name] for name in MEDIA if name in task.input}


def mistakes_in(task: Task) -> list[Mistake]:
    """Return what Recraft's pages rule out."""
    given, model = task.input, str(task.input.get("model", ""))
    found = []
    if {"style", "style_id"} <= given.keys():
        found.append(Mistake("input.style_id", "goes not with a style: give one of them"))
    if {"aspect_ratio", "resolution"} <= given.keys():
        found.append(Mistake("input.resolution", "goes not with an aspect_ratio: give one of them"))
    if model and not model.startswith(_OLD) and task.operation != "create_style":
        found += [
            Mistake(f"input.{name}", f"{model} takes none: name recraftv3, or leave it out.")
            for name in _OLD_FIELDS
            if name in given and model.startswith("recraft")
        ]
    return found
