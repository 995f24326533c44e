"""Grok Imagine by xAI (https://api.x.ai/v1): videos by jobs, images at once. It has no callbacks and no list.

Sources: xAI's REST reference; its SDK ``xai-sdk`` 1.21 has the last frame and 1080p besides.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from service.domain.errors import Uncertain, UpstreamError
from service.domain.task import Failure, Result, State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import RETRYABLE
from service.providers.newapi.video import video_failure
from service.providers.operation import FIELDS as SHARED
from service.providers.operation import choice, family, integer, operation, several, text
from service.providers.read import fields, identifier, items, line, link, percent, word
from service.providers.wire import Call, Exchange, Reply

STATES: Mapping[str, State] = {
    "pending": State.RUNNING,  # there is no word for a queue
    "done": State.SUCCEEDED,
    "expired": State.FAILED,
    "failed": State.FAILED,
}
FAILURES = {
    "invalid_argument": "invalid_input",  # of moderation, too: there the text tells
    "permission_denied": "forbidden",
    "failed_precondition": "invalid_input",
    "internal_error": "provider_error",
}
"""``error.code`` of a failed job (xAI's reference)."""
_GENERATIONS = "/v1/videos/generations"
_ROUTES = {
    "text_to_video": _GENERATIONS,
    "image_to_video": _GENERATIONS,
    "reference_to_video": _GENERATIONS,
    "video_to_video": "/v1/videos/edits",
    "extend": "/v1/videos/extensions",
    "text_to_image": "/v1/images/generations",
}
_VIDEO_MODEL, _IMAGE_MODEL = "grok-imagine-video", "grok-imagine-image"
_LONGEST = 15
_FIELDS = SHARED | {
    "duration": integer("Length in seconds, up to 15.", minimum=1, examples=[6]),
    "resolution": choice("Resolution wanted.", "720p", "480p", "1080p"),
    "images": several(
        "URLs of pictures to go by.", text("URL of an image."), examples=[["https://example.com/cat.jpg"]]
    ),
}
_SHOT = "duration+ aspect_ratio resolution model"
FAMILY = family(
    "grok",
    "Grok Imagine",
    operation("text_to_video", "video", f"prompt* {_SHOT}", known=_FIELDS),
    operation("image_to_video", "video", f"image* prompt+ last_image {_SHOT}", known=_FIELDS),
    operation("reference_to_video", "video", f"prompt* images* {_SHOT}", known=_FIELDS),
    operation("video_to_video", "video", "prompt* video* model", known=_FIELDS),
    operation("extend", "video", "prompt* video* duration+ model", known=_FIELDS),
    operation("text_to_image", "image", "prompt* aspect_ratio count model", known=_FIELDS, deadline=900.0),
)


class Official(Dialect):
    """Grok Imagine by xAI's own API."""

    facts = Facts(
        family="grok",
        name="official",
        operations=_ROUTES,
        synchronous=frozenset({"text_to_image"}),
        typical_seconds=dict.fromkeys(_ROUTES, 60.0) | {"text_to_image": 15.0},
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        del callback_url
        return Call(method="POST", path=_ROUTES[task.operation], json=merge(_body(task), task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the job."""
        return Call(method="GET", path=f"/v1/videos/{quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: the id of a request, or the images."""
        said = fields(reply.document)
        if reply.ok and not fields(said.get("error")):
            job = identifier(said.get("request_id"))
            if job is not None:
                return Update(state=State.SUBMITTED, external_id=job)
            if results := _images(said):
                return Update(state=State.SUCCEEDED, results=results)
        raise _refusal(reply, creating=True)

    def read_status(self, reply: Reply) -> Update:
        """Read the job. It does not repeat its id."""
        said = word(fields(reply.document).get("status"))
        if not reply.ok or said is None or said.isdigit():
            raise _refusal(reply, creating=False)
        return _read(fields(reply.document))

    def poll(self, task: Task) -> Exchange:
        """Request the job."""
        reply = yield self.query(task)
        return self.read_status(reply)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what xAI's reference rules out."""
        found = super().validate(task)
        if task.operation in _ROUTES and (task.input.get("duration") or 1) > _LONGEST:
            found.append(Mistake("input.duration", f"Grok Imagine makes up to {_LONGEST} seconds."))
        return found


def _body(task: Task) -> dict[str, Any]:
    given = task.input
    if task.operation == "text_to_image":
        named = {"prompt": given.get("prompt"), "n": given.get("count"), "aspect_ratio": given.get("aspect_ratio")}
        return {"model": given.get("model", _IMAGE_MODEL), **named}
    body = {name: given[name] for name in ("prompt", "duration", "aspect_ratio", "resolution") if name in given}
    for ours, theirs in (("image", "image"), ("last_image", "last_frame"), ("video", "video")):
        if ours in given:
            body[theirs] = {"url": given[ours]}
    if "images" in given:
        body["reference_images"] = [{"url": url} for url in given["images"]]
    return {"model": given.get("model", _VIDEO_MODEL), **body}


def _images(said: Mapping[str, Any]) -> tuple[Result, ...]:
    """Return the images of OpenAI's shape, whose bytes count as a ``data:`` URL."""
    found = []
    for each in (fields(entry) for entry in items(said.get("data"))):
        inline = word(each.get("b64_json"))
        url = link(each.get("url")) or (link(f"data:image/jpeg;base64,{each['b64_json']}") if inline else None)
        if url is not None:
            found.append(Result("image", url))
    return tuple(found)


def _refusal(reply: Reply, *, creating: bool) -> UpstreamError:
    error = newapi_errors.refusal_in(reply, creating=creating)
    if creating and reply.ok and "error" not in fields(reply.document):
        return Uncertain("unreadable", error.message)
    return error


def _read(job: Mapping[str, Any]) -> Update:
    said = (word(job.get("status")) or "").lower()
    state, video = STATES.get(said), fields(job.get("video"))
    url = link(video) if video else None
    failure = None
    if state is State.SUCCEEDED and url is None:
        # A film that moderation kept back is a failure; any other success without one settles nothing.
        state = State.FAILED if video.get("respect_moderation") is False else None
        failure = Failure("content_policy", "the video does not respect moderation") if state is State.FAILED else None
    elif said == "expired":
        failure = Failure("provider_timeout", line(fields(job.get("error")).get("message")), retryable=True)
    elif state is State.FAILED:
        failure = _failure(fields(job.get("error")))
    return Update(
        state=state,
        progress=percent(job.get("progress")),
        results=(Result("video", url),) if state is State.SUCCEEDED and url is not None else (),
        failure=failure,
        unknown_word=said if said and said not in STATES else None,
    )


def _failure(error: Mapping[str, Any]) -> Failure:
    text_ = line(error.get("message"))
    by_text = video_failure(text_)
    code = FAILURES.get((word(error.get("code")) or "").lower())
    if code is None or by_text.code == "content_policy":
        return by_text
    return Failure(code, text_, retryable=code in RETRYABLE)
