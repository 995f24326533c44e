"""The operations of Hunyuan3D, with Tencent's names of their fields (tencentcloud-sdk-python-ai3d 3.1)."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

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
    "format": choice("File format. Default: obj and glb.", "STL", "USDZ", "FBX", "OBJ", "GLB", "MP4", "GIF"),
    "file": text("URL of the 3D model.", pattern="^https?://", examples=["https://example.com/chair.glb"]),
    "file_type": text("Format of the file, such as `GLB`. Default: by its extension.", examples=["GLB"]),
    "level": choice("How many faces are left.", "high", "medium", "low"),
    "motion": integer("Number of the motion that the figure is rigged for.", minimum=0, examples=[1]),
    "keep_uv": switch("Whether the UV map of the model is kept."),
    "texture_size": integer("Pixels of a side of the texture.", minimum=720, maximum=4096),
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
    if "duration" in given and float(given["duration"]).is_integer():
        body["Duration"] = int(given["duration"])
    if given.get("rapid") and body.pop("GenerateType", None) == "Geometry":
        body["EnableGeometry"] = True
    if "file" in given:
        url = str(given["file"])
        kind = given.get("file_type") or _type_of(url)
        body[_FILE.get(task.operation, "File3D")] = {"Url": url} | ({} if kind is None else {"Type": kind})
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


def _type_of(url: str) -> str | None:
    """Return the format of a file by its name; None where that does not show it. An OBJ comes as a .zip."""
    ending = urlsplit(url).path.rpartition("/")[2].rpartition(".")[2].upper()
    return "OBJ" if ending == "ZIP" else ending if ending in {"GLB", "OBJ", "FBX", "STL", "USDZ"} else None


# What Tencent refuses --------------------------------------------------------------------------------------------

_LONGEST = {"pro": 1024, "rapid": 200, "texture": 200, "animate": 128}
_FORMATS = {
    "pro": ("STL", "USDZ", "FBX"),
    "rapid": ("OBJ", "GLB", "STL", "USDZ", "FBX", "MP4"),
    "convert_format": ("STL", "USDZ", "FBX", "MP4", "GIF"),
}
_SIDES = frozenset({"left", "right", "back"})
"""The views that the models before 3.1 take."""


def mistakes_in(task: Task) -> list[Mistake]:
    """Return what Tencent's pages rule out."""
    given, kind, found = task.input, task.operation, list[Mistake]()
    if kind in {"text_to_3d", "image_to_3d"}:
        kind = "rapid" if given.get("rapid") else "pro"
        found += _of_rapid(given) if kind == "rapid" else _of_pro(given)
        if "image" in given and "prompt" in given and given.get("style") != "Sketch":
            found.append(Mistake("input.prompt", "goes with an image only where style is Sketch"))
    longest = _LONGEST.get(kind)
    if longest is not None and len(str(given.get("prompt", ""))) > longest:
        found.append(Mistake("input.prompt", f"has more than {longest} characters"))
    if kind in _FORMATS and given.get("format", _FORMATS[kind][0]) not in _FORMATS[kind]:
        found.append(Mistake("input.format", f"is one of {', '.join(_FORMATS[kind])} here"))
    if kind == "texture" and "prompt" in given and "image" in given:
        found.append(Mistake("input.prompt", "goes not with an image: leave one out"))
    if kind == "texture" and "views" in given and given.get("model") != "3.1":
        found.append(Mistake("input.views", "goes only with the model 3.1"))
    if kind == "animate" and given.get("duration", 1) not in range(1, 13):
        found.append(Mistake("input.duration", "is a whole number of seconds from 1 to 12"))
    return found


def _of_rapid(given: Mapping[str, Any]) -> list[Mistake]:
    unknown = [name for name in ("views", "model", "face_count", "polygon") if name in given]
    if given.get("style", "Normal") not in {"Normal", "Geometry"}:
        unknown.append("style")
    return [Mistake(f"input.{name}", "the rapid model does not take this: leave it out") for name in unknown]


def _of_pro(given: Mapping[str, Any]) -> list[Mistake]:
    found, newer, low = [], given.get("model") == "3.1", given.get("style") == "LowPoly"
    if newer and low:
        found.append(Mistake("input.style", "LowPoly goes not with the model 3.1"))
    if "polygon" in given and not low:
        found.append(Mistake("input.polygon", "goes only where style is LowPoly"))
    if given.get("model", "3.0") == "3.0" and any(each["view"] not in _SIDES for each in given.get("views", ())):
        found.append(Mistake("input.views", "has a side that only the model 3.1 takes"))
    return found
