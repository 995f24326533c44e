"""Other families as models of Replicate's: Flux, Ideogram and Recraft, under the names and fields that its pages list."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from service.domain.task import Task
from service.domain.validation import Mistake


class _Guest(NamedTuple):
    """An operation of another family."""

    owner: str
    model: str
    """The model where the task names none."""
    names: Mapping[str, str]
    """The model's names of the fields that it takes."""


_FLUX_FIELDS = {name: name for name in ("prompt", "image", "aspect_ratio", "width", "height", "seed")}
_BFL = "black-forest-labs"
_GUESTS: Mapping[tuple[str, str], _Guest] = {
    ("flux", "text_to_image"): _Guest(_BFL, "flux-2-pro", _FLUX_FIELDS),
    ("flux", "image_to_image"): _Guest(_BFL, "flux-kontext-pro", _FLUX_FIELDS),
    ("ideogram", "text_to_image"): _Guest(
        "ideogram-ai",
        "ideogram-v3-turbo",
        {name: name for name in ("prompt", "aspect_ratio", "resolution", "seed")},
    ),
    ("recraft", "text_to_image"): _Guest(
        "recraft-ai",
        "recraft-v3",
        {"prompt": "prompt", "aspect_ratio": "aspect_ratio", "resolution": "size", "style": "style"},
    ),
}
_RENAMED: Mapping[str, str] = {
    "flux-pro-1.1": "flux-1.1-pro",
    "flux-pro-1.1-ultra": "flux-1.1-pro-ultra",
    "flux-pro-1.0-fill": "flux-fill-pro",
    "V_3": "ideogram-v3-turbo",
    "V_2": "ideogram-v2",
    "V_2_TURBO": "ideogram-v2-turbo",
    "V_2A": "ideogram-v2a",
    "V_2A_TURBO": "ideogram-v2a-turbo",
    "recraftv3": "recraft-v3",
    "recraftv3_vector": "recraft-v3-svg",
}
"""Replicate's names of the makers' models, where they differ."""
_UNKNOWN = (
    "Replicate's model is not known to take it: leave it out, set it by options.input, or choose another upstream."
)


def offers(family: str, operation: str) -> bool:
    """Return whether an operation of another family is served."""
    return (family, operation) in _GUESTS


def model_of(task: Task) -> str:
    """Return the model by Replicate's name: ``owner/name``, with a version where there is one."""
    model = str(task.input.get("model", ""))
    guest = _GUESTS.get((task.family, task.operation))
    if guest is None or "/" in model:
        return model
    return f"{guest.owner}/{_RENAMED.get(model, model) or guest.model}"


def fields_of(task: Task) -> dict[str, Any] | None:
    """Return the fields of another family's task in the model's names; None for a task of Replicate's own."""
    guest = _GUESTS.get((task.family, task.operation))
    if guest is None:
        return None
    return {guest.names.get(name, name): value for name, value in task.input.items() if name != "model"}


def mistakes_in(task: Task) -> list[Mistake]:
    """Return a mistake for each field that the model is not known to take."""
    guest = _GUESTS.get((task.family, task.operation))
    unknown = [] if guest is None else [name for name in task.input if name not in {"model", *guest.names}]
    return [Mistake(f"input.{name}", _UNKNOWN) for name in unknown]
