"""The request bodies of MiniMax's older generation: the Hailuo and 01 models."""

from collections.abc import Mapping
from typing import Any

from service.domain.task import Task
from service.domain.validation import Mistake
from service.providers.dialect import merge
from service.providers.minimax.family import is_newer, unknown_fields

_FIELDS: Mapping[str, frozenset[str]] = {
    "text_to_video": frozenset({"prompt", "duration", "resolution", "model"}),
    "image_to_video": frozenset({"prompt", "image", "last_image", "duration", "resolution", "model"}),
    "reference_to_video": frozenset({"prompt", "images", "duration", "resolution", "model"}),
    "template_video": frozenset({"template", "images", "texts"}),
}
_MODELS = {
    "text_to_video": "MiniMax-Hailuo-2.3",
    "image_to_video": "MiniMax-Hailuo-2.3",
    "reference_to_video": "S2V-01",
}
_BOTH_FRAMES = "MiniMax-Hailuo-02"
"""The model that is taken for a first and a last frame, where none is named."""
_HAILUO = "MiniMax-Hailuo"
_DURATIONS = frozenset({6, 10})
_LONGEST_PROMPT = 2000


def body_of(task: Task) -> dict[str, Any]:
    """Return the body of a task."""
    given = task.input
    if task.operation == "template_video":
        media = [{"value": url} for url in given.get("images", ())]
        return {"template_id": given.get("template"), "text_inputs": _values(given), "media_inputs": media}
    model = given.get("model") or (_BOTH_FRAMES if "last_image" in given else _MODELS[task.operation])
    body = {
        "model": model,
        "prompt": given.get("prompt"),
        "duration": given.get("duration"),
        "resolution": _resolution(given.get("resolution"), model),
        "first_frame_image": given.get("image"),
        "last_frame_image": given.get("last_image"),
    }
    if "images" in given:
        body["subject_reference"] = [{"type": "character", "image": list(given["images"])}]
    return body


def _values(given: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"value": each} for each in given.get("texts", ())]


def _resolution(wanted: str | None, model: str) -> str | None:
    """Return a resolution in MiniMax's words. The Hailuo models make 768P instead of 720P."""
    stated = None if wanted is None else wanted.upper()
    return "768P" if stated == "720P" and model.startswith(_HAILUO) else stated


def mistakes_of(task: Task) -> list[Mistake]:
    """Return what MiniMax's pages rule out."""
    found, given = unknown_fields(task, _FIELDS[task.operation]), task.input
    if task.operation == "template_video":
        return found
    body = merge(body_of(task), task.options)
    model = body.get("model")
    if is_newer(model):
        found.append(Mistake("input.model", f"{model} is served by MiniMax's newer API: use minimax/official-v2"))
    if len(given.get("prompt") or "") > _LONGEST_PROMPT:
        found.append(Mistake("input.prompt", f"has more than {_LONGEST_PROMPT} characters"))
    duration = given.get("duration")
    if duration is not None and duration not in _DURATIONS:
        found.append(Mistake("input.duration", "The Hailuo models make 6 or 10 seconds."))
    if body.get("resolution") == "1080P" and body.get("duration") == max(_DURATIONS):
        found.append(Mistake("input.duration", "1080P has 6 seconds: use 768P for 10"))
    if str(model).endswith("-Fast") and body.get("first_frame_image") is None:
        found.append(Mistake("input.model", f"{model} needs an image to start with"))
    if task.operation == "reference_to_video" and body.get("subject_reference") is None:
        found.append(Mistake("input.images", "is required here"))
    return found
