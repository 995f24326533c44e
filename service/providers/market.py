"""The operations of markets: hosts that run any model by its name, such as Replicate, fal and kie.ai."""

import functools
from collections.abc import Mapping
from typing import Any

from service.domain.task import ResultKind, Task
from service.domain.validation import Mistake
from service.providers.dialect import whole
from service.providers.operation import FIELDS, Operation, Schema, operation, text

_MODEL = "Model, by the host's own name for it. An unknown name is passed on."
_INPUT = "Input of the model, in the model's own words. It is passed on as it is."
_SHARED: tuple[tuple[str, ResultKind, str], ...] = (
    ("text_to_image", "image", "prompt* aspect_ratio resolution seed count negative_prompt"),
    ("image_to_image", "image", "image* prompt+ aspect_ratio resolution seed count negative_prompt"),
    ("text_to_video", "video", "prompt* aspect_ratio resolution duration seed negative_prompt"),
    ("image_to_video", "video", "image* prompt+ last_image aspect_ratio resolution duration seed negative_prompt"),
    ("video_to_video", "video", "video* prompt+ aspect_ratio resolution duration seed negative_prompt"),
)
"""The operations with Dovecote's own field names, so that a job moves between hosts by one word."""
_FORMS = {"text_to_image": "text2image", "text_to_video": "text2video", "image_to_video": "image2video"}
RUN_SECONDS = 120.0
SECONDS = {"run": RUN_SECONDS} | {name: 240.0 if made == "video" else 30.0 for name, made, _ in _SHARED}
"""The usual duration of a task, by operation, until durations have been measured."""


def operations(models: Mapping[str, str], *, takes: str = "model* input*", **more: Schema) -> tuple[Operation, ...]:
    """Return ``run``, which takes the model's own input, and the shared operations that the host has models for.

    :param models: a model for the example of each operation; ``run`` is one of them
    :param takes: the fields of ``run``
    :param more: fields of ``run`` besides
    """
    return (_run(models["run"], takes, more), *(_shared(*each, models) for each in _SHARED if each[0] in models))


def _known(model: str, example: Mapping[str, Any]) -> dict[str, Schema]:
    schema: Schema = {"type": "object", "description": _INPUT, "examples": [dict(example)]}
    return FIELDS | {"model": text(_MODEL, examples=[model]), "input": schema}


def _run(model: str, takes: str, more: Mapping[str, Schema]) -> Operation:
    known = _known(model, {"prompt": "A cat on a windowsill, rain outside"}) | dict(more)
    return operation("run", "json", takes, known=known, deadline=7200.0)


def _shared(name: str, produces: ResultKind, takes: str, models: Mapping[str, str]) -> Operation:
    known = _known(models[name], {"output_format": "png"})
    make = functools.partial(operation, name, produces, f"model* {takes} input", known=known)
    return make(aliases=(_FORMS[name],) if name in _FORMS else (), deadline=3600.0 if produces == "video" else 1200.0)


def model_input(task: Task, names: Mapping[str, str]) -> dict[str, Any]:
    """Return the input of the model: the task's fields under the host's names, and over them the model's own.

    :param names: the host's names of our fields, where they differ
    """
    given = {name: value for name, value in task.input.items() if name not in {"model", "input", "deployment"}}
    mapped = {names.get(name, name): whole(value) for name, value in given.items()}
    return {**mapped, **task.input.get("input", {})}


def path_mistakes(name: str, path: str, *, least: int = 2, most: int = 8) -> list[Mistake]:
    """Return what is wrong with a model's name that becomes part of a path.

    :param path: where the name stands in the request
    """
    parts = name.split("/")
    plain = all(part and part.strip(".") and part.isascii() and part.isprintable() for part in parts)
    if plain and least <= len(parts) <= most and not set(name) & set("?#%\\ "):
        return []
    form = "owner/name" if least == most == 2 else "owner/name, perhaps with more parts"  # noqa: PLR2004 - two parts
    return [Mistake(path, f"is no name of a model: give {form}")]
