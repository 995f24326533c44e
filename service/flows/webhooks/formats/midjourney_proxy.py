"""A task as midjourney-proxy shows it: in answers to polls and in calls of ``notifyHook``.

The fields are those of the engines and of new-api: ``id, action, status, progress, imageUrl, videoUrls, failReason, buttons``.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

from service.domain.task import Action, State, Task
from service.flows.webhooks.formats.shapes import outputs, reason_of, texts

STATE_LABEL: Final = "state"
"""The label in which the client's own ``state`` is kept, to be handed back unchanged."""
_STATUSES: Final[Mapping[State, str]] = {
    State.QUEUED: "NOT_START",
    State.SUBMITTING: "NOT_START",
    State.UNCONFIRMED: "SUBMITTED",
    State.SUBMITTED: "SUBMITTED",
    State.AWAITING_INPUT: "MODAL",
    State.RUNNING: "IN_PROGRESS",
    State.SUCCEEDED: "SUCCESS",
    State.FAILED: "FAILURE",
    State.CANCELLED: "FAILURE",  # clients poll on at words such as CANCEL
    State.EXPIRED: "FAILURE",
}
_ACTIONS: Final[Mapping[str, str]] = {
    "imagine": "IMAGINE",
    "blend": "BLEND",
    "describe": "DESCRIBE",
    "shorten": "SHORTEN",
    "video": "VIDEO",
    "edits": "EDITS",
    "upload": "UPLOAD",
    "face_swap": "SWAP_FACE",
}
_CHANGES: Final = {"U": "UPSCALE", "V": "VARIATION", "R": "REROLL"}
_BUTTONS: Final = (
    ("MJ::JOB::upsample", "UPSCALE"),
    ("MJ::JOB::variation", "VARIATION"),
    ("MJ::JOB::low_variation", "LOW_VARIATION"),
    ("MJ::JOB::high_variation", "HIGH_VARIATION"),
    ("MJ::JOB::reroll", "REROLL"),
    ("MJ::JOB::pan_", "PAN"),
    ("MJ::Inpaint", "INPAINT"),
    ("MJ::Outpaint", "ZOOM"),
    ("MJ::CustomZoom", "CUSTOM_ZOOM"),
)
"""The action of a button, by the beginning of its ``customId``."""
_ASCII: Final = 128


def task_document(task: Task) -> dict[str, Any]:
    """Return a task as midjourney-proxy shows it."""
    prompt = str(task.input.get("prompt") or "")
    written = next(iter(texts(task)), None)
    videos = outputs(task, "video")
    return {
        "id": task.id.hex,
        "action": action_of(task),
        "status": _STATUSES[task.state],
        "progress": f"{100 if task.state.ended else task.progress or 0}%",
        "prompt": written or prompt,
        "promptEn": written or prompt,
        "description": f"/{action_of(task).lower()} {prompt}".strip(),
        "state": task.labels.get(STATE_LABEL, ""),
        "submitTime": _milliseconds(task.created_at),
        "startTime": _milliseconds(task.submitted_at),
        "finishTime": _milliseconds(task.finished_at),
        "imageUrl": _picture(task),
        "videoUrl": next(iter(videos), ""),
        "videoUrls": [{"url": url} for url in videos],
        "failReason": reason_of(task) or "",
        "buttons": [_button(each) for each in task.next_actions],
        "properties": {"finalPrompt": written or prompt, "finalZhPrompt": ""},
    }


def action_of(task: Task) -> str:
    """Return the word for what a task does, such as ``UPSCALE``."""
    if task.operation == "change":
        return str(task.input.get("change", "")).upper()
    if task.operation == "simple_change":
        return _CHANGES.get(str(task.input.get("shorthand", ""))[:1].upper(), "ACTION")
    if task.operation == "action":
        wanted = str(task.input.get("action", ""))
        return next((word for start, word in _BUTTONS if wanted.startswith(start)), "ACTION")
    return _ACTIONS.get(task.operation, task.operation.upper())


def _picture(task: Task) -> str:
    """Return the picture of a task: its output, or the preview while it runs."""
    role = "result" if task.state.ended else "preview"
    pictures = [
        each.url for each in task.results if each.url is not None and each.kind == "image" and each.role == role
    ]
    beside = [
        each.url for each in task.results if each.url is not None and each.kind == "image" and each.role == "extra"
    ]
    return next(iter([*pictures, *(beside if task.state.ended else [])]), "")


def _button(action: Action) -> dict[str, Any]:
    """Return a button. A label without a letter is an emoji."""
    is_emoji = all(ord(letter) >= _ASCII for letter in action.label)
    label, emoji = ("", action.label) if is_emoji else (action.label, "")
    return {"customId": action.id, "emoji": emoji, "label": label, "type": 2, "style": 2}


def _milliseconds(moment: dt.datetime | None) -> int:
    """Return a time as milliseconds since 1970; 0 where there is none."""
    return 0 if moment is None else int(moment.timestamp() * 1000)


def message(task: Task, base: str) -> dict[str, Any]:
    """Return the body of a call of ``notifyHook``: the bare task."""
    del base
    return task_document(task)
