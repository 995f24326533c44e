"""Wan by Alibaba's Model Studio (DashScope): every call is asynchronous, by a header.

Sources: Model Studio's API reference, and its SDK ``dashscope`` 2.0 for the names of the media.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from service.domain.errors import AccountProblem, NotFound, Refused, Unavailable, UpstreamError
from service.domain.task import Failure, Result, State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, about, merge
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import RETRYABLE
from service.providers.newapi.video import video_failure
from service.providers.operation import FIELDS as SHARED
from service.providers.operation import choice, family, integer, operation, several, switch, text
from service.providers.read import fields, identifier, items, line, link, word
from service.providers.wire import Call, Exchange, Reply

STATES: Mapping[str, State] = {
    "pending": State.SUBMITTED,
    "running": State.RUNNING,
    "suspended": State.RUNNING,
    "succeeded": State.SUCCEEDED,
    "failed": State.FAILED,
    "canceled": State.CANCELLED,
}
UNKNOWN = "unknown"
"""The word of a task that does not exist, or is older than a day."""
CODES: tuple[tuple[str, type[UpstreamError], str], ...] = (
    ("DataInspectionFailed", Refused, "content_policy"),
    ("InvalidApiKey", AccountProblem, "unauthorized"),
    ("Arrearage", AccountProblem, "insufficient_credit"),
    ("AccessDenied", AccountProblem, "forbidden"),
    ("Model.AccessDenied", AccountProblem, "forbidden"),
    ("Throttling", Unavailable, "rate_limited"),
    ("InvalidParameter", Refused, "invalid_input"),
    ("InvalidURL", Refused, "invalid_input"),
    ("BadRequest", Refused, "invalid_input"),
)
"""Error codes by their start, of refused calls and of failed jobs (Model Studio's page on error codes)."""
_VIDEO, _IMAGE, _EDIT = (
    f"/api/v1/services/aigc/{name}"
    for name in ("video-generation/video-synthesis", "text2image/image-synthesis", "image2image/image-synthesis")
)
_ROUTES = {
    "text_to_video": _VIDEO,
    "image_to_video": _VIDEO,
    "reference_to_video": _VIDEO,
    "text_to_image": _IMAGE,
    "image_to_image": _EDIT,
}
_MODELS = {
    "text_to_video": "wan2.2-t2v-plus",
    "image_to_video": "wan2.2-i2v-plus",
    "reference_to_video": "wan2.7-r2v",
    "text_to_image": "wan2.2-t2i-plus",
    "image_to_image": "wan2.5-i2i-preview",
}
"""The models that are taken where none is named."""
_KEYFRAMES = "wanx2.1-kf2v-plus"
"""The model for a first and a last frame."""
_SIZES = {
    ("480p", "16:9"): "832*480",
    ("480p", "9:16"): "480*832",
    ("480p", "1:1"): "624*624",
    ("720p", "16:9"): "1280*720",
    ("720p", "9:16"): "720*1280",
    ("720p", "1:1"): "960*960",
    ("1080p", "16:9"): "1920*1080",
    ("1080p", "9:16"): "1080*1920",
    ("1080p", "1:1"): "1440*1440",
}
_IMAGE_SIZES = {"16:9": "1280*720", "9:16": "720*1280", "1:1": "1024*1024", "4:3": "1200*900", "3:4": "900*1200"}
_ASYNC = {"X-DashScope-Async": "enable"}
_DAY = 86400.0
_FIELDS = SHARED | {
    "duration": integer("Length in seconds.", minimum=1, examples=[5]),
    "resolution": choice("Resolution wanted.", "720p", "480p", "1080p"),
    "images": several(
        "URLs of the images to go by.", text("URL of an image."), examples=[["https://example.com/cat.jpg"]]
    ),
    "enhance_prompt": switch("Whether the prompt is rewritten before it is used."),
}
_SHOT = "negative_prompt duration+ resolution seed enhance_prompt model"
FAMILY = family(
    "wan",
    "Wan",
    operation("text_to_video", "video", f"prompt* audio aspect_ratio+ {_SHOT}", known=_FIELDS),
    operation("image_to_video", "video", f"image* prompt+ last_image audio {_SHOT}", known=_FIELDS),
    operation("reference_to_video", "video", f"prompt* images video+ aspect_ratio {_SHOT}", known=_FIELDS),
    operation(
        "text_to_image", "image", "prompt* negative_prompt aspect_ratio+ count seed enhance_prompt model", known=_FIELDS
    ),
    operation("image_to_image", "image", "prompt* image+ images negative_prompt count seed model", known=_FIELDS),
)


class DashScope(Dialect):
    """Wan by Model Studio. It has no callbacks. Keys are regional."""

    facts = Facts(
        family="wan",
        name="official",
        operations=_ROUTES,
        queries=("/cancel",),
        typical_seconds=dict.fromkeys(_ROUTES, 180.0) | dict.fromkeys(("text_to_image", "image_to_image"), 30.0),
        result_lifetime=_DAY,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        del callback_url
        body = merge(_body(task), task.options)
        return Call(method="POST", path=_ROUTES[task.operation], json=body, headers=_ASYNC)

    def query(self, task: Task) -> Call:
        """Return the call that queries the task."""
        return Call(method="GET", path=f"/api/v1/tasks/{quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: the task in its first state."""
        update = _read(reply.document)
        if not reply.ok or update.external_id is None:
            raise refusal_of(reply, creating=True)
        return dataclasses.replace(update, state=update.state or State.SUBMITTED)

    def read_status(self, reply: Reply) -> Update:
        """Read the task."""
        said = word(_output(reply.document).get("task_status"))
        if not reply.ok or said is None:
            raise refusal_of(reply, creating=False)
        if said.lower() == UNKNOWN:
            raise NotFound("not_found", "the task does not exist, or is older than a day")
        return _read(reply.document)

    def cancel(self, task: Task) -> Exchange:
        """Cancel the task while it is queued: a running one cannot be."""
        seen = about(task, self.read_status((yield self.query(task))))
        if seen.state is not State.SUBMITTED:
            return seen
        call = self.query(task)
        reply = yield dataclasses.replace(call, method="POST", path=f"{call.path}/cancel")
        return dataclasses.replace(self.read_cancelled(reply), external_id=task.external_id)

    def read_cancelled(self, reply: Reply) -> Update:
        """Read the answer to a cancel: a request id and nothing else."""
        said = fields(reply.document)
        if not reply.ok or "request_id" not in said or word(said.get("code")) is not None:
            raise refusal_of(reply, creating=False)
        return Update(state=State.CANCELLED)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what Model Studio's pages rule out."""
        found = super().validate(task)
        if task.operation not in _ROUTES:
            return found
        given, shape = task.input, task.input.get("aspect_ratio")
        sizes = {ratio for _, ratio in _SIZES} if task.operation == "text_to_video" else set(_IMAGE_SIZES)
        if shape is not None and task.operation != "reference_to_video" and shape not in sizes:
            words = f"has no size here: use {', '.join(sorted(sizes))}, or options.parameters.size"
            found.append(Mistake("input.aspect_ratio", words))
        if task.operation == "image_to_image" and not {"image", "images"} & given.keys():
            found.append(Mistake("input.image", "is required here, or images"))
        if task.operation == "reference_to_video" and not {"images", "video"} & given.keys():
            found.append(Mistake("input.video", "is required here, or images"))
        return found


def _body(task: Task) -> dict[str, Any]:
    """Return a task in Model Studio's form: model, input and parameters."""
    given, operation_ = task.input, task.operation
    both = operation_ == "image_to_video" and "last_image" in given
    model = given.get("model", _KEYFRAMES if both else _MODELS[operation_])
    media = {
        "prompt": given.get("prompt"),
        "negative_prompt": given.get("negative_prompt"),
        "audio_url": given.get("audio"),
    }
    parameters: dict[str, Any] = {
        "duration": given.get("duration"),
        "seed": given.get("seed"),
        "n": given.get("count"),
        "prompt_extend": given.get("enhance_prompt"),
    }
    resolution, ratio = given.get("resolution"), given.get("aspect_ratio")
    match operation_:
        case "image_to_video" if both:
            media |= {"first_frame_url": given.get("image"), "last_frame_url": given["last_image"]}
        case "image_to_video":
            media["img_url"] = given.get("image")
        case "reference_to_video":
            media["media"] = _media(given)
        case "image_to_image":
            media["images"] = [*([given["image"]] if "image" in given else []), *given.get("images", ())]
    if operation_ == "text_to_video":
        parameters["size"] = _SIZES.get((resolution or "720p", ratio or "16:9"))
    elif operation_ == "text_to_image":
        parameters["size"] = None if ratio is None else _IMAGE_SIZES.get(ratio)
    else:
        parameters |= {"resolution": None if resolution is None else resolution.upper(), "ratio": ratio}
    return {
        "model": model,
        "input": {name: value for name, value in media.items() if value is not None},
        "parameters": {name: value for name, value in parameters.items() if value is not None},
    }


def _media(given: Mapping[str, Any]) -> list[dict[str, str]]:
    found = [{"type": "reference_image", "url": url} for url in given.get("images", ())]
    return found + ([{"type": "reference_video", "url": given["video"]}] if "video" in given else [])


def refusal_of(reply: Reply, *, creating: bool) -> UpstreamError:
    """Return the error that a reply without a task means: by its code, or by its HTTP status."""
    said = fields(reply.document)
    code = word(said.get("code")) or ""
    for start, error, name in CODES:
        if code.startswith(start):
            return error(name, line(said.get("message")), retry_after=reply.retry_after)
    return newapi_errors.refusal_in(reply, creating=creating)


def _output(document: Any) -> Mapping[str, Any]:
    return fields(fields(document).get("output"))


def _read(document: Any) -> Update:
    """Read a task. Entries of a list with a code are pictures that were lost."""
    task = _output(document)
    said = (word(task.get("task_status")) or "").lower()
    state = STATES.get(said)
    results: tuple[Result, ...] = ()
    if state is State.SUCCEEDED:
        video = link(task.get("video_url"))
        made = [link(each) for each in items(task.get("results")) if word(fields(each).get("code")) is None]
        results = (Result("video", video),) if video else tuple(Result("image", url) for url in made if url is not None)
    return Update(
        state=None if state is State.SUCCEEDED and not results else state,
        external_id=identifier(task.get("task_id")),
        results=results,
        failure=_failure(task) if state is State.FAILED else None,
        unknown_word=said if said and said not in STATES and said != UNKNOWN else None,
    )


def _failure(task: Mapping[str, Any]) -> Failure:
    code, text_ = word(task.get("code")) or "", line(task.get("message"))
    name = next((name for start, _, name in CODES if code.startswith(start)), None)
    if name is None:
        return video_failure(text_, code or None)
    return Failure(name, text_ or code, retryable=name in RETRYABLE)
