"""Runway at a gateway: the aggregators' own format (`/runway/*`) and Runway's format relayed (`/runwayml/v1/*`)."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.sandbox.desk import Answer, Creation, Desk, Show, read_object
from service.sandbox.gateway import GATEWAY, task_error
from service.sandbox.jobs import Job, Order, State
from service.sandbox.runwayml import failure, missing, read_order, task_object, wrong_version

# The numbers of the aggregators' own format (DeerAPI's field table, CometAPI's callback sample): 2 is a failure.
NUMBERS: Final[dict[State, str]] = {"queued": "0", "running": "1", "failed": "2", "succeeded": "3"}
# The words of new-api's task layer.
WORDS: Final[dict[State, str]] = {
    "queued": "QUEUED",
    "running": "IN_PROGRESS",
    "failed": "FAILURE",
    "succeeded": "SUCCESS",
}

_POINTS: Final = 32  # a second of output: 320 for ten, as in CometAPI's sample
_SECONDS: Final = 10  # of output, where an order does not say
_EXEC_TIME: Final = 0.02  # seconds

# route → fields that it needs besides callback_url
_NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "generate": ("prompt", "model"),
    "video2video": ("prompt", "model", "video"),
    "act_one": ("video", "image"),
}
# operation → fields that it needs (CometAPI's pages; text_to_image wants its reference images here)
_RELAYED: Final[dict[str, tuple[str, ...]]] = {
    "image_to_video": ("model", "promptImage"),
    "text_to_image": ("model", "promptText"),
    "video_to_video": ("model", "videoUri"),
    "video_upscale": ("model", "videoUri"),
    "character_performance": ("model", "character", "reference"),
}


def routes(desk: Desk) -> list[Route]:
    """Make the routes of both formats; a job of either can be polled by the other's route, as at CometAPI."""

    async def feed(request: Request) -> Response:
        document = await read_object(request) or {}
        return desk.poll(str(document.get("task_id")), GATEWAY, lambda job: _shape(job, "A"))

    async def relayed_task(request: Request) -> Response:
        return desk.poll(request.path_params["id"], GATEWAY, lambda job: _shape(job, "D"))

    return [
        *(desk.creation(GATEWAY, _own_creation(name)) for name in _NEEDED),
        desk.route(GATEWAY, "POST", "/runway/feed", feed),
        *(desk.creation(GATEWAY, _relayed_creation(operation)) for operation in _RELAYED),
        desk.route(GATEWAY, "GET", "/runwayml/v1/tasks/{id}", relayed_task),
    ]


def _own_creation(name: str) -> Creation:
    def read(_request: Request, document: Mapping[str, Any]) -> Order | Answer:
        if not document.get("callback_url"):
            return task_error("callback_url_empty", "callback_url is empty")
        absent = missing(document, _NEEDED[name])
        if absent:
            return task_error("invalid_request", f"{', '.join(absent)} is required")
        return _read_own_order(document)

    return Creation(f"/runway/pro/{name}", read, taken=_taken, callback=record)


def _read_own_order(document: Mapping[str, Any]) -> Order:
    options = document.get("options")
    seconds = options.get("seconds") if isinstance(options, Mapping) else None
    prompt = document.get("prompt")
    return Order(
        document=document,
        prompt=prompt if isinstance(prompt, str) else "",
        points=_POINTS * (seconds if isinstance(seconds, int) else _SECONDS),
        callback_url=str(document["callback_url"]),
    )


def _relayed_creation(operation: str) -> Creation:
    def read(request: Request, document: Mapping[str, Any]) -> Order | Answer:
        wrong = wrong_version(request)
        if wrong is not None:
            return task_error("invalid_request", wrong)
        absent = missing(document, _RELAYED[operation])
        if absent:
            return task_error("invalid_request", f"{', '.join(absent)} is required")
        if operation == "text_to_image" and not document.get("referenceImages"):
            return task_error("reference_images_empty", "referenceImages is empty")
        return read_order(operation, document)

    return Creation(f"/runwayml/v1/{operation}", read, taken=lambda job: {"id": job.id})


def _taken(job: Job) -> dict[str, Any]:
    return {"code": 200, "msg": "成功", "data": {"task_id": job.id}, "exec_time": _EXEC_TIME}


def record(job: Job, state: State, at: float) -> dict[str, Any]:
    """Show a job as the aggregators' task record: the `data` of a poll, and the whole of a callback.

    All numbers are strings, times are Unix seconds (CometAPI, Runway best-practices page; `POST /runway/feed`).
    """
    done, failed = state == "succeeded", state == "failed"
    return {
        "task_id": job.id,
        "status": NUMBERS[state],
        "prompt": job.prompt,
        "prompt_en": job.prompt,
        "video_url": job.file_url if done else None,
        "poster": job.file("poster.png") if done else None,
        "last_frame": job.file("last_frame.png") if done else None,
        "msg": failure(job)[0] if failed else None,
        "point": str(job.points),
        "refund": "1" if failed else "0",
        "create_time": str(int(job.created_at)),
        "update_time": str(int(job.life.changed_at(at))),
    }


def _enveloped_record(job: Job, state: State, at: float) -> dict[str, Any]:
    return {"code": 200, "msg": "成功", "data": record(job, state, at), "exec_time": _EXEC_TIME}


def _gateway_record(job: Job, state: State, at: float) -> dict[str, Any]:
    """Show a job as new-api's task row around Runway's task object; times are whole numbers, 0 is not yet."""
    life = job.life
    return {
        "task_id": job.id,
        "action": _action(job),
        "status": WORDS[state],
        "fail_reason": failure(job)[0] if state == "failed" else "",
        "submit_time": int(job.created_at),
        "start_time": int(life.started_at) if at >= life.started_at else 0,
        "finish_time": int(life.ended_at) if at >= life.ended_at else 0,
        "progress": f"{int(life.progress_at(at) * 100)}%",
        "data": task_object(job, state, at),
    }


def _enveloped_gateway_record(job: Job, state: State, at: float) -> dict[str, Any]:
    return {"code": "success", "message": "", "data": _gateway_record(job, state, at)}


def _flat_gateway_record(job: Job, state: State, at: float) -> dict[str, Any]:
    return _gateway_record(job, state, at) | {"result_url": job.file_url if state == "succeeded" else ""}


_SHAPES: Final[Mapping[str, Callable[[Job, State, float], dict[str, Any]]]] = {
    "A": _enveloped_record,
    "B": _enveloped_gateway_record,
    "C": _flat_gateway_record,
    "D": task_object,
}


def _shape(job: Job, usual: str) -> Show:
    return _SHAPES[job.faults.feed_shape or usual]


def _action(job: Job) -> str:
    """Name the job's action as new-api does."""
    name = job.route.rpartition("/")[2]
    if name == "generate":
        return "IMAGE_TO_VIDEO" if job.order.document.get("image") else "TEXT_TO_VIDEO"
    return "VIDEO_TO_VIDEO" if name == "video2video" else name.upper()
