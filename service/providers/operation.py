"""Families, their operations, and the field schemas that they share, in Dovecote's names."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from service.domain.task import ResultKind

Schema = dict[str, Any]
Produces = ResultKind | Literal["any"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A verb within a family, with the schema of its input in our names."""

    name: str
    title: str
    input: Mapping[str, Any]
    """JSON Schema (2020-12) of the task's input."""
    produces: Produces
    """``any`` where that depends on the model."""
    aliases: tuple[str, ...] = ()
    """Names that users know from providers; accepted, stored under ``name``."""
    deadline: float = 3600.0
    """Seconds after which Dovecote stops waiting, unless the client says otherwise."""
    parent: Literal["required", "optional"] | None = None
    """Whether it continues another task, named by ``parent_id``."""
    answer: Mapping[str, Any] | None = None
    """JSON Schema of the input that the provider may ask for on the way; None where it never does."""


@dataclasses.dataclass(frozen=True, slots=True)
class Family:
    """A kind of media job in Dovecote's names, independent of the upstream."""

    name: str
    title: str
    operations: Mapping[str, Operation]


def family(name: str, title: str, *operations: Operation) -> Family:
    """Return a family of these operations."""
    return Family(name, title, {each.name: each for each in operations})


def operation(
    name: str,
    produces: Produces,
    takes: str,
    *,
    known: Mapping[str, Mapping[str, Any]],
    aliases: tuple[str, ...] = (),
    meanings: Mapping[str, str] | None = None,
    deadline: float = 3600.0,
) -> Operation:
    """Return an operation whose input is an object of known fields and no others.

    :param takes: names of its fields; a star marks a required field, a plus one that the example shows too
    :param known: JSON Schema by field name
    :param meanings: descriptions of fields that mean something of their own here
    """
    required = [field[:-1] for field in takes.split() if field.endswith("*")]
    shown = [field[:-1] for field in takes.split() if field.endswith(("*", "+"))]
    properties = {field: dict(known[field]) for field in (marked.rstrip("*+") for marked in takes.split())}
    for field, meaning in (meanings or {}).items():
        properties[field]["description"] = meaning
    if "model" in properties:  # it is a key of statistics and prices, and is shown in lists
        properties["model"].setdefault("maxLength", MAX_MODEL)
    example = {field: properties[field]["examples"][0] for field in shown}
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": properties,
        "examples": [example],
    }
    title = name.replace("_", " ").capitalize()
    return Operation(name=name, title=title, input=schema, produces=produces, aliases=aliases, deadline=deadline)


# Field schemas ---------------------------------------------------------------------------------------------------


MAX_MODEL = 200
"""Characters of a model's name."""


def text(description: str, **more: Any) -> Schema:
    """Return the schema of a text that is not empty."""
    return {"type": "string", "minLength": 1, "description": description, **more}


def integer(description: str, **limits: Any) -> Schema:
    """Return the schema of a whole number."""
    return {"type": "integer", "description": description, **limits}


def number(description: str, **limits: Any) -> Schema:
    """Return the schema of a number."""
    return {"type": "number", "description": description, **limits}


def switch(description: str, **more: Any) -> Schema:
    """Return the schema of true or false."""
    return {"type": "boolean", "description": description, **more}


def choice(description: str, *words: str, **more: Any) -> Schema:
    """Return the schema of one of some words; the first is the example."""
    return {"type": "string", "enum": list(words), "description": description, "examples": [words[0]], **more}


def several(description: str, item: Mapping[str, Any], **limits: Any) -> Schema:
    """Return the schema of a list of at least one item."""
    return {"type": "array", "minItems": 1, "items": dict(item), "description": description, **limits}


def closed(description: str, *required: str, **properties: Any) -> Schema:
    """Return the schema of an object of these fields and no others."""
    shape = {"type": "object", "additionalProperties": False, "required": list(required)}
    return {**shape, "description": description, "properties": properties}


SOURCE = "^([Hh][Tt][Tt][Pp][Ss]?://|data:)"
"""A URL of a medium, or the medium itself as ``data:``."""
RATIO = "^[1-9][0-9]{0,4}:[1-9][0-9]{0,4}$"

FIELDS: dict[str, Schema] = {
    "prompt": text("Description of the output, in words.", examples=["A cat on a windowsill, rain outside"]),
    "negative_prompt": text("Things to avoid, in words."),
    "image": text("URL of the image, or `data:`.", examples=["https://example.com/cat.jpg"]),
    "last_image": text("URL of the image to end on."),
    "video": text("URL of the video, or `data:`.", examples=["https://example.com/cat.mp4"]),
    "audio": text("URL of the recording, or `data:`.", examples=["https://example.com/voice.mp3"]),
    "duration": number("Length in seconds.", exclusiveMinimum=0, examples=[5]),
    "aspect_ratio": text("Shape of the output, as `16:9`.", pattern=RATIO, examples=["16:9"]),
    "resolution": text("Resolution wanted: `720p`, `1080p`, `1k`, `2k`, `4k`.", examples=["1080p"]),
    "model": text("Model, by the provider's name. An unknown name is passed on."),
    "seed": integer("The same seed and input give similar results.", minimum=0),
    "count": integer("How many outputs.", minimum=1, examples=[1]),
    "loop": switch("Whether the end leads into the beginning."),
}
"""The fields that families share. A family takes them with ``FIELDS | {…}`` and adds its own."""
