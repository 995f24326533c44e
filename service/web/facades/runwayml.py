"""Runway's own API, as its SDKs and LiteLLM speak it: ``RUNWAYML_BASE_URL=https://…/runwayml``."""

import re
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.events import rfc3339
from service.domain.media_references import upload_name
from service.domain.task import State, Task
from service.flows.webhooks.formats.shapes import code_of, outputs, reason_of
from service.web.facades.actions import cancel, credit_of
from service.web.facades.body import Fields
from service.web.facades.door import Door, DoorRequest, DoorRoute, shown
from service.web.facades.uploads import NAME, at_address, is_stored, new_address, store, with_uploads
from service.web.problems import Problem

OPERATIONS: Final = (
    "text_to_video",
    "image_to_video",
    "video_to_video",
    "text_to_image",
    "video_upscale",
    "image_upscale",
    "video_to_hdr",
    "character_performance",
    "text_to_speech",
    "sound_effect",
    "speech_to_speech",
    "voice_dubbing",
    "voice_isolation",
)
"""Runway's routes and our operations have the same names."""
_SAME: Final = {
    "promptText": "prompt",
    "negativePrompt": "negative_prompt",
    "model": "model",
    "seed": "seed",
    "duration": "duration",
    "ratio": "aspect_ratio",
    "targetAspectRatio": "aspect_ratio",
    "resolution": "resolution",
    "scaleFactor": "scale",
    "loop": "loop",
    "targetLang": "language",
    "bodyControl": "body_control",
    "expressionIntensity": "expression_intensity",
    "videoUri": "video",
    "promptVideo": "video",
    "imageUri": "image",
    "audioUri": "audio",
}
"""Runway's names and ours, where the value is the same."""
_STATUSES: Final[Mapping[State, str]] = {
    State.QUEUED: "PENDING",
    State.SUBMITTING: "PENDING",
    State.UNCONFIRMED: "PENDING",
    State.SUBMITTED: "PENDING",
    State.RUNNING: "RUNNING",
    State.AWAITING_INPUT: "RUNNING",
    State.SUCCEEDED: "SUCCEEDED",
    State.FAILED: "FAILED",
    State.CANCELLED: "CANCELLED",
    State.EXPIRED: "FAILED",
}
_CODES: Final[Mapping[str, str]] = {
    "content_policy": "SAFETY",
    "invalid_input": "INPUT_PREPROCESSING.INTERNAL",
    "overloaded": "THIRD_PARTY.UNAVAILABLE",
}
_UPLOADED: Final = re.compile(f"runway://{NAME}")
_NAMES: Final = {"prompt": "promptText", "image": "promptImage", "video": "videoUri", "aspect_ratio": "ratio"}
"""Runway's names of our fields, for errors."""


def request_of(operation: str, said: Fields) -> dict[str, Any]:
    """Return our request of a body in Runway's form. Fields without a name of ours go to the provider as they are."""
    given: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, value in said.items():
        if value is None:
            continue
        found = _media(operation, name, value)
        if found is not None:
            given |= found
        elif name in _SAME:
            given[_SAME[name]] = value
        else:
            options[name] = value
    asked = {"family": "runway", "operation": operation, "input": given, "options": options}
    return dict(with_uploads(asked, _UPLOADED))


def _media(operation: str, name: str, value: Any) -> dict[str, Any] | None:
    """Return the fields of ours for one of Runway's that holds media; None where it is none, or has another form."""
    if name == "promptImage":
        return {"image": value} if isinstance(value, str) else _frames(value)
    if isinstance(value, list):
        return _lists(operation, name, value)
    if not isinstance(value, dict):
        return None
    if name == "voice":
        return {"voice": value["presetId"]} if "presetId" in value else None
    ours = {"reference": "video", "media": "audio"}.get(name)
    if name == "character":
        ours = "character_video" if value.get("type") == "video" else "image"
    return {ours: value["uri"]} if ours is not None and "uri" in value else None


def _lists(operation: str, name: str, value: list[Any]) -> dict[str, Any] | None:
    """Return the fields of ours for a list of media."""
    if name == "referenceImages" or (name == "references" and operation == "video_to_video"):
        return {"reference_images": [_renamed(each, {"uri": "url", "tag": "tag"}) for each in value]}
    if name == "keyframes":
        return {
            "keyframes": [_renamed(each, {"uri": "image", "seconds": "second", "at": "position"}) for each in value]
        }
    return None


def _frames(frames: Any) -> dict[str, Any] | None:
    """Return the first and the last image of a list of images with a position."""
    if not isinstance(frames, list):
        return None
    found: dict[str, Any] = {}
    for frame in frames:
        if not isinstance(frame, dict) or not isinstance(frame.get("uri"), str):
            return None
        found["last_image" if frame.get("position") == "last" else "image"] = frame["uri"]
    return found or None


def _renamed(item: Any, names: Mapping[str, str]) -> Any:
    """Return an object with its fields renamed; fields without another name are left out."""
    if not isinstance(item, dict):
        return item
    return {names[name]: value for name, value in item.items() if name in names and value is not None}


def task_document(task: Task) -> dict[str, Any]:
    """Return a task as Runway shows it."""
    status = _STATUSES[task.state] if task.waits_for is None else "THROTTLED"
    document: dict[str, Any] = {"id": str(task.id), "createdAt": rfc3339(task.created_at), "status": status}
    if status == "RUNNING":
        document["progress"] = (task.progress or 0) / 100
    if status == "SUCCEEDED":
        document["output"] = outputs(task) or [each.text for each in task.results if each.text is not None]
    if status == "FAILED":
        document["failure"] = reason_of(task)
        document["failureCode"] = _CODES.get(code_of(task), "INTERNAL")
    return document


def error_document(problem: Problem) -> dict[str, Any]:
    """Return an error as Runway writes it."""
    document: dict[str, Any] = {"error": problem.detail}
    if problem.mistakes:
        document["issues"] = [
            {"code": "invalid", "path": _NAMES.get(each.path, each.path).split("."), "message": each.message}
            for each in problem.mistakes
        ]
    return document


async def create(request: DoorRequest) -> Response:
    """Accept a task."""
    said = await request.fields()
    accepted = await request.accept(request_of(request.route.path.rpartition("/")[2], said), said)
    return shown({"id": str(accepted.task.id)})


async def run_recipe(request: DoorRequest) -> Response:
    """Accept a recipe, a routed generation or a run of a workflow: its input is Runway's own."""
    said = await request.fields()
    named = str(request.http.path_params["name"])
    given: dict[str, Any]
    match request.route.path.split("/")[-2]:
        case "recipes":
            operation, given = "recipe", {"recipe": named, "input": said}
        case "generate":
            operation, given = "routed", {"kind": named, "router": said.get("configId"), "input": said.get("input")}
        case _:
            operation, given = "workflow", {"workflow": named, "node_outputs": said.get("nodeOutputs")}
    accepted = await request.accept({"family": "runway", "operation": operation, "input": given}, said)
    return shown({"id": str(accepted.task.id)})


async def begin_upload(request: DoorRequest) -> Response:
    """Return where a file can be uploaded without a key, and the address that names it in an input then."""
    said = await request.fields()
    upload_id, query = new_address(request)
    name = upload_name(upload_id)
    address = f"{request.base}/v1/uploads/{name}?{query}"
    fields = {"name": str(said.get("filename") or "")[:200]}
    return shown({"uploadUrl": address, "fields": fields, "runwayUri": f"runway://{name}"})


async def upload(request: DoorRequest) -> Response:
    """Store a file, to the holder of its address."""
    upload_id, client = at_address(request)
    said = await request.fields()
    if not await is_stored(request, upload_id):
        name = str(said.get("name", ""))
        await store(request, said.get("file"), client=client, name=name, upload_id=upload_id)
    return Response(status_code=204)


async def retrieve(request: DoorRequest) -> Response:
    """Return a task."""
    task = await request.find(request.http.path_params["id"])
    return shown(task_document(task))


async def delete(request: DoorRequest) -> Response:
    """Cancel a task. One that has ended stays."""
    task = await request.find(request.http.path_params["id"])
    await cancel(request, task)
    return Response(status_code=204)


async def retrieve_invocation(request: DoorRequest) -> Response:
    """Return a run of a workflow: its outputs are an object."""
    task = await request.find(request.http.path_params["id"])
    document = task_document(task)
    if "output" in document:
        document["output"] = {"outputs": document["output"]}
    return shown(document)


async def organization(request: DoorRequest) -> Response:
    """Return the credit of the first upstream that serves Runway and tells it."""
    credit = await credit_of(request, "runway", "text_to_video")
    return shown({"creditBalance": credit, "tier": {"maxMonthlyCreditSpend": 0, "models": {}}, "usage": {"models": {}}})


def _routes(prefix: str) -> tuple[DoorRoute, ...]:
    creating = [DoorRoute(method="POST", path=f"{prefix}/{name}", handler=create) for name in OPERATIONS]
    return (
        *creating,
        DoorRoute(method="POST", path=f"{prefix}/recipes/{{name}}", handler=run_recipe),
        DoorRoute(method="POST", path=f"{prefix}/generate/{{name}}", handler=run_recipe),
        DoorRoute(method="POST", path=f"{prefix}/workflows/{{name}}", handler=run_recipe),
        DoorRoute(
            method="GET", path=f"{prefix}/workflow_invocations/{{id}}", handler=retrieve_invocation, scope=Scope.READ
        ),
        DoorRoute(method="GET", path=f"{prefix}/tasks/{{id}}", handler=retrieve, scope=Scope.READ),
        DoorRoute(method="DELETE", path=f"{prefix}/tasks/{{id}}", handler=delete),
        DoorRoute(method="DELETE", path=f"{prefix}/tasks/{{id}}/cancel", handler=delete),
        DoorRoute(method="POST", path=f"{prefix}/uploads", handler=begin_upload),
        DoorRoute(method="POST", path=f"{prefix}/uploads/{{id}}", handler=upload, is_open=True),
        DoorRoute(method="GET", path=f"{prefix}/organization", handler=organization, scope=Scope.READ),
    )


DOOR: Final = Door(
    name="runwayml",
    prefixes=("/runwayml",),
    routes=(*_routes("/v1"), *_routes("/v1/v1")),  # LiteLLM adds /v1 to a base that ends in it already
    write_error=error_document,
)
