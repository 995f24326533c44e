"""The operations of Hunyuan3D, with Tencent's names of their fields (tencentcloud-sdk-python-ai3d 3.1)."""

from collections.abc import Mapping
from typing import Any

from service.domain.task import Task
from service.domain.validation import Mistake
from service.providers.operation import (
    FIELDS,
    SOURCE,
    Schema,
    choice,
    closed,
    family,
    integer,
    operation,
    several,
    switch,
    text,
)

_VIEWS = ("left", "right", "back", "top", "bottom", "left_front", "right_front")
_FIELDS: Mapping[str, Schema] = FIELDS | {
    "views": several(
        "More pictures of the object, each from one side.",
        closed(
            "A picture.",
            "view",
            "image",
            view=choice("The side.", *_VIEWS),
            image=text("URL, or `data:`.", pattern=SOURCE),
        ),
    ),
    "rapid": switch("Whether the quick model makes it: 30 to 90 s, short prompts, no views."),
    "model": text("Model: `3.0` or `3.1`.", examples=["3.1"]),
    "pbr": switch("Whether materials for physically based rendering are made."),
    "face_count": integer("Number of faces, 3,000 to 1,500,000.", minimum=3000, maximum=1_500_000),
    "style": choice("Kind of the model.", "Normal", "LowPoly", "Geometry", "Sketch"),
    "polygon": choice("Shape of the faces, for `LowPoly`.", "triangle", "quadrilateral"),
    "format": choice("File format. Default: obj and glb.", "STL", "USDZ", "FBX", "OBJ", "GLB", "MP4"),
    "file": text("URL of the 3D model.", pattern="^https?://", examples=["https://example.com/chair.glb"]),
    "file_type": text("Format of the file, such as `GLB`. Default: by its extension.", examples=["GLB"]),
    "level": choice("How many faces are left.", "high", "medium", "low"),
    "motion": integer("Number of the motion that the figure is rigged for.", minimum=0, examples=[1]),
    "keep_uv": switch("Whether the UV map of the model is kept."),
    "texture_size": integer("Size of the texture in pixels.", minimum=1),
    "template": text("Template of the figure."),
}
_MADE = "rapid model pbr face_count style polygon format"
FAMILY = family(
    "hunyuan3d",
    "Hunyuan3D",
    operation("text_to_3d", "model", f"prompt* {_MADE}", known=_FIELDS),
    operation("image_to_3d", "model", f"image* prompt views {_MADE}", known=_FIELDS),
    operation("texture", "model", "file* file_type prompt image views model pbr keep_uv texture_size", known=_FIELDS),
    operation("reduce_faces", "model", "file* file_type polygon level", known=_FIELDS),
    operation("split_parts", "model", "file* file_type model", known=_FIELDS),
    operation("unwrap_uv", "model", "file* file_type", known=_FIELDS),
    operation("rig", "model", "file* file_type motion", known=_FIELDS),
    operation("animate", "model", "prompt* file file_type duration model", known=_FIELDS),
    operation("profile_to_3d", "model", "image* template", known=_FIELDS),
    operation("convert_format", "model", "file* format*", known=_FIELDS, deadline=900.0),
)

_SAME: Mapping[str, str] = {
    "prompt": "Prompt",
    "model": "Model",
    "pbr": "EnablePBR",
    "face_count": "FaceCount",
    "style": "GenerateType",
    "polygon": "PolygonType",
    "format": "ResultFormat",
    "level": "FaceLevel",
    "motion": "MotionType",
    "keep_uv": "EnableKeepUV",
    "texture_size": "TextureSize",
    "template": "Template",
    "duration": "Duration",
}
_FILE: Mapping[str, str] = {"split_parts": "File", "unwrap_uv": "File", "animate": "RetargetFile"}
"""The name of the model's file by operation; ``File3D`` in the others."""


def body_of(task: Task) -> dict[str, Any]:
    """Return the fields of a submit in Tencent's names."""
    given = task.input
    if task.operation == "convert_format":
        return {"File3D": given.get("file"), "Format": given.get("format")}
    body: dict[str, Any] = {theirs: given[ours] for ours, theirs in _SAME.items() if ours in given}
    if "file" in given:
        url = str(given["file"])
        kind = given.get("file_type") or url.partition("?")[0].rpartition(".")[2].upper()
        body[_FILE.get(task.operation, "File3D")] = {"Url": url, "Type": kind}
    if "image" in given:
        body |= _image(task.operation, str(given["image"]))
    if "views" in given:
        body["MultiViewImages"] = [
            {"ViewType": each["view"], **_source("ViewImageUrl", "ViewImageBase64", each["image"])}
            for each in given["views"]
        ]
    return body


def _image(operation: str, source: str) -> dict[str, Any]:
    if operation == "image_to_3d":
        return _source("ImageUrl", "ImageBase64", source)
    return {"Profile" if operation == "profile_to_3d" else "Image": _source("Url", "Base64", source)}


def _source(url: str, inline: str, source: str) -> dict[str, str]:
    """Return a picture as an address, or as bare base64 where it is in the input itself."""
    return {inline: source.partition(",")[2]} if source[:5].lower() == "data:" else {url: source}


_LONGEST = {False: 1024, True: 200}


def mistakes_in(task: Task) -> list[Mistake]:
    """Return what Tencent's pages rule out."""
    given, found = task.input, list[Mistake]()
    rapid = bool(given.get("rapid"))
    if task.operation in {"text_to_3d", "image_to_3d"} and len(str(given.get("prompt", ""))) > _LONGEST[rapid]:
        found.append(Mistake("input.prompt", f"has more than {_LONGEST[rapid]} characters"))
    if rapid:
        unknown = [name for name in ("views", "model", "face_count", "style", "polygon") if name in given]
        found += [Mistake(f"input.{name}", "the rapid model has no such field: leave it out") for name in unknown]
    if task.operation == "image_to_3d" and "prompt" in given and given.get("style") != "Sketch" and not rapid:
        found.append(Mistake("input.prompt", "goes with an image only where style is Sketch"))
    return found
