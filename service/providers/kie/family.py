"""The operations of kie.ai."""

import dataclasses
import functools
from collections.abc import Mapping

from service.providers import market
from service.providers.operation import FIELDS as SHARED
from service.providers.operation import Operation, Schema, choice, family, integer, operation, switch, text

MODELS = {
    "run": "grok-imagine/text-to-video",
    "text_to_image": "google/nano-banana",
    "image_to_image": "google/nano-banana-edit",
    "text_to_video": "grok-imagine/text-to-video",
    "image_to_video": "kling-2.6/image-to-video",
    "video_to_video": "runway/gen4-aleph",
}
"""Models of its market for the examples."""
_FIELDS: Mapping[str, Schema] = SHARED | {
    "mask": text("URL of the mask: what is to be changed."),
    "watermark": text("Text of a watermark."),
    "speed": choice("How fast it is made, and at what price.", "relaxed", "fast", "turbo"),
    "index": integer("Which of the parent's videos, from 0.", minimum=0),
    "translate": switch("Whether the prompt is translated into English."),
}
_own = functools.partial(operation, known=_FIELDS)


def _of_parent(made: Operation) -> Operation:
    """Return an operation that goes on from a task of kie.ai."""
    return dataclasses.replace(made, parent="required")


FAMILY = family(
    "kie",
    "kie.ai",
    *market.operations(MODELS),
    _own("veo", "video", "prompt* image last_image aspect_ratio model seed watermark translate"),
    _of_parent(_own("veo_extend", "video", "prompt* model seed watermark translate")),
    _of_parent(_own("veo_1080p", "video", "index", deadline=1800.0)),
    _of_parent(_own("veo_4k", "video", "index")),
    _own("runway", "video", "prompt* image duration+ resolution aspect_ratio watermark"),
    _of_parent(_own("runway_extend", "video", "prompt* resolution watermark")),
    _own("aleph", "video", "prompt* video* aspect_ratio seed watermark"),
    _own("gpt4o_image", "image", "prompt* image mask aspect_ratio count", deadline=1800.0),
    _own("flux_kontext", "image", "prompt* image aspect_ratio model", deadline=1200.0),
    _own("midjourney", "image", "prompt* image aspect_ratio speed model watermark", deadline=3600.0),
)
