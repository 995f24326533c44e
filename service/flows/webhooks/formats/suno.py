"""A task as Suno-API shows it: a row with clips, in answers to ``/suno/fetch``, in feeds and in calls of ``notify_hook``."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from service.domain.events import rfc3339
from service.domain.task import Result, State, Task
from service.flows.webhooks.formats.ids import task_id_of
from service.flows.webhooks.formats.shapes import first, reason_of, texts, unix

_STATUSES: Final[Mapping[State, tuple[str, str]]] = {
    State.QUEUED: ("NOT_START", "submitted"),
    State.SUBMITTING: ("NOT_START", "submitted"),
    State.UNCONFIRMED: ("SUBMITTED", "submitted"),
    State.SUBMITTED: ("SUBMITTED", "submitted"),
    State.AWAITING_INPUT: ("IN_PROGRESS", "queued"),
    State.RUNNING: ("IN_PROGRESS", "queued"),
    State.SUCCEEDED: ("SUCCESS", "complete"),
    State.FAILED: ("FAILURE", "error"),
    State.CANCELLED: ("FAILURE", "error"),
    State.EXPIRED: ("FAILURE", "error"),
}
"""The words of a task and of its clips."""
USUAL_CLIPS: Final = 2
"""The clips that Suno makes of a song; before they exist they have ids of ours."""
_CLIP: Final = re.compile(r"([0-9a-f]{32}|[0-9a-f-]{36})-c([0-9]{1,2})")


def clip_id(task: Task, number: int) -> str:
    """Return the id of a clip of a task, from before it exists."""
    return f"{task.id.hex}-c{number}"


def clip_of(named: str) -> tuple[UUID, int] | None:
    """Return the task and the number of a clip by an id of ours; None for any other id."""
    found = _CLIP.fullmatch(named.strip().lower())
    task_id = None if found is None else task_id_of(found[1])
    return None if found is None or task_id is None else (task_id, int(found[2]))


def items_of(task: Task) -> list[str | None]:
    """Return the provider's ids of a task's clips, in their order."""
    made = [each.item for each in task.results if each.role == "result" and each.kind in {"audio", "video"}]
    return list(dict.fromkeys(made)) if all(item is not None for item in made) else made


def row(task: Task) -> dict[str, Any]:
    """Return the row of a task."""
    return {
        "task_id": str(task.id),
        "action": "LYRICS" if task.operation == "lyrics" else "MUSIC",
        "status": _STATUSES[task.state][0],
        "fail_reason": reason_of(task) or "",
        "submit_time": unix(task.created_at),
        "start_time": unix(task.submitted_at) or 0,
        "finish_time": unix(task.finished_at) or 0,
        "progress": f"{100 if task.state.ended else task.progress or 0}%",
        "data": lyrics_document(task) if task.operation == "lyrics" else clips(task),
    }


def clips(task: Task) -> list[dict[str, Any]]:
    """Return the clips of a task: those that were made, or those that are to be made."""
    count = len(items_of(task)) if task.state is State.SUCCEEDED else USUAL_CLIPS
    return [clip_document(task, number) for number in range(count)]


def clip_document(task: Task, number: int) -> dict[str, Any]:
    """Return one clip of a task. One that the provider did not make is an error once the task has ended."""
    made = items_of(task)
    results = _results_of(task, made, number)
    word = _STATUSES[task.state][1]
    reason = reason_of(task)
    if task.state is State.SUCCEEDED and number >= len(made):
        word, reason = "error", f"the task made {len(made)} clips"
    given = task.input
    return {
        "id": clip_id(task, number),
        "status": word,
        "audio_url": _url(results, "audio", "result") or "",
        "video_url": _url(results, "video", "extra", "result") or "",
        "image_url": _url(results, "image", "cover", "extra") or "",
        "title": str(given.get("title") or ""),
        "model_name": str(given.get("model") or ""),
        "major_model_version": "",
        "created_at": rfc3339(task.created_at),
        "metadata": {
            "prompt": given.get("lyrics", ""),
            "gpt_description_prompt": given.get("prompt"),
            "tags": given.get("style", ""),
            "duration": None,
            "error_message": reason if word == "error" else None,
        },
    }


def lyrics_document(task: Task) -> dict[str, Any]:
    """Return the lyrics that a task has written."""
    text = first(texts(task)) or ""
    title, _, _ = text.strip().partition("\n")
    return {
        "id": task.id.hex,
        "status": _STATUSES[task.state][1],
        "text": text,
        "title": title.strip("[]# ")[:80],
        "error_message": reason_of(task),
    }


def _results_of(task: Task, made: Sequence[str | None], number: int) -> list[Result]:
    if number >= len(made):
        return []
    item = made[number]
    if item is not None:
        return [each for each in task.results if each.item == item]
    playable = [each for each in task.results if each.role == "result"]
    return playable[number : number + 1]


def _url(results: Sequence[Result], kind: str, *roles: str) -> str | None:
    return next((each.url for each in results if each.kind == kind and each.role in roles), None)


def message(task: Task, base: str) -> dict[str, Any]:
    """Return the body of a call of ``notify_hook``: the answer of ``/suno/fetch/{id}``."""
    del base
    return {"code": "success", "message": "", "data": row(task)}
