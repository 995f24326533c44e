"""Luma's Agents API (https://agents.lumalabs.ai/v1), as its pages and its SDK 0.5.0 have it: polling only."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from service.domain.task import Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge, unsupported
from service.providers.luma import record
from service.providers.luma.family import renamed, seconds
from service.providers.wire import Call, Reply

_ROUTE = "/v1/generations"
_TYPES = {
    "text_to_video": "video",
    "image_to_video": "video",
    "extend": "video",
    "video_to_video": "video_edit",
    "reframe_video": "video_reframe",
    "text_to_image": "image",
    "image_to_image": "image_edit",
    "layering": "layering",
}
_NAMES = {
    "prompt": "prompt",
    "aspect_ratio": "aspect_ratio",
    "model": "model",
    "style": "style",
    "format": "output_format",
    "web_search": "web_search",
}
_CLIP = frozenset({"duration", "resolution", "loop", "hdr", "exr"})
_BUILT: Mapping[str, frozenset[str]] = {
    "text_to_video": _CLIP,
    "image_to_video": _CLIP | {"image", "last_image", "keyframes"},
    "extend": _CLIP,
    "video_to_video": frozenset({"video", "strength", "resolution"}),
    "reframe_video": frozenset({"video", "position", "resolution"}),
    "text_to_image": frozenset({"reference_images"}),
    "image_to_image": frozenset({"image", "reference_images"}),
    "layering": frozenset({"image", "resolution"}),
}
_PROMPT = 6000
_REFERENCES = {"text_to_image": 9, "image_to_image": 8}
_LONG = 10
"""Seconds of a video that cannot loop."""


class Agents(Dialect):
    """The Agents API: ray-3.2 and uni-1. It has no callback, no cancel and no list of generations."""

    facts = Facts(
        family="luma",
        name="agents",
        operations=dict.fromkeys(_TYPES, _ROUTE),
        typical_seconds={name: 30.0 if "image" in kind else 180.0 for name, kind in _TYPES.items()},
        result_lifetime=3600.0,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the generation."""
        del callback_url
        return Call(method="POST", path=_ROUTE, json=merge(_body(task), task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the generation. Each answer signs its URLs anew."""
        return Call(method="GET", path=f"{_ROUTE}/{quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: the generation."""
        return record.read_created(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the generation."""
        return record.read_status(reply)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what Luma's pages rule out."""
        found = super().validate(task)
        if task.operation not in _TYPES:
            return found
        found += unsupported(task, _BUILT[task.operation] | _NAMES.keys(), "This Luma protocol")
        return found + _mistakes(task)


def _body(task: Task) -> dict[str, Any]:
    """Return a task in Luma's fields: those of a video are in an object of their own."""
    given, kind = task.input, _TYPES[task.operation]
    body = renamed(task, _NAMES) | {"type": kind if kind != "image" else None}
    if "video" in kind:
        body.setdefault("model", "ray-3.2")
        body["video"] = _clip(task) or None
    if "reference_images" in given:
        body["image_ref"] = [_reference(url) for url in given["reference_images"]]
    if kind in {"image_edit", "layering"}:
        body["source"] = _reference(given["image"])
    elif kind in {"video_edit", "video_reframe"}:
        body["source"] = _reference(given["video"], "video/mp4")
    if kind == "layering" and "resolution" in given:
        body["layering"] = {"resolution": given["resolution"]}
    return body


def _clip(task: Task) -> dict[str, Any]:
    """Return the object ``video`` of a body."""
    given = task.input
    clip: dict[str, Any] = {name: given[name] for name in ("resolution", "loop", "hdr") if name in given}
    if (duration := seconds(task)) is not None:
        clip["duration"] = duration
    if "exr" in given:
        clip["exr_export"] = given["exr"]
    if task.operation == "extend":
        clip["start_frame"] = {"generation_id": task.inherited.get("external_id")}
    elif "keyframes" in given:
        shown = [{"image": given["image"], "frame": 0}, *given["keyframes"]]
        clip["keyframes"] = [_reference(each["image"]) for each in shown]
        clip["keyframe_indexes"] = [each["frame"] for each in shown]
    else:
        for ours, theirs in (("image", "start_frame"), ("last_image", "end_frame")):
            if ours in given:
                clip[theirs] = _reference(given[ours])
    if "strength" in given:
        clip["edit"] = {"strength": given["strength"]}
    if "position" in given:
        clip["source_position"] = dict(given["position"])
    return clip


def _reference(source: str, media_type: str | None = None) -> dict[str, str]:
    """Return a reference to a medium: its URL, or its bytes with their type."""
    head, comma, data = source.partition(",")
    if comma and head[:5].lower() == "data:":
        return {"data": data, "media_type": head[5:].partition(";")[0]}
    return {"url": source} if media_type is None else {"url": source, "media_type": media_type}


def _mistakes(task: Task) -> list[Mistake]:
    given, found = task.input, list[Mistake]()
    if len(str(given.get("prompt", ""))) > _PROMPT:
        found.append(Mistake("input.prompt", f"must have at most {_PROMPT} characters"))
    if len(given.get("reference_images", ())) > _REFERENCES.get(task.operation, _PROMPT):
        found.append(Mistake("input.reference_images", f"must be at most {_REFERENCES[task.operation]}"))
    if given.get("loop") and (given.get("hdr") or given.get("duration") == _LONG):
        found.append(Mistake("input.loop", "does not go with hdr, and not with 10 seconds"))
    if "keyframes" in given and (given.get("loop") or "last_image" in given):
        found.append(Mistake("input.keyframes", "do not go with last_image or loop"))
    if given.get("exr") and not given.get("hdr"):
        found.append(Mistake("input.exr", "needs hdr"))
    return found
