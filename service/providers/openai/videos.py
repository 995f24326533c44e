"""OpenAI's videos (POST /v1/videos), as OpenAI had them until 2026-09-24 and gateways still have them.

``registry.py`` does not list this dialect for OpenAI itself. An operator switches it on with the setting ``dialects``.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from service.domain.errors import Uncertain
from service.domain.task import ENDED, Result, State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge
from service.providers.form import file, form, is_inline
from service.providers.openai.family import model_of
from service.providers.openai.refusals import carries_error, failure_in, refusal
from service.providers.read import compact, fields, identifier, link, moment, percent, word
from service.providers.wire import Call, DeleteExchange, File, Reply

STATES: Mapping[str, State | None] = {
    **dict.fromkeys(
        ("queued", "pending", "submitted", "not_start", "preparing", "created", "starting"), State.SUBMITTED
    ),
    **dict.fromkeys(("in_progress", "processing", "running", "generating"), State.RUNNING),
    **dict.fromkeys(("completed", "complete", "succeeded", "success", "finished"), State.SUCCEEDED),
    **dict.fromkeys(("failed", "failure", "fail", "error"), State.FAILED),
    **dict.fromkeys(("cancelled", "canceled"), State.CANCELLED),
    "unknown": None,
}
"""OpenAI's four words, and those that gateways put in their place (new-api)."""
_SIZES: Mapping[str, tuple[str, str]] = {"16:9": ("1280x720", "1920x1080"), "9:16": ("720x1280", "1080x1920")}
"""By shape: the size at 720p, and the one at 1080p, which sora-2-pro makes."""
_TALL: Mapping[str, str] = {"7:4": "1792x1024", "4:7": "1024x1792"}
_PATH = "/v1/videos"


class Videos(Dialect):
    """Videos by POST and GET /v1/videos. There are no callbacks for one video, no list of parameters, and no cancel."""

    facts = Facts(
        family="openai",
        name="videos",
        operations={
            "text_to_video": _PATH,
            "image_to_video": _PATH,
            "remix": f"{_PATH}/{{id}}/remix",
            "video_to_video": f"{_PATH}/edits",
            "extend": f"{_PATH}/extensions",
            "character": f"{_PATH}/characters",
        },
        synchronous=frozenset({"character"}),
        typical_seconds=dict.fromkeys(("text_to_video", "image_to_video", "remix", "video_to_video", "extend"), 180.0),
        result_lifetime=3600.0,
        uploads={"video_to_video": ("video",), "extend": ("video",), "character": ("video",)},
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the video: JSON, or a form where a file goes with it."""
        del callback_url
        path, body = self.facts.operations[task.operation], _body(task)
        parent = task.inherited.get("external_id") or ""
        path = path.replace("{id}", quote(str(parent), safe=""))
        sent = merge({**body, **_media(task)}, task.options)
        if any(isinstance(value, File) for value in sent.values()):
            return Call(method="POST", path=path, form=form(sent))
        return Call(method="POST", path=path, json=sent)

    def query(self, task: Task) -> Call:
        """Return the call that queries the video."""
        return Call(method="GET", path=f"{_PATH}/{quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: the video in its first state, or a character."""
        document = fields(reply.document)
        if not reply.ok or (carries_error(document) and "status" not in document):
            raise refusal(reply, creating=True)
        if document.get("object") == "character" or reply.endpoint.endswith("/characters"):
            return _character(document)
        update = _read(document)
        if update.external_id is None:
            raise refusal(reply, creating=True)
        return dataclasses.replace(update, state=update.state or State.SUBMITTED)

    def read_status(self, reply: Reply) -> Update:
        """Read the video."""
        document = fields(reply.document)
        if not reply.ok or _id_of(document) is None or "status" not in document:
            raise refusal(reply, creating=False)
        return _read(document)

    def delete(self, task: Task) -> DeleteExchange:
        """Delete an ended video."""
        reply = yield dataclasses.replace(self.query(task), method="DELETE")
        if not reply.ok or carries_error(fields(reply.document)):
            raise refusal(reply, creating=False)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what cannot be sent: a shape without a size, and a video that is neither given nor a parent's."""
        found = super().validate(task)
        if task.operation not in self.facts.operations:
            return found
        if "aspect_ratio" in task.input and "size" not in task.options and _size(task) is None:
            known = ", ".join((*_SIZES, *_TALL))
            found.append(Mistake("input.aspect_ratio", f"Videos have {known}. Name another size as `size` in options."))
        needs_video = task.operation in {"video_to_video", "extend"} and "video" not in task.options
        if needs_video and "video" not in task.input and task.parent_id is None:
            found.append(Mistake("input.video", "is required here, unless there is a parent_id"))
        return found


def _body(task: Task) -> dict[str, Any]:
    """Return the fields of a request besides its media."""
    given = task.input
    if task.operation == "character":
        return {"name": given.get("name")}
    body: dict[str, Any] = {"prompt": given.get("prompt")}
    if task.operation in {"text_to_video", "image_to_video"}:
        body |= {"model": model_of(task), "size": _size(task)}
    duration = given.get("duration")
    seconds = None if duration is None else f"{duration:g}"  # a text, by OpenAI's reference
    return body if seconds is None else {**body, "seconds": seconds}


def _media(task: Task) -> dict[str, Any]:
    """Return the picture to begin with, or the video to go on from: a file, or a reference."""
    given, parent = task.input, task.inherited.get("external_id")
    image, video = given.get("image"), given.get("video")
    if image is not None:
        return {"input_reference": file(image, "image") if is_inline(image) else {"image_url": image}}
    if video is not None:
        return {"video": file(video, "video") if is_inline(video) else video}
    takes_video = task.operation in {"video_to_video", "extend"}
    return {"video": {"id": parent}} if takes_video and parent is not None else {}


def _size(task: Task) -> str | None:
    ratio, resolution = task.input.get("aspect_ratio"), str(task.input.get("resolution", "720p")).lower()
    if ratio is None:
        return _SIZES["16:9"][resolution == "1080p"] if "resolution" in task.input else None
    return _SIZES[ratio][resolution == "1080p"] if ratio in _SIZES else _TALL.get(ratio)


def _id_of(video: Mapping[str, Any]) -> str | None:
    """Return the job's id: new-api names it ``task_id`` where the two differ."""
    return identifier(video.get("task_id")) or identifier(video.get("id"))


def _character(document: Mapping[str, Any]) -> Update:
    """Read a character, which is made at once. Its id is the result: a prompt names it."""
    found = identifier(document.get("id"))
    if found is None:
        raise Uncertain("unreadable", "the answer has no id")
    made = {name: document[name] for name in ("id", "name", "created_at") if name in document}
    beside = Result("json", text=compact(made), role="extra")
    return Update(state=State.SUCCEEDED, external_id=found, results=(Result("text", text=found), beside))


def _read(document: Any) -> Update:
    """Read a video object."""
    video = fields(document)
    said = (word(video.get("status")) or "").lower()
    state, job = STATES.get(said), _id_of(video)
    results = _results(video, job) if state is State.SUCCEEDED else ()
    if state is State.SUCCEEDED and not results:
        state = None
    return Update(
        state=state,
        external_id=job,
        progress=percent(video.get("progress")),
        results=results if state in ENDED else (),
        failure=failure_in(video.get("error") or video.get("fail_reason")) if state is State.FAILED else None,
        unknown_word=said if said and said not in STATES else None,
    )


def _results(video: Mapping[str, Any], job: str | None) -> tuple[Result, ...]:
    """Return the video: by the URL that gateways state, else by the route that gives its bytes to a holder of the key."""
    metadata = fields(video.get("metadata"))
    stated = [metadata.get("url"), *(video.get(name) for name in ("video_url", "result_url", "url"))]
    url = next((found for each in stated if (found := link(each, relative=False)) is not None), None)
    if url is None and job is not None:
        url = f"{_PATH}/{quote(job, safe='')}/content"
    until = moment(video.get("expires_at"))
    return () if url is None else (Result("video", url, expires_at=until),)
