"""The request bodies of MiniMax's newer generation: the H3 models."""

from collections.abc import Mapping
from typing import Any

from service.domain.task import Task
from service.domain.validation import Mistake
from service.providers.minimax.family import is_newer, unknown_fields

MODEL = "MiniMax-H3"
ROUTES: Mapping[str, str] = {
    "text_to_video": "/v2/video_generation",
    "image_to_video": "/v2/video_generation",
    "reference_to_video": "/v2/video_generation",
    "video_upscale": "/v2/video_regeneration",
    "enhance_prompt": "/v2/h3_context_ir",
}
_SHOT = frozenset({"prompt", "duration", "resolution", "aspect_ratio", "model"})
_FIELDS: Mapping[str, frozenset[str]] = {
    "text_to_video": _SHOT,
    "image_to_video": _SHOT | {"image", "last_image"},
    "reference_to_video": _SHOT | {"images", "video", "audio"},
    "video_upscale": frozenset({"resolution", "model"}),
    "enhance_prompt": _SHOT - {"resolution"} | {"image"},
}
_RESOLUTIONS = {"480p": "480P", "720p": "768P", "768p": "768P", "2k": "2K"}
_SHORTEST, _LONGEST = 4, 15
_LONGEST_TEXT, _MOST_IMAGES = 7000, 9


def body_of(task: Task) -> dict[str, Any]:
    """Return the body of a task, without the callback URL."""
    given = task.input
    wanted = given.get("resolution")
    resolution = None if wanted is None else _RESOLUTIONS.get(wanted.lower(), wanted)
    body: dict[str, Any] = {"model": given.get("model", MODEL)}
    if task.operation == "video_upscale":
        return body | {"source_task_id": task.inherited.get("external_id"), "resolution": resolution or "2K"}
    body |= {"content": _content(given), "duration": given.get("duration"), "ratio": given.get("aspect_ratio")}
    if "aspect_ratio" not in given:
        body["ratio"] = "adaptive" if len(body["content"]) > 1 else "16:9"  # a text alone has no shape to follow
    return body if task.operation == "enhance_prompt" else body | {"resolution": resolution or "768P"}


def _content(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = [{"type": "text", "text": given.get("prompt")}]
    for name, role in (("image", "first_frame"), ("last_image", "last_frame")):
        if name in given:
            content.append({"type": "image_url", "image_url": {"url": given[name]}, "role": role})
    content += [
        {"type": "image_url", "image_url": {"url": url}, "role": "reference_image"} for url in given.get("images", ())
    ]
    for name in ("video", "audio"):
        if name in given:
            kind = f"{name}_url"
            content.append({"type": kind, kind: {"url": given[name]}, "role": f"reference_{name}"})
    return content


def task_type(operation: str) -> str:
    """Return the ``task_type`` that the list shows for an operation."""
    return {"video_upscale": "regeneration", "enhance_prompt": "h3_context_ir"}.get(operation, "generation")


def mistakes_of(task: Task) -> list[Mistake]:
    """Return what MiniMax's pages rule out."""
    found, given = unknown_fields(task, _FIELDS[task.operation]), task.input
    model = given.get("model", MODEL)
    if not is_newer(model):
        found.append(Mistake("input.model", f"{model} is served by MiniMax's older API: use minimax/official"))
    if task.operation == "video_upscale":
        return found
    if not given.get("prompt"):
        found.append(Mistake("input.prompt", "is required here"))
    if len(given.get("prompt") or "") > _LONGEST_TEXT:
        found.append(Mistake("input.prompt", f"has more than {_LONGEST_TEXT} characters"))
    duration = given.get("duration")
    if duration is not None and not _SHORTEST <= duration <= _LONGEST:
        found.append(Mistake("input.duration", f"{MODEL} makes {_SHORTEST} to {_LONGEST} seconds."))
    wanted = given.get("resolution")
    if wanted is not None and wanted.lower() not in _RESOLUTIONS:
        found.append(Mistake("input.resolution", f"{MODEL} makes {', '.join(_RESOLUTIONS)}"))
    if len(given.get("images", ())) > _MOST_IMAGES:
        found.append(Mistake("input.images", f"has more than {_MOST_IMAGES} images"))
    if task.operation == "reference_to_video" and not {"images", "video"} & given.keys():
        found.append(Mistake("input.images", "is required here, or a video"))
    return found
