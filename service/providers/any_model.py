"""The family for any model of a gateway by its name: the input is the vendor's own."""

import dataclasses

from service.providers.operation import FIELDS, family, operation, text

_FIELDS = FIELDS | {
    "model": text("Model, by the gateway's name.", examples=["kling-v3/text-to-video"]),
    "input": {
        "type": "object",
        "description": "The input as the vendor of the model has it. It is sent as it is.",
        "examples": [{"prompt": "A cat playing piano", "duration": "5", "aspect_ratio": "16:9"}],
    },
}
FAMILY = family(
    "any",
    "Any model",
    operation("run", "any", "model* input*", known=_FIELDS),
    dataclasses.replace(
        operation(
            "remix",
            "video",
            "prompt*",
            known=_FIELDS,
            meanings={"prompt": "The desired change, in words."},
        ),
        parent="required",
    ),
)
"""Models that have a family of their own are better asked for by it: its input is checked, and fails over."""
