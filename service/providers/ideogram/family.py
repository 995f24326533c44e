"""The operations of Ideogram, and the bodies and checks that its protocols share."""

import functools
from collections.abc import Mapping
from typing import Any, Literal

from service.domain.task import Task
from service.domain.validation import Mistake
from service.providers.form import file, is_inline
from service.providers.operation import FIELDS as SHARED
from service.providers.operation import Schema, choice, family, integer, operation, several, text
from service.providers.wire import File

Generation = Literal["v4", "v3", "legacy"]
_PICTURE = "data:image/png;base64,iVBORw0KGgo="
_FIELDS: Mapping[str, Schema] = SHARED | {
    "image": text("URL of the image, or `data:`.", examples=[_PICTURE]),
    "mask": text("URL of the mask, or `data:`, of the same size. Black is changed.", examples=[_PICTURE]),
    "reference_images": several("Images besides the first.", text("URL of the image, or `data:`."), maxItems=9),
    "style_images": several("Images to take the style from.", text("URL of the image, or `data:`.")),
    "character_image": text("URL of an image of a person to keep, or `data:`."),
    "resolution": text("Size in pixels, as `1536x640`.", pattern="^[0-9]{3,4}x[0-9]{3,4}$", examples=["1536x640"]),
    "model": text("`V_4`, `V_3`, or an older one: `V_2`, `V_2_TURBO`, `V_2A`, `V_1` …"),
    "count": integer("How many images.", minimum=1, maximum=8, examples=[1]),
    "seed": integer("The same seed and input give similar results.", minimum=0, maximum=2147483647),
    "style": text("Type of style: `AUTO`, `GENERAL`, `REALISTIC`, `DESIGN`, `FICTION`."),
    "rendering_speed": choice("How fast, at what price.", "DEFAULT", "TURBO", "BALANCED", "QUALITY", "FLASH"),
    "magic_prompt": choice("Whether Ideogram writes the prompt anew.", "AUTO", "ON", "OFF"),
    "image_weight": integer("How much of the image stays, 1 to 100.", minimum=1, maximum=100),
    "resemblance": integer("How much of the image stays, 1 to 100.", minimum=1, maximum=100),
    "detail": integer("How much detail is added, 1 to 100.", minimum=1, maximum=100),
}
_image = functools.partial(operation, produces="image", known=_FIELDS, deadline=1200.0)
_MADE = "seed count rendering_speed magic_prompt"
_STYLED = f"{_MADE} style style_images character_image"

FAMILY = family(
    "ideogram",
    "Ideogram",
    _image("text_to_image", takes=f"prompt* aspect_ratio resolution negative_prompt {_STYLED} model"),
    _image("transparent_image", takes=f"prompt* aspect_ratio negative_prompt {_MADE}"),
    _image(
        "image_to_image",
        takes=f"image* prompt* image_weight aspect_ratio resolution negative_prompt {_STYLED} model",
        aliases=("remix",),
    ),
    _image("inpaint", takes=f"image* mask* prompt* {_STYLED} model"),
    _image("edit_image", takes="image* prompt* reference_images aspect_ratio resolution seed count magic_prompt"),
    _image("reframe", takes="image* resolution* seed count rendering_speed style_images model"),
    _image("replace_background", takes=f"image* prompt* {_MADE} style_images"),
    _image("remove_background", takes="image*"),
    _image("image_upscale", takes="image* prompt resemblance detail seed count magic_prompt"),
    operation("describe", "text", "image* model", known=_FIELDS, deadline=1200.0),
)
NAMES = {
    "count": "num_images",
    "style": "style_type",
    "style_images": "style_reference_images",
    "character_image": "character_reference_images",
}
_LEGACY_NAMES = {
    "count": "num_images",
    "style": "style_type",
    "magic_prompt": "magic_prompt_option",
}
_GENERATIONS: Mapping[str, Generation] = {
    "v_4": "v4",
    "v4": "v4",
    "ideogram-v4": "v4",
    "v_3": "v3",
    "v3": "v3",
    "ideogram-v3": "v3",
}
_LEGACY = ("v_1", "v_2", "auto")
_V4_FIELDS = frozenset({"prompt", "resolution", "rendering_speed", "model"})
_V4_REMIX = _V4_FIELDS | {"image", "image_weight"}
_V3_ONLY = frozenset({"rendering_speed", "style_images", "character_image"})
"""The fields that no route without a version has."""
_EDITORS = ("v_2", "v_2_turbo")
_RATIOS = frozenset(
    "1:3 3:1 1:2 2:1 9:16 16:9 10:16 16:10 2:3 3:2 3:4 4:3 4:5 5:4 1:1".split()  # noqa: SIM905 - a table
)
_MEDIA = ("image", "mask", "character_image")
_MEDIA_LISTS = ("style_images", "reference_images")
MEDIA = (*_MEDIA, *_MEDIA_LISTS)
"""The fields that are sent as files."""
_OTHER_MODEL = "must be V_4, V_3, V_2, V_2_TURBO, V_2A, V_2A_TURBO, V_1 or V_1_TURBO"


def generation_of(task: Task, *, newest: Generation) -> Generation | None:
    """Return the generation of models that a task is for; None where its model is none of Ideogram's.

    :param newest: which one is used where the task names none, unless it has fields that only V3 takes
    """
    model = str(task.input.get("model", "")).lower()
    if model:
        return _GENERATIONS.get(model) or ("legacy" if model.startswith(_LEGACY) else None)
    return newest if newest == "v3" or task.input.keys() <= _V4_FIELDS else "v3"


def fields_of(task: Task, generation: Generation) -> dict[str, Any]:
    """Return the fields of a task in Ideogram's names. A medium given as ``data:`` becomes a file."""
    given: dict[str, Any] = {name: value for name, value in task.input.items() if name != "model"}
    for name in _MEDIA:
        if name in given:
            given[name] = as_file(given[name], name)
    for name in _MEDIA_LISTS:
        if name in given:
            given[name] = [as_file(each, name) for each in given[name]]
    if "character_image" in given:
        given["character_image"] = [given["character_image"]]
    if generation == "v4":
        renamed = {"prompt": "text_prompt"}
        return {renamed.get(name, name): value for name, value in given.items()}
    if "aspect_ratio" in given:
        given["aspect_ratio"] = given["aspect_ratio"].replace(":", "x")
    return {NAMES.get(name, name): value for name, value in given.items()}


def legacy_body(task: Task) -> dict[str, Any]:
    """Return the body of a route without a version. Some take their fields as an object, others in the form itself."""
    given: dict[str, Any] = dict(task.input)
    files = {name: as_file(given.pop(name), name) for name in ("image", "mask") if name in given}
    if "aspect_ratio" in given:
        given["aspect_ratio"] = "ASPECT_" + given["aspect_ratio"].replace(":", "_")
    if "resolution" in given and task.operation != "reframe":
        given["resolution"] = "RESOLUTION_" + given["resolution"].replace("x", "_")
    request = {_LEGACY_NAMES.get(name, name): value for name, value in given.items()}
    named = {"image_file": files.get("image"), "mask": files.get("mask")}
    if task.operation == "describe":
        return {**named, "describe_model_version": request.get("model")}
    if task.operation in {"inpaint", "reframe"}:
        return {**named, **request}
    return {"image_request": request, **named}


def as_file(source: Any, stem: str) -> str | File:
    """Return a medium as a file; one that is no ``data:`` stays a text."""
    return file(source, stem) if is_inline(source) else str(source)


def mistakes_in(task: Task, generation: Generation | None) -> list[Mistake]:
    """Return what Ideogram's pages rule out. Fields that ``options`` set are not checked."""
    given = task.input
    if generation is None:
        return [Mistake("input.model", _OTHER_MODEL)]
    found = []
    if generation == "v4":
        taken = _V4_REMIX if task.operation == "image_to_image" else _V4_FIELDS
        found += [
            Mistake(f"input.{name}", "V_4 takes no such field: leave it out, or name V_3.")
            for name in given.keys() - taken
        ]
        if given.get("rendering_speed") == "FLASH":
            found.append(Mistake("input.rendering_speed", "V_4 has no FLASH."))
    elif "aspect_ratio" in given and given["aspect_ratio"] not in _RATIOS and "aspect_ratio" not in task.options:
        found.append(Mistake("input.aspect_ratio", f"Ideogram makes {', '.join(sorted(_RATIOS))}."))
    if generation == "legacy":
        found += _legacy_mistakes(task)
    if {"aspect_ratio", "resolution"} <= given.keys():
        found.append(Mistake("input.resolution", "goes not with an aspect_ratio: give one of them"))
    return found


def _legacy_mistakes(task: Task) -> list[Mistake]:
    """Return what the routes for models before V_3 do not take."""
    given, model = task.input, str(task.input.get("model", "")).lower()
    found = [
        Mistake(f"input.{name}", "Only V_3 has this field: leave it out, or name V_3.")
        for name in sorted(given.keys() & _V3_ONLY)
    ]
    if task.operation == "inpaint" and model not in _EDITORS:
        found.append(Mistake("input.model", "Only V_2 and V_2_TURBO, and V_3, can edit."))
    if "negative_prompt" in given and not model.startswith(("v_1", "v_2")):
        found.append(Mistake("input.negative_prompt", "Only the models V_1, V_2 and V_3 have it."))
    elif "negative_prompt" in given and model.startswith("v_2a"):
        found.append(Mistake("input.negative_prompt", "V_2A has no negative prompt: leave it out."))
    return found
