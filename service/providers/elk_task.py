"""ElkAPI's task API: one route to submit, and one object in polls and callbacks, for every model."""

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from service.domain.errors import Unreadable
from service.domain.task import ENDED, Failure, Result, State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import failure_from_text
from service.providers.newapi.vendors import VENDORS, Vendor
from service.providers.read import fields, identifier, kind_of, line, links, word
from service.providers.wire import Call, Callback, Reply

STATES: Mapping[str, State] = {
    "queued": State.SUBMITTED,
    "in_progress": State.RUNNING,
    "completed": State.SUCCEEDED,
    "partial_completed": State.SUCCEEDED,  # of a sibling: some outputs failed
    "failed": State.FAILED,
}
"""The status words of ElkAPI's page on GET /v1/task/{id}."""

_SUNO = Vendor(
    models={"music": "suno/music"},
    names={
        "prompt": "gpt_description_prompt",
        "lyrics": "prompt",
        "style": "tags",
        "title": "title",
        "negative_prompt": "negative_tags",
        "instrumental": "instrumental",
        "model": "mv",
    },
)
"""ePhone's, a sibling of ElkAPI with the same API. The model that a client names is the engine's version there."""
_VENDORS = {**VENDORS, "suno": _SUNO}
_SERVED = {(family, operation) for family, vendor in _VENDORS.items() for operation in vendor.models} | {("any", "run")}

_NO_MODEL = "ElkAPI's pages name no model for it: name one from its list of models, or choose another upstream."
_UNKNOWN_FIELD = (
    "ElkAPI's task API is not known to have it: leave it out, set it by options.input, or choose another upstream."
)
_NO_SUBJECT = "is required here, unless there are lyrics, or a style"
_SUBJECTS = frozenset({"gpt_description_prompt", "prompt", "tags"})
_PATH = "/v1/task/submit"
_UNCHECKED = frozenset({"runway"})
"""Families whose fields no page lists: all of ours are sent."""


class ElkTask(Dialect):
    """POST /v1/task/submit and GET /v1/task/{id} of ElkAPI, which calls back at every change with the body of a poll."""

    facts = Facts(
        family="any",
        name="elk-task",
        operations={operation: _PATH for _, operation in _SERVED},
        callbacks=True,
        refunds=True,
        typical_seconds={"music": 150.0, "text_to_image": 60.0}
        | dict.fromkeys(
            ("text_to_video", "image_to_video", "video_to_video", "character_performance", "video_upscale"), 240.0
        ),
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        body = merge({**_body(task), "callback_url": callback_url}, task.options)
        return Call(method="POST", path=self.facts.operations[task.operation], json=body)

    def query(self, task: Task) -> Call:
        """Return the call that queries the task."""
        return Call(method="GET", path=f"/v1/task/{quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: the task in its first state. Where there is an id the job may exist."""
        update = _read(reply.document)
        if not reply.ok or update.external_id is None:
            raise newapi_errors.refusal_in(reply, creating=True)
        return dataclasses.replace(update, state=update.state or State.SUBMITTED)

    def read_status(self, reply: Reply) -> Update:
        """Read the task."""
        if not reply.ok or not _is_task(reply.document):
            raise newapi_errors.refusal_in(reply, creating=False)
        return _read(reply.document)

    def offers(self, family: str, operation: str) -> bool:
        """Return whether it serves an operation, of any family."""
        return (family, operation) in _SERVED

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: the body of a poll."""
        if not _is_task(callback.document):
            raise Unreadable("no task in it")
        return [_read(callback.document)]

    def validate(self, task: Task) -> list[Mistake]:
        """Return missing fields, such as an unknown model, and fields that this API does not have."""
        found = super().validate(task)
        if not self.offers(task.family, task.operation):
            return found
        body = merge(_body(task), task.options)
        known = {"model", "input"} if task.family == "any" else {"model", *_VENDORS[task.family].names}
        if task.family in _UNCHECKED:
            known = set(task.input)
        found += [Mistake(f"input.{field}", _UNKNOWN_FIELD) for field in task.input if field not in known]
        if body.get("model") is None:
            found.append(Mistake("input.model", _NO_MODEL))
        if task.operation == "music" and fields(body["input"]).keys().isdisjoint(_SUBJECTS):
            found.append(Mistake("input.prompt", _NO_SUBJECT))
        return found


def _body(task: Task) -> dict[str, Any]:
    """Return the model and the vendor's fields of a task. The input of any model is the vendor's own already."""
    given = dict(task.input)
    if task.family == "any":
        return {"model": given.get("model"), "input": given.get("input")}
    vendor = _VENDORS[task.family]
    model = vendor.models[task.operation]
    if "model" not in vendor.names:
        model = given.pop("model", None) or model
    body = vendor.body(given)
    if task.operation == "music":
        body |= {"custom": "prompt" not in given, "instrumental": given.get("instrumental", False)}
    return {"model": model, "input": body}


def _is_task(document: Any) -> bool:
    return isinstance(document, dict) and identifier(document.get("id")) is not None and "status" in document


def _read(document: Any) -> Update:
    """Read a task: the answer to a submit and to a poll, and a callback."""
    task = fields(document)
    said = word(task.get("status"))
    state = STATES.get(said.lower()) if said is not None else None
    results = _results(task)
    if state is State.SUCCEEDED and not results:
        state = None  # a success without an output settles nothing
    return Update(
        state=state,
        external_id=identifier(task.get("id")),
        results=results if state in ENDED else (),  # also of a failure: what can be played has been paid for
        failure=_failure(task.get("error")) if state is State.FAILED else None,
        unknown_word=None if said is None or said.lower() in STATES else said.lower(),
    )


def _results(task: Mapping[str, Any]) -> tuple[Result, ...]:
    """Return the outputs of a flat list: images beside a song or a video are its covers, which come first there."""
    found = [Result(kind_of(url, "video"), url) for url in links(task.get("outputs"))]
    mains = [result for result in found if result.kind != "image"]
    if not mains:
        return tuple(found)
    covers = (Result("image", result.url, role="cover") for result in found if result.kind == "image")
    return (*mains, *covers)


def _failure(error: Any) -> Failure:
    """Return why it failed: the page shows a text, other answers of this host an object with a message."""
    said = fields(error)
    return failure_from_text((line(error) if not said else None) or line(said.get("message")) or line(said.get("code")))
