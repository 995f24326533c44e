"""Requests to Midjourney: the bodies of POST /mj/submit/*, and input that is known to be refused."""

from collections.abc import Mapping, Sequence
from typing import Any

from service.domain.task import Action, Task
from service.domain.validation import Mistake, nearest
from service.providers.dialect import merge
from service.providers.midjourney.family import DIMENSIONS
from service.providers.midjourney.parameters import parameter_mistakes, plain_dashes

_DRAWN = frozenset({"imagine", "edits", "video"})
_BOTS = {"midjourney": "MID_JOURNEY", "niji": "NIJI_JOURNEY"}
_PARAMETERS = {"aspect_ratio": ("--ar", "--aspect"), "negative_prompt": ("--no",), "seed": ("--seed",)}
"""Our fields that Midjourney takes as parameters in the prompt, with their spellings there."""


def prefix_of(task: Task) -> str:
    """Return the prefix of the path for the speed: gateways have a path for each mode."""
    return f"/mj-{task.input['speed']}" if "speed" in task.input else ""


def parent_of(task: Task) -> str:
    """Return the provider's id of the parent; blank where there is none."""
    return str(task.inherited.get("external_id") or "")


def body_of(task: Task) -> dict[str, Any]:
    """Return a task as the protocol takes it (POST /mj/submit/*)."""
    given, parent = task.input, parent_of(task)
    images = given.get("images", [])
    bodies: dict[str, dict[str, Any]] = {
        "imagine": {"prompt": prompt_of(given), "base64Array": [image for image in images if is_inline(image)] or None},
        "blend": {"base64Array": images, "dimensions": DIMENSIONS.get(given.get("aspect_ratio", ""))},
        "describe": _image(given, "image", "base64", "link"),
        "shorten": {"prompt": given.get("prompt")},
        "action": {"taskId": parent, "customId": task.inherited.get("action")},
        # new-api requires an index even where there is only one choice.
        "change": {"taskId": parent, "action": given.get("change", "").upper(), "index": given.get("index", 1)},
        "simple_change": {"content": f"{parent} {given.get('shorthand')}"},
        "video": _video_body(given, parent),
        "edits": {"prompt": given.get("prompt"), "image": given.get("image"), "maskBase64": given.get("mask")},
        "upload": {"base64Array": images},
        "face_swap": {
            **_image(given, "image", "sourceBase64", "sourceUrl"),
            **_image(given, "target_image", "targetBase64", "targetUrl"),
        },
    }
    return {**bodies[task.operation], "botType": _BOTS.get(given.get("bot", ""))}


def is_inline(image: str) -> bool:
    """Return whether an image is given by its bytes."""
    return image.startswith("data:")


def _image(given: Mapping[str, Any], name: str, inline: str, linked: str) -> dict[str, Any]:
    """Return an image under the name for its bytes or the one for its address."""
    image = given.get(name)
    return {inline if image is None or is_inline(image) else linked: image}


def prompt_of(given: Mapping[str, Any]) -> str:
    """Return a prompt as Midjourney reads one: addresses of images, words, parameters."""
    addresses = [image for image in given.get("images", ()) if not is_inline(image)]
    parameters = [f"{names[0]} {given[ours]}" for ours, names in _PARAMETERS.items() if ours in given]
    return " ".join([*addresses, str(given.get("prompt", "")), *parameters])


def prompt_so_far(task: Task) -> str | None:
    """Return the prompt that a task was made with: its own, or that of the task that it continues."""
    inherited: str | None = task.inherited.get("prompt")
    return prompt_of(task.input) if "prompt" in task.input else inherited


def _video_body(given: Mapping[str, Any], parent: str) -> dict[str, Any]:
    """Return the body for a video, or for the extension of one. CometAPI requires the motion."""
    resolution = given.get("resolution")
    return {
        "prompt": given.get("prompt"),
        "image": given.get("image"),
        "endImage": given.get("last_image"),
        "motion": given.get("motion", None if parent else "low"),
        "videoType": resolution and f"vid_1.1_i2v_{resolution.removesuffix('p')}",
        "loop": given.get("loop"),
        "batchSize": given.get("count"),
        **({"action": "extend", "index": given.get("index", 1) - 1, "taskId": parent} if parent else {}),
    }


def video_mistakes(task: Task) -> list[Mistake]:
    """Return the missing fields of a video."""
    if parent_of(task):
        return []
    found = []
    if "index" in task.input:
        found.append(Mistake("input.index", "It counts a parent's videos: name the parent_id."))
    body = merge(_video_body(task.input, ""), task.options)
    if not body.get("image") and "http" not in str(body.get("prompt", "")):
        found.append(Mistake("input.image", "is required: Midjourney sets a picture in motion"))
    return found


def given_twice(task: Task) -> list[Mistake]:
    """Return a mistake for each field whose parameter is in the prompt as well."""
    # Midjourney takes "=" for a blank.
    words = {word.partition("=")[0] for word in plain_dashes(str(task.input.get("prompt", ""))).split()}
    return [
        Mistake(f"input.{ours}", f"The prompt has {names[0]} already: give it once.")
        for ours, names in _PARAMETERS.items()
        if ours in task.input and task.operation == "imagine" and not words.isdisjoint(names)
    ]


def prompt_mistakes(task: Task) -> list[Mistake]:
    """Return a mistake for each parameter of the prompt that Midjourney is known to refuse, or that buys more than one job."""
    if "prompt" in task.options or task.operation not in _DRAWN:
        return []
    return [Mistake("input.prompt", words) for words in parameter_mistakes(str(task.input.get("prompt", "")))]


def chosen_action(wanted: str, offered: Sequence[Action]) -> Action | Mistake:
    """Return an action by its id, or by its label if only one has it."""
    found = [action for action in offered if action.id == wanted][:1]
    found = found or [action for action in offered if action.label.casefold() == wanted.casefold()]
    if len(found) == 1:
        return found[0]
    if found:
        return Mistake("input.action", f"{len(found)} actions are labelled {wanted!r}: give the id of one")
    return Mistake("input.action", f"the parent has no action {wanted!r}{nearest(wanted, _labels(offered))}")


def _labels(offered: Sequence[Action]) -> list[str]:
    return list(dict.fromkeys(action.label for action in offered))
