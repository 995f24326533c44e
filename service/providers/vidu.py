"""Vidu by its own API (https://api.vidu.com/ent/v2). Facts are from new-api's channel for it: experimental."""

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from service.domain.errors import AccountProblem, Refused, Unreadable, UpstreamError
from service.domain.task import Failure, Result, State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, about, merge
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.video import video_failure
from service.providers.operation import FIELDS as SHARED
from service.providers.operation import choice, family, integer, operation, several, switch, text
from service.providers.read import fields, identifier, items, line, link, number, word
from service.providers.wire import Call, Callback, Exchange, Reply

STATES: Mapping[str, State] = {
    "created": State.SUBMITTED,
    "queueing": State.SUBMITTED,
    "processing": State.RUNNING,
    "success": State.SUCCEEDED,
    "failed": State.FAILED,
}
_PREFIX = "/ent/v2"
_ROUTES = {
    "text_to_video": f"{_PREFIX}/text2video",
    "image_to_video": f"{_PREFIX}/img2video",
    "reference_to_video": f"{_PREFIX}/reference2video",
}
_START_AND_END = f"{_PREFIX}/start-end2video"
_MODELS = {"text_to_video": "viduq3-turbo", "image_to_video": "viduq3-turbo", "reference_to_video": "viduq2"}
_MOST_IMAGES = 7
_REFUSALS: Mapping[str, tuple[type[UpstreamError], str]] = {
    "CreditInsufficient": (AccountProblem, "insufficient_credit"),
    "TaskPromptPolicyViolation": (Refused, "content_policy"),
    "AuditSubmitIllegal": (Refused, "content_policy"),
}
"""Words of Vidu's that name the reason of a refusal."""
_FIELDS = SHARED | {
    "duration": integer("Length in seconds.", minimum=1, examples=[4]),
    "resolution": choice("Resolution wanted.", "720p", "360p", "540p", "1080p"),
    "images": several(
        "URLs of one to seven pictures to go by.", text("URL of an image."), examples=[["https://example.com/cat.jpg"]]
    ),
    "motion": choice("How much moves.", "auto", "small", "medium", "large"),
    "music": switch("Whether the video gets music."),
}
_SHOT = "duration+ aspect_ratio resolution seed motion music model"
FAMILY = family(
    "vidu",
    "Vidu",
    operation("text_to_video", "video", f"prompt* {_SHOT}", known=_FIELDS),
    operation("image_to_video", "video", f"image* prompt+ last_image {_SHOT}", known=_FIELDS),
    operation("reference_to_video", "video", f"prompt* images* {_SHOT}", known=_FIELDS),
)


class Official(Dialect):
    """Vidu's own API. Its callbacks are signed by a scheme that is not known here: they only hasten a poll."""

    facts = Facts(
        family="vidu",
        name="official",
        operations=_ROUTES,
        callbacks=True,
        confirms=True,
        queries=("/cancel",),
        typical_seconds=dict.fromkeys(_ROUTES, 120.0),
        cost_unit="credits",
        result_lifetime=86400.0,
        experimental=True,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job. Two pictures have a route of their own."""
        both = task.operation == "image_to_video" and "last_image" in task.input
        body = merge({**_body(task), "callback_url": callback_url}, task.options)
        return Call(method="POST", path=_START_AND_END if both else _ROUTES[task.operation], json=body)

    def query(self, task: Task) -> Call:
        """Return the call that queries the task and its outputs."""
        return Call(method="GET", path=f"{_task_path(task)}/creations")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: the task in its first state."""
        update = _read(reply.document)
        if not reply.ok or update.external_id is None:
            raise _refusal(reply, creating=True)
        return dataclasses.replace(update, state=update.state or State.SUBMITTED)

    def read_status(self, reply: Reply) -> Update:
        """Read the task."""
        if not reply.ok or not _is_task(reply.document):
            raise _refusal(reply, creating=False)
        return _read(reply.document)

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: the body of a query, with the id."""
        if not _is_task(callback.document):
            raise Unreadable("no task in it")
        return [_read(callback.document)]

    def cancel(self, task: Task) -> Exchange:
        """Cancel the task before it has ended."""
        seen = about(task, self.read_status((yield self.query(task))))
        if seen.state not in {State.SUBMITTED, State.RUNNING}:
            return seen
        reply = yield Call(method="POST", path=f"{_task_path(task)}/cancel", json={"id": task.external_id})
        return dataclasses.replace(self.read_cancelled(reply), external_id=task.external_id)

    def read_cancelled(self, reply: Reply) -> Update:
        """Read the answer to a cancel: an empty object."""
        said = reply.document
        if not reply.ok or not isinstance(said, dict) or fields(said.get("error")) or word(said.get("code")):
            raise _refusal(reply, creating=False)
        return Update(state=State.CANCELLED)

    def authorize(self, call: Call, key: str) -> Call:
        """Return the call with the key, which Vidu calls a token."""
        return dataclasses.replace(call, headers={**call.headers, "Authorization": f"Token {key}"})

    def validate(self, task: Task) -> list[Mistake]:
        """Return what is known to be refused."""
        found = super().validate(task)
        if task.operation in _ROUTES and len(task.input.get("images", ())) > _MOST_IMAGES:
            found.append(Mistake("input.images", f"has more than {_MOST_IMAGES} images"))
        return found


def _task_path(task: Task) -> str:
    return f"{_PREFIX}/tasks/{quote(task.external_id or '', safe='')}"


def _body(task: Task) -> dict[str, Any]:
    given = task.input
    images = [given[name] for name in ("image", "last_image") if name in given] + list(given.get("images", ()))
    same = ("prompt", "duration", "aspect_ratio", "resolution", "seed")
    return {
        "model": given.get("model", _MODELS[task.operation]),
        "images": images or None,
        **{name: given.get(name) for name in same},
        "movement_amplitude": given.get("motion"),
        "bgm": given.get("music"),
    }


def _is_task(document: Any) -> bool:
    said = fields(document)
    return isinstance(said.get("state"), str) and not fields(said.get("error"))


def _refusal(reply: Reply, *, creating: bool) -> UpstreamError:
    said = fields(reply.document)
    words = (
        word(holder.get(name))
        for holder in (said, fields(said.get("error")))
        for name in ("reason", "code", "err_code")
    )
    found = next((_REFUSALS[each] for each in words if each is not None and each in _REFUSALS), None)
    if found is not None:
        return found[0](found[1], line(said.get("message")), retry_after=reply.retry_after)
    return newapi_errors.refusal_in(reply, creating=creating)


def _read(document: Any) -> Update:
    task = fields(document)
    said = (word(task.get("state")) or "").lower()
    state = STATES.get(said)
    results = tuple(_results(task)) if state is State.SUCCEEDED else ()
    code = word(task.get("err_code"))
    return Update(
        state=None if state is State.SUCCEEDED and not results else state,
        external_id=identifier(task.get("task_id")) or identifier(task.get("id")),
        results=results,
        failure=_failure(code) if state is State.FAILED else None,
        cost=number(task.get("credits")),
        incomplete=state is State.SUCCEEDED and not results,
        unknown_word=said if said and said not in STATES else None,
    )


def _failure(code: str | None) -> Failure:
    """Return why a task failed: Vidu has a word and no text."""
    if code is not None and code in _REFUSALS:
        return Failure(_REFUSALS[code][1], code)
    return video_failure(None, code)


def _results(task: Mapping[str, Any]) -> list[Result]:
    found = []
    for each in (fields(creation) for creation in items(task.get("creations"))):
        url = link(each.get("url"))
        if url is None:
            continue
        item = identifier(each.get("id"))
        found.append(Result("video", url, item=item))
        cover, twin = link(each.get("cover_url")), link(each.get("watermarked_url"))
        found += [Result("image", cover, role="cover", item=item)] if cover is not None else []
        found += [Result("video", twin, role="extra", item=item)] if twin is not None else []
    return found
