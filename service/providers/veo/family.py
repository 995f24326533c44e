"""The operations of Veo, and the body that both APIs of Google share."""

import functools
from collections.abc import Mapping
from typing import Any

from service.domain.task import Task
from service.domain.validation import Mistake
from service.providers.dialect import merge, whole
from service.providers.form import file, is_inline
from service.providers.operation import FIELDS as SHARED
from service.providers.operation import choice, family, integer, operation, several, switch, text

FIELDS = SHARED | {
    "images": several(
        "URLs of up to three pictures of who or what is to be seen, or `data:`.",
        text("URL of an image, or `data:`."),
        maxItems=3,
        examples=[["https://example.com/cat.jpg"]],
    ),
    "reference_type": choice("Whether the pictures show subjects or a style.", "asset", "style"),
    "sound": switch("Whether the video gets sound, for the models that can."),
    "enhance_prompt": switch("Whether the model may rewrite the prompt."),
    "people": choice("Which people may be seen.", "allow_adult", "dont_allow", "allow_all"),
    "storage": text("Google Cloud Storage folder for the results, `gs://…`; for Vertex.", pattern="^gs://"),
    "fps": integer("Frames per second; for Vertex.", minimum=1),
    "upscale": switch("Whether the video is upscaled at the end; for gateways."),
}
_SHOT = "aspect_ratio+ duration+ resolution negative_prompt seed count sound enhance_prompt people storage fps upscale model"
_operation = functools.partial(operation, known=FIELDS)
FAMILY = family(
    "veo",
    "Veo",
    _operation("text_to_video", "video", f"prompt* {_SHOT}"),
    _operation("image_to_video", "video", f"image* prompt+ last_image {_SHOT}"),
    _operation("reference_to_video", "video", f"prompt* images* reference_type {_SHOT}"),
    _operation("extend", "video", f"video* prompt+ {_SHOT}"),
)
OPERATIONS = tuple(FAMILY.operations)
PICTURES: Mapping[str, tuple[str, ...]] = {
    "image_to_video": ("image", "last_image"),
    "reference_to_video": ("images",),
    "extend": ("video",),
}
"""The media of each operation, which Google takes as bytes."""
_PARAMETERS = {
    "count": "sampleCount",
    "duration": "durationSeconds",
    "aspect_ratio": "aspectRatio",
    "resolution": "resolution",
    "negative_prompt": "negativePrompt",
    "seed": "seed",
    "sound": "generateAudio",
    "enhance_prompt": "enhancePrompt",
    "people": "personGeneration",
    "storage": "storageUri",
    "fps": "fps",
}
_MEDIA = {"image": "image", "last_image": "lastFrame", "video": "video"}
_STORED = "gs://"


def model_of(task: Task, default: str) -> str:
    """Return the model, which is a part of the path."""
    return str(task.input.get("model") or default)


def google_body(task: Task) -> dict[str, Any]:
    """Return the body of ``:predictLongRunning``: one instance, and its parameters."""
    given = task.input
    instance: dict[str, Any] = {"prompt": given.get("prompt")}
    for ours, theirs in _MEDIA.items():
        if ours in given:
            instance[theirs] = _bytes(given[ours], ours)
    if "images" in given:
        kind = given.get("reference_type", "asset")
        instance["referenceImages"] = [
            {"image": _bytes(each, "image"), "referenceType": kind} for each in given["images"]
        ]
    parameters = {theirs: whole(given[ours]) for ours, theirs in _PARAMETERS.items() if ours in given}
    instance = {name: value for name, value in instance.items() if value is not None}
    return merge({"instances": [instance], "parameters": parameters or None}, task.options)


def _bytes(source: str, name: str) -> dict[str, str]:
    """Return a medium as Google takes it: its bytes in base64, or its place in Google Cloud Storage."""
    if not is_inline(source):
        return {"gcsUri": source, "mimeType": "video/mp4" if name == "video" else "image/png"}
    return {"bytesBase64Encoded": source.partition(",")[2], "mimeType": file(source, name).content_type}


def google_mistakes(task: Task, found: list[Mistake], *, storage: bool) -> list[Mistake]:
    """Return what Google's pages rule out.

    :param found: the mistakes that are known already
    :param storage: whether the API reads and writes Google Cloud Storage
    """
    if storage:
        stored = {f"input.{name}" for name, value in task.input.items() if str(value).startswith(_STORED)}
        found = [each for each in found if each.path not in stored]
    elif any(str(value).startswith(_STORED) for value in task.input.values()) or "fps" in task.input:
        found = [*found, Mistake("input", "Google Cloud Storage and fps are for Vertex only: choose that upstream.")]
    if "upscale" in task.input:
        found = [*found, Mistake("input.upscale", "Google has no such switch: ask for a resolution.")]
    return found
