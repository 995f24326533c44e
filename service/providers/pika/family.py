"""The operations of Pika."""

import functools

from service.domain.task import Task
from service.providers.operation import FIELDS as SHARED
from service.providers.operation import choice, family, number, operation, several, switch, text

FIELDS = SHARED | {
    "images": several(
        "URLs of the images, in their order.",
        text("URL of an image."),
        maxItems=8,
        examples=[["https://example.com/cat.jpg", "https://example.com/dog.jpg"]],
    ),
    "effect": text("Name of the effect, such as `Melt` or `Cake-ify`.", examples=["Melt"]),
    "ingredients": choice("How closely the scene keeps to its pictures.", "creative", "precise"),
    "region": text("Description of what is to be replaced.", examples=["the cat"]),
    "motion": number("How much moves.", minimum=0, maximum=4),
    "guidance": number("How closely the prompt is followed.", minimum=0),
    "sound": switch("Whether the video gets sound effects."),
}
_operation = functools.partial(operation, known=FIELDS)
_SHOT = "duration+ resolution aspect_ratio seed negative_prompt motion guidance sound model"
FAMILY = family(
    "pika",
    "Pika",
    _operation("text_to_video", "video", f"prompt* {_SHOT}"),
    _operation("image_to_video", "video", f"image* prompt+ {_SHOT}"),
    _operation("video_to_video", "video", f"video* prompt+ {_SHOT}"),
    _operation("extend", "video", f"video* prompt+ {_SHOT}"),
    _operation("keyframes", "video", f"images* prompt+ {_SHOT}", aliases=("pikaframes",)),
    _operation("scene", "video", f"images* prompt+ ingredients {_SHOT}", aliases=("pikascenes",)),
    _operation("effect", "video", f"effect* image* prompt {_SHOT}", aliases=("pikaffects",)),
    _operation("addition", "video", f"video* image* prompt+ {_SHOT}", aliases=("pikadditions",)),
    _operation("swap", "video", f"video* region* image prompt {_SHOT}", aliases=("pikaswaps",)),
)
SECONDS = dict.fromkeys(FAMILY.operations, 120.0)


def ratio_of(task: Task) -> float | None:
    """Return the shape as a number: 1.777… for ``16:9``."""
    stated = task.input.get("aspect_ratio")
    if stated is None:
        return None
    across, down = (int(side) for side in str(stated).split(":"))
    return across / down
