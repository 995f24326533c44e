"""Runway as gateways offer it: POST /runway/pro/*, /runway/feed, and the routes of Runway's web page that chat clients use."""

from typing import Any, Final

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.task import State, Task
from service.domain.webhook_events import TYPES
from service.flows.webhooks.formats.runway_gateway import record
from service.flows.webhooks.formats.shapes import outputs, reason_of
from service.web.facades.body import Fields
from service.web.facades.door import Door, DoorRequest, DoorRoute, shown
from service.web.facades.models import seconds_of
from service.web.problems import Problem

_SAME: Final = {
    "prompt": "prompt",
    "text_prompt": "prompt",
    "model": "model",
    "ratio": "aspect_ratio",
    "style": "style",
    "image": "image",
    "init_image": "image",
    "last_image": "last_image",
    "video": "video",
    "seed": "seed",
}
"""Our names of the gateways' fields, where the value is the same."""
_PLACEHOLDERS: Final = ("https://callback.invalid", "http://callback.invalid")
"""Addresses that clients give where a gateway insists on one: nobody is told."""
_EVENTS: Final = [name for name in TYPES if name.startswith("task.") and name.partition(".")[2] in {
    "submitted", "running", "succeeded", "failed", "cancelled", "expired", "late_result", "progress",
}]  # fmt: skip
_NAMES: Final = {"aspect_ratio": "ratio", "duration": "options.seconds", "strength": "options.structure_transformation"}


def request_of(operation: str, said: Fields) -> dict[str, Any]:
    """Return our request of a body in the gateways' form."""
    options = said.get("options")
    more: dict[str, Any] = options if isinstance(options, dict) else {}
    given = {ours: said[theirs] for theirs, ours in _SAME.items() if said.get(theirs) not in (None, "")}
    given |= {ours: more[theirs] for theirs, ours in _SAME.items() if more.get(theirs) not in (None, "")}
    seconds = seconds_of(more.get("seconds", said.get("seconds")))
    if seconds is not None and operation != "character_performance":
        given["duration"] = seconds
    if isinstance(more.get("motion_vector"), dict) and operation != "video_to_video":
        moves = {name: value for name, value in more["motion_vector"].items() if value not in (0, None)}
        if moves:
            given["motion"] = moves
    if operation == "video_to_video" and more.get("structure_transformation") is not None:
        given["strength"] = more["structure_transformation"]
    if operation == "image_to_video" and more.get("image_as_end_frame") is True and "image" in given:
        given["last_image"] = given.pop("image")
    width, height = more.get("width"), more.get("height")
    if isinstance(width, int) and isinstance(height, int):
        given.setdefault("aspect_ratio", f"{width}:{height}")
    asked: dict[str, Any] = {"family": "runway", "operation": operation, "input": given}
    hook = said.get("callback_url")
    if isinstance(hook, str) and hook and not hook.startswith(_PLACEHOLDERS):
        asked |= {"callback_url": hook, "callback_format": "runway-gateway", "callback_events": _EVENTS}
    return asked


def feed_document(task: Task) -> dict[str, Any]:
    """Return the answer of the feed: the record in an envelope."""
    return {"code": 200, "msg": "success", "message": "", "data": record(task), "exec_time": 0.0}


def web_document(task: Task) -> dict[str, Any]:
    """Return a task as Runway's web page has it."""
    words = {State.SUCCEEDED: "SUCCEEDED", State.RUNNING: "RUNNING"}
    word = words.get(task.state, "FAILED" if task.state.ended else "PENDING")
    artifacts = [{"url": url, "previewUrls": []} for url in outputs(task)] if word == "SUCCEEDED" else []
    done = 1 if task.state.ended else (task.progress or 0) / 100
    reason = reason_of(task)
    error = None if reason is None else {"errorMessage": reason, "reason": reason}
    shown_task = {
        "id": str(task.id),
        "status": word,
        "progressRatio": str(done),
        "artifacts": artifacts,
        "error": error,
    }
    return {"task": shown_task}


def error_document(problem: Problem) -> dict[str, Any]:
    """Return an error as gateways write it."""
    detail = problem.detail
    if problem.mistakes:
        detail = "; ".join(f"{_NAMES.get(each.path, each.path)}: {each.message}" for each in problem.mistakes)
    error = {"message": detail, "type": "dovecote_error", "code": problem.code}
    return {"code": problem.code, "msg": detail, "message": detail, "data": None, "error": error}


async def create(request: DoorRequest) -> Response:
    """Accept a task."""
    said = await request.fields()
    match request.route.path.rpartition("/")[2]:
        case "video2video" | "aleph":
            operation = "video_to_video"
        case "act_one":
            operation = "character_performance"
        case _:
            operation = "image_to_video" if said.get("image") else "text_to_video"
    accepted = await request.accept(request_of(operation, said), said)
    data = {"task_id": str(accepted.task.id)}
    return shown({"code": 200, "msg": "success", "message": "", "data": data, "exec_time": 0.0})


async def feed(request: DoorRequest) -> Response:
    """Return a task."""
    said = await request.fields() if request.http.method == "POST" else dict(request.http.query_params)
    named = said.get("task_id")
    if not isinstance(named, str):
        raise Problem(400, "invalid_request", "task_id: is required")
    try:
        task = await request.find(named)
    except Problem:
        raise Problem(400, "task_not_exist", "task_not_exist") from None
    return shown(feed_document(await request.whole(task)))


async def create_on_web(request: DoorRequest) -> Response:
    """Accept a task in the form of Runway's web page."""
    said = await request.fields()
    options = said.get("options")
    has_image = isinstance(options, dict) and bool(options.get("init_image"))
    asked = request_of("image_to_video" if has_image else "text_to_video", {"model": said.get("taskType"), **said})
    accepted = await request.accept(asked, said)
    return shown(web_document(accepted.task))


async def retrieve_on_web(request: DoorRequest) -> Response:
    """Return a task in the form of Runway's web page."""
    return shown(web_document(await request.find(request.http.path_params["id"])))


def _routes() -> tuple[DoorRoute, ...]:
    creating = [
        DoorRoute(method="POST", path=f"{start}/{name}", handler=create)
        for start in ("/pro", "/v1/pro", "/v1", "")
        for name in ("generate", "video2video", "aleph", "act_one")
    ]
    return (
        *creating,
        DoorRoute(method="POST", path="/feed", handler=feed, scope=Scope.READ),
        DoorRoute(method="GET", path="/feed", handler=feed, scope=Scope.READ),
        DoorRoute(method="POST", path="/v1/feed", handler=feed, scope=Scope.READ),
        *(DoorRoute(method="POST", path=f"{start}/tasks", handler=create_on_web) for start in ("", "/pro")),
        *(
            DoorRoute(method="GET", path=f"{start}/tasks/{{id}}", handler=retrieve_on_web, scope=Scope.READ)
            for start in ("", "/pro")
        ),
    )


DOOR: Final = Door(name="runway_gateway", prefixes=("/runway",), routes=_routes(), write_error=error_document)
