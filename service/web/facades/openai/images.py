"""OpenAI's images: generations and edits. The request is held until the picture is there."""

from collections.abc import Iterable
from typing import Any, Final

from starlette.responses import Response

from service.domain.task import Task
from service.flows.webhooks.formats.shapes import outputs, unix
from service.web.facades.body import Fields, whole_number
from service.web.facades.door import DoorRequest, DoorRoute, shown
from service.web.facades.media import as_base64
from service.web.facades.models import Target, fitting, shape_of, target_of
from service.web.facades.openai.errors import error_document
from service.web.facades.outcome import held, succeeded
from service.web.facades.stream import event, stream_of
from service.web.problems import Problem

_SAME: Final = ("quality", "background", "output_format", "output_compression", "moderation", "input_fidelity", "seed")
_OWN: Final = frozenset({*_SAME, "model", "prompt", "n", "size", "image", "images", "mask"})
_FOR_THE_DOOR: Final = frozenset({"response_format", "stream", "partial_images"})
"""Fields that say how the answer is to be written."""
_ONLY_BASE64: Final = ("gpt-image", "chatgpt-image")
"""Models whose clients expect base64, whatever they ask for."""


def request_of(target: Target, said: Fields) -> dict[str, Any]:
    """Return our request of a picture in OpenAI's form."""
    images = images_of(said)
    size = said.get("size")
    others = {
        name: value
        for name, value in said.items()
        if name not in _OWN and name not in _FOR_THE_DOOR and value is not None
    }
    given: dict[str, Any] = {
        "prompt": said.get("prompt"),
        "model": target.model,
        "count": whole_number(said.get("n")),
        "image": images[0] if len(images) == 1 else None,
        "images": images if len(images) > 1 else None,
        "mask": said.get("mask"),
        **{name: said[name] for name in _SAME if name in said},
    }
    asked: dict[str, Any] = {"family": target.family, "operation": target.operation}
    if target.is_any:
        vendors = {**said, "n": given["count"]}
        kept = {name: value for name, value in vendors.items() if name not in _FOR_THE_DOOR and value is not None}
        return {**asked, "input": {"model": target.model, "input": kept}}
    if target.family == "openai":
        return {**asked, "input": fitting(target, given), "options": {**others, **({"size": size} if size else {})}}
    ratio, _ = shape_of(size)
    single = {"image": images[0]} if images else {}
    return {**asked, "input": fitting(target, {**others, **given, **single, "aspect_ratio": ratio})}


def images_of(said: Fields) -> list[Any]:
    """Return the pictures to edit, as one or as a list."""
    found = said.get("image", said.get("images"))
    if found is None:
        return []
    return found if isinstance(found, list) else [found]


async def images_document(request: DoorRequest, task: Task, said: Fields) -> dict[str, Any]:
    """Return a task as OpenAI shows pictures."""
    model = str(said.get("model") or "")
    wants_base64 = said.get("response_format") == "b64_json" or model.startswith(_ONLY_BASE64)
    data = [
        await _item(request, task, url, wants_base64=wants_base64) for url in outputs(task, "image") or outputs(task)
    ]
    if not data:
        raise Problem(500, "provider_error", "the task has no picture", headers={"x-should-retry": "false"})
    return {"created": unix(task.finished_at or task.updated_at), "data": data}


async def _item(request: DoorRequest, task: Task, url: str, *, wants_base64: bool) -> dict[str, Any]:
    inline = url[:5].lower() == "data:"
    encoded = await as_base64(request, task, url) if inline or wants_base64 else None
    return {"b64_json": encoded} if encoded is not None else {"url": url}


async def create(request: DoorRequest) -> Response:
    """Accept a picture, and return it when it is there."""
    said = await request.fields()
    is_edit = request.route.path.endswith("/edits")
    if is_edit and not images_of(said):
        raise Problem(400, "invalid_request", "image: is required")
    operations = ("image_to_image", "edit_image", "edits") if is_edit else ("text_to_image", "imagine")
    target = target_of(request.context, said.get("model"), operations, default="openai")
    accepted = await request.accept(request_of(target, said), said)
    if said.get("stream") is True or said.get("stream") == "true":
        return _streamed(request, accepted.task, said, "image_edit" if is_edit else "image_generation")
    task = await held(request, accepted.task)
    return shown(await images_document(request, task, said))


def _streamed(request: DoorRequest, task: Task, said: Fields, name: str) -> Response:
    """Return the events of a picture: there are no partial ones."""

    async def write(ended: Task) -> Iterable[bytes]:
        try:
            document = await images_document(request, succeeded(ended), {**said, "response_format": "b64_json"})
        except Problem as problem:
            return [event({"type": "error", **error_document(problem)}, "error")]
        whole = {
            "created_at": document["created"],
            "size": said.get("size") or "auto",
            "quality": said.get("quality") or "auto",
            "background": said.get("background") or "auto",
            "output_format": said.get("output_format") or "png",
        }
        kind = f"{name}.completed"
        return [event({"type": kind, **whole, **each}, kind) for each in document["data"]]

    return stream_of(request, task, write)


ROUTES: Final = (
    DoorRoute(method="POST", path="/v1/images/generations", handler=create),
    DoorRoute(method="POST", path="/v1/images/edits", handler=create),
)
