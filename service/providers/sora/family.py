"""The operations of Sora at relays of its web site."""

import dataclasses
from collections.abc import Mapping

from service.providers.operation import FIELDS, Schema, choice, family, number, operation, switch

MODEL = "sora-2"
_FIELDS: Mapping[str, Schema] = FIELDS | {
    "duration": number("Length in seconds: 10, of sora-2-pro 15 or 25.", exclusiveMinimum=0, examples=[10]),
    "watermark": switch("False insists on a video without a watermark; else one is preferred.", default=True),
    "private": switch("Whether the video stays unpublished; then it cannot be remixed."),
    "resolution": choice("Resolution wanted.", "720p", "1080p"),
}
_TAKES = "duration+ aspect_ratio+ resolution watermark private model"
FAMILY = family(
    "sora",
    "Sora (reverse)",
    operation("text_to_video", "video", f"prompt* {_TAKES}", known=_FIELDS),
    operation("image_to_video", "video", f"prompt* image* {_TAKES}", known=_FIELDS),
    dataclasses.replace(operation("remix", "video", "prompt* model", known=_FIELDS), parent="required"),
)
