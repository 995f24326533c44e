"""The bodies that Replicate and the servers of its protocol take, and the checks that they share."""

import re
from collections.abc import Mapping
from typing import Any

from service.domain.task import Task
from service.domain.validation import Mistake
from service.providers import market
from service.providers.dialect import merge
from service.providers.replicate import guests

EVENTS = ("start", "completed")
"""The callbacks that are wanted. Those for every line of the log and every piece of the output are not."""
MAX_INLINE = 350_000
"""Characters of a medium given as ``data:``: Replicate takes 256 kB of bytes."""
_NAMES = {"count": "num_outputs"}
_IMAGE: tuple[tuple[str, str], ...] = (
    ("black-forest-labs/flux-kontext", "input_image"),
    ("black-forest-labs/flux-2", "input_images"),
    ("black-forest-labs/flux-1.1", "image_prompt"),
    ("google/nano-banana", "image_input"),
    ("bytedance/seedream", "image_input"),
    ("kwaivgi/kling", "start_image"),
    ("minimax/", "first_frame_image"),
    ("luma/", "start_image"),
)
"""The field that takes the image, by the beginning of the model's name. Others have ``image``."""
_LISTS = frozenset({"input_images", "image_input"})
_LAST_IMAGE = {"kwaivgi/kling": "end_image", "luma/": "end_image"}
_NAME = re.compile(r"[\w.\-]+/[\w.\-]+")
_MEDIA = ("image", "last_image", "video")


def names_of(model: str) -> Mapping[str, str]:
    """Return a model's names of our fields, where they differ."""
    image = next((name for prefix, name in _IMAGE if model.startswith(prefix)), "image")
    last = next((name for prefix, name in _LAST_IMAGE.items() if model.startswith(prefix)), "last_image")
    return _NAMES | {"image": image, "last_image": last}


def body_of(task: Task, more: Mapping[str, Any], callback_url: str | None) -> dict[str, Any]:
    """Return the body of a prediction or a training.

    :param more: the fields that name the model, where the path does not
    """
    names = names_of(guests.model_of(task))
    given = _given(task, names)
    given |= {name: [given[name]] for name in _LISTS & given.keys() if isinstance(given[name], str)}
    events = None if callback_url is None else list(EVENTS)
    body = {**more, "input": given, "webhook": callback_url, "webhook_events_filter": events}
    return merge(body, task.options)


def _given(task: Task, names: Mapping[str, str]) -> dict[str, Any]:
    """Return the input of the model, or of a training."""
    if task.operation == "train":
        return dict(task.input["input"])
    guest = guests.fields_of(task)
    if guest is None:
        return market.model_input(task, names)
    return {names.get(name, name): value for name, value in guest.items()}


def is_name(value: Any) -> bool:
    """Return whether a value is a name of the form ``owner/name``."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None and not set(value.split("/")) & {".", ".."}


def input_mistakes(task: Task) -> list[Mistake]:
    """Return a mistake for each medium that is too large for the request, and each field that no model is known to take."""
    return guests.mistakes_in(task) + [
        Mistake(f"input.{name}", "Replicate takes at most 256 kB as data:. Upload the file, or give a URL.")
        for name in _MEDIA
        if isinstance(task.input.get(name), str)
        and task.input[name][:5].lower() == "data:"
        and len(task.input[name]) > MAX_INLINE
    ]
