"""The operations of Midjourney."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from service.domain.task import ResultKind
from service.providers.operation import FIELDS as SHARED
from service.providers.operation import (
    Operation,
    Schema,
    choice,
    family,
    integer,
    operation,
    several,
    text,
)

PICTURE = "^([Hh][Tt][Tt][Pp][Ss]?://[^/\\s]|data:image/[\\w.+-]+;base64,[A-Za-z0-9+/_-])"
"""A URL of a picture, or the picture itself."""
_PICTURE: Schema = {"type": "string", "pattern": PICTURE}
_TWO_PICTURES = [["data:image/png;base64,iVBORw0KGgo=", "data:image/png;base64,iVBORw0KGgo="]]


def _images(description: str, **limits: Any) -> Schema:
    return several(description, _PICTURE, examples=_TWO_PICTURES, **limits)


_FIELDS: Mapping[str, Schema] = SHARED | {
    "prompt": text(
        "Description of the image, in words. It may contain Midjourney's own parameters (`--v 7`).",
        examples=["A paper boat on calm water at sunrise"],
    ),
    "negative_prompt": text("Things to avoid, in words: `--no`."),
    "image": text("The image, as URL or `data:`.", pattern=PICTURE, examples=["https://example.com/boat.png"]),
    "images": _images("Images to go by. A URL is put before the prompt, `data:` is sent along."),
    "target_image": text("The image that gets the face.", pattern=PICTURE, examples=["https://example.com/crew.png"]),
    "last_image": text("The image to end on, as URL or `data:`.", pattern=PICTURE),
    "mask": text("Mask as a `data:` URI. White areas are painted again, black areas stay.", pattern=PICTURE),
    "aspect_ratio": text(
        "Shape of the picture, as `16:9`: `--ar`.", pattern="^[1-9][0-9]{0,3}:[1-9][0-9]{0,3}$", examples=["16:9"]
    ),
    "seed": integer("The same seed and prompt give similar pictures: `--seed`.", minimum=0),
    "bot": choice("Which bot draws.", "midjourney", "niji"),
    "speed": choice("Speed mode; without it the gateway's default.", "fast", "turbo", "relax"),
    "action": text(
        "The action: the `id` of one of the parent's `next_actions`, or its label if that is unique.",
        examples=["U1"],
    ),
    "index": integer("Which of the parent's four, counted from 1.", minimum=1, maximum=4, examples=[1]),
    "change": choice("What to do.", "upscale", "variation", "reroll"),
    "shorthand": text("The action: U1 to U4, V1 to V4, or R.", pattern="^([UV][1-4]|R)$", examples=["U2"]),
    "motion": choice("How much moves; default low.", "low", "high"),
    "resolution": choice("Resolution of the video.", "480p", "720p"),
    "count": integer("How many videos; Midjourney makes 4 by itself.", enum=[1, 2, 4]),
}
DEADLINE = 75 * 60.0
"""Seconds. Gateways give up after an hour themselves, but only on tasks that their engine still remembers."""
_AT_ONCE_DEADLINE = 900.0
"""Seconds, for operations whose answer is the result: the answer may take 10 minutes."""
_MODAL_INPUT: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "prompt": text("The prompt to go on with; for a custom zoom with `--zoom`, 1 to 2. Default: the one so far."),
        "mask": _FIELDS["mask"],
    },
    "examples": [{"prompt": "A paper boat on calm water --zoom 1.5"}],
}
"""The input that a window (MODAL) asks for: a prompt, and a mask to vary a region."""


def _operation(
    name: str,
    produces: ResultKind,
    takes: str,
    *,
    parent: Literal["required", "optional"] | None = None,
    answer: Mapping[str, Any] | None = _MODAL_INPUT,
    own: Mapping[str, Mapping[str, Any]] | None = None,
    deadline: float = DEADLINE,
    **more: Any,
) -> Operation:
    """Return an operation of this family.

    :param own: fields that have another schema here
    """
    known = operation(name, produces, takes, known={**_FIELDS, **(own or {})}, deadline=deadline, **more)
    return dataclasses.replace(known, parent=parent, answer=answer)


DIMENSIONS = {"2:3": "PORTRAIT", "1:1": "SQUARE", "3:2": "LANDSCAPE"}
_BLEND = {
    "images": _images("The 2 to 5 images to blend, as `data:`.", minItems=2, maxItems=5),
    "aspect_ratio": choice("Shape of the picture.", *DIMENSIONS),
}
_UPLOAD = {"images": _images("The images to put at Midjourney's, as `data:`.")}
FAMILY = family(
    "midjourney",
    "Midjourney",
    _operation("imagine", "image", "prompt* images aspect_ratio+ negative_prompt seed bot speed"),
    _operation("blend", "image", "images* aspect_ratio bot speed", own=_BLEND),
    _operation("describe", "text", "image* bot speed"),
    _operation("shorten", "text", "prompt* bot speed"),
    _operation("action", "image", "action* speed", parent="required"),
    _operation("change", "image", "change* index+ speed", parent="required"),
    _operation("simple_change", "image", "shorthand* speed", parent="required", aliases=("simple-change",)),
    _operation(
        "video",
        "video",
        "image+ prompt+ last_image motion resolution loop count index speed",
        parent="optional",
        meanings={
            "prompt": "Description of the motion, in words.",
            "index": "Which of the parent's four videos to extend, counted from 1; only with `parent_id`.",
        },
    ),
    _operation("edits", "image", "prompt* image* mask speed", aliases=("edit",)),
    _operation(
        "upload",
        "image",
        "images* speed",
        answer=None,
        own=_UPLOAD,
        aliases=("upload-discord-images", "upload_images"),
        deadline=_AT_ONCE_DEADLINE,
    ),
    _operation(
        "face_swap",
        "image",
        "image* target_image* speed",
        aliases=("swap", "swap_face"),
        meanings={"image": "The image that the face is taken from, as URL or `data:`."},
    ),
    _operation(
        "image_seed",
        "text",
        "",
        parent="required",
        answer=None,
        aliases=("image-seed", "seed"),
        deadline=_AT_ONCE_DEADLINE,
    ),
)
