"""new-api's video API: POST and GET /v1/video/generations, for every model."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.task import State, Task
from service.flows.webhooks.formats.ids import prefixed
from service.flows.webhooks.formats.shapes import WAITING, outputs, reason_of, texts, unix
from service.web.facades.door import Door, DoorRequest, DoorRoute, shown
from service.web.facades.elkapi import error_document
from service.web.facades.models import target_of
from service.web.facades.openai.videos import image_of, request_of

_STATUSES: Final[Mapping[State, tuple[str, str]]] = {
    **dict.fromkeys(WAITING, ("QUEUED", "queued")),
    State.RUNNING: ("IN_PROGRESS", "processing"),
    State.AWAITING_INPUT: ("IN_PROGRESS", "processing"),
    State.SUCCEEDED: ("SUCCESS", "succeeded"),
    State.FAILED: ("FAILURE", "failed"),
    State.CANCELLED: ("FAILURE", "failed"),
    State.EXPIRED: ("FAILURE", "failed"),
}
"""The words of a task's record, and those of the documented answer."""


def task_document(task: Task) -> dict[str, Any]:
    """Return a task as new-api shows it: the record that its servers send, and the fields that its pages document."""
    named, word = prefixed("task_", task.id), _STATUSES[task.state][1]
    url = next(iter(outputs(task, "video") or outputs(task) or texts(task)), None)
    reason = reason_of(task)
    record = {
        "task_id": named,
        "status": _STATUSES[task.state][0],
        "fail_reason": reason or "",
        "result_url": url or "",
        "progress": f"{100 if task.state.ended else task.progress or 0}%",
        "submit_time": unix(task.created_at),
        "finish_time": unix(task.finished_at) or 0,
        "data": {"status": word},
    }
    shared = {"task_id": named, "status": word, "url": url, "format": "mp4"}
    error = None if reason is None else {"code": 500, "message": reason}
    return {"code": "success", "message": "", "data": record, **shared, "error": error}


async def create(request: DoorRequest) -> Response:
    """Accept a video."""
    said = await request.fields()
    operation = "text_to_video" if image_of(said) is None else "image_to_video"
    target = target_of(request.context, said.get("model"), operation, default="any")
    accepted = await request.accept(request_of(target, said), said)
    task = accepted.task
    named = prefixed("task_", task.id)
    about = {"object": "video", "model": said.get("model"), "status": "queued", "created_at": unix(task.created_at)}
    return shown({"id": named, "task_id": named, **about})


async def retrieve(request: DoorRequest) -> Response:
    """Return a task."""
    return shown(task_document(await request.find(request.http.path_params["id"])))


_PATH: Final = "/v1/video/generations"
DOOR: Final = Door(
    name="newapi_video",
    prefixes=("", "/newapi"),
    routes=(
        DoorRoute(method="POST", path=_PATH, handler=create),
        DoorRoute(method="GET", path=f"{_PATH}/{{id}}", handler=retrieve, scope=Scope.READ),
    ),
    write_error=error_document,
)
