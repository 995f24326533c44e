"""ElkAPI's task API: one route to submit, and one object in answers and webhooks, for every model."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.webhook_events import TYPES
from service.flows.webhooks.formats.elkapi import task_document
from service.web.facades.body import Fields
from service.web.facades.door import Door, DoorRequest, DoorRoute, shown
from service.web.facades.models import Target, families_of, fitting, is_served, seconds_of, target_of
from service.web.problems import Problem

_NAMES: Final[Mapping[str, str]] = {
    "prompt": "prompt",
    "promptText": "prompt",
    "gpt_description_prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "negative_tags": "negative_prompt",
    "image": "image",
    "image_url": "image",
    "promptImage": "image",
    "first_frame_image": "image",
    "input_image": "image",
    "image_tail": "last_image",
    "last_frame_image": "last_image",
    "video": "video",
    "video_url": "video",
    "videoUri": "video",
    "aspect_ratio": "aspect_ratio",
    "ratio": "aspect_ratio",
    "resolution": "resolution",
    "seed": "seed",
    "tags": "style",
    "title": "title",
}
"""The vendors' names of our fields, for hosts that do not take any model by its name."""


def request_of(target: Target, said: Fields) -> dict[str, Any]:
    """Return our request: of any model by its name, with the vendor's input as it is, else of a family."""
    vendors = said.get("input")
    asked: dict[str, Any] = {"family": target.family, "operation": target.operation}
    if said.get("callback_url") is not None:
        asked |= {"callback_url": said["callback_url"], "callback_format": "elkapi", "callback_events": list(TYPES)}
    if target.is_any or not isinstance(vendors, dict):
        return {**asked, "input": {"model": said.get("model"), "input": vendors}}
    given = {_NAMES[name]: value for name, value in vendors.items() if name in _NAMES}
    given |= {"model": target.model, "duration": seconds_of(vendors.get("duration"))}
    return {**asked, "input": fitting(target, given)}


def operation_of(said: Fields) -> str:
    """Return the operation of a family that an input asks for."""
    given = said.get("input")
    names = {_NAMES.get(name) for name in given} if isinstance(given, dict) else set()
    family = next(iter(families_of(str(said.get("model") or ""))[0]), "")
    if family in {"flux", "ideogram", "recraft"}:
        return "image_to_image" if "image" in names else "text_to_image"
    return "video_to_video" if "video" in names else "image_to_video" if "image" in names else "text_to_video"


def error_document(problem: Problem) -> dict[str, Any]:
    """Return an error as gateways that run new-api write it."""
    param = problem.mistakes[0].path if problem.mistakes else ""
    error = {"message": problem.detail, "type": "dovecote_error", "param": param, "code": problem.code}
    return {"error": error}


async def submit(request: DoorRequest) -> Response:
    """Accept a task."""
    said = await request.fields()
    model = said.get("model")
    if not isinstance(model, str) or not model:
        raise Problem(400, "invalid_request", "model: is required")
    target = Target("any", "run", model)
    if not is_served(request.context, target.family, target.operation):
        target = target_of(request.context, model, operation_of(said), default="any")
    accepted = await request.accept(request_of(target, said), said)
    return shown(task_document(accepted.task))


async def retrieve(request: DoorRequest) -> Response:
    """Return a task."""
    return shown(task_document(await request.find(request.http.path_params["id"])))


DOOR: Final = Door(
    name="elkapi",
    prefixes=("", "/elkapi"),
    routes=(
        DoorRoute(method="POST", path="/v1/task/submit", handler=submit),
        DoorRoute(method="GET", path="/v1/task/{id}", handler=retrieve, scope=Scope.READ),
    ),
    write_error=error_document,
)
