"""The operations of MiniMax."""

import dataclasses
import re
from collections.abc import Mapping

from service.domain.task import Task
from service.domain.validation import Mistake
from service.providers.operation import FIELDS as SHARED
from service.providers.operation import Schema, family, integer, operation, several, text

_IMAGE: Schema = text("URL of an image, or `data:`.")
FIELDS: Mapping[str, Schema] = SHARED | {
    "images": several(
        "URLs of pictures of who or what is to be seen.", _IMAGE, examples=[["https://example.com/face.jpg"]]
    ),
    "duration": integer("Length in seconds: 6 or 10, of MiniMax-H3 4 to 15.", minimum=1, examples=[6]),
    "resolution": text(
        "Resolution wanted: `512p`, `768p`, `1080p`, `2k`. `720p` is made as `768p`.", examples=["768p"]
    ),
    "template": text("Id of the template.", examples=["392747428568649728"]),
    "texts": several("The texts that the template asks for.", text("A text.")),
}
_NEWER = re.compile(r"minimax-h\d", re.IGNORECASE)
_SHOT = "duration+ resolution model"
FAMILY = family(
    "minimax",
    "MiniMax (Hailuo)",
    operation("text_to_video", "video", f"prompt* aspect_ratio {_SHOT}", known=FIELDS),
    operation(
        "image_to_video",
        "video",
        f"image* prompt+ last_image aspect_ratio {_SHOT}",
        known=FIELDS,
        meanings={"prompt": "What is to happen, in words."},
    ),
    operation("reference_to_video", "video", f"prompt* images+ video audio aspect_ratio {_SHOT}", known=FIELDS),
    operation(
        "template_video",
        "video",
        "template* images+ texts",
        known=FIELDS,
        meanings={"images": "URLs of the pictures that the template asks for."},
    ),
    dataclasses.replace(operation("video_upscale", "video", "resolution model", known=FIELDS), parent="required"),
    operation("enhance_prompt", "text", "prompt* image duration aspect_ratio model", known=FIELDS, deadline=1800.0),
)


def is_newer(model: object) -> bool:
    """Return whether a model is one of the newer generation."""
    return _NEWER.match(str(model)) is not None


def unknown_fields(task: Task, known: frozenset[str]) -> list[Mistake]:
    """Return a mistake for each field that a protocol has no word for."""
    words = "MiniMax has no such field here: leave it out, or choose another model or upstream."
    return [Mistake(f"input.{name}", words) for name in task.input if name not in known]
