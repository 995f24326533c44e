"""Seedance and Seedream by gateways: Ark passed through, images in OpenAI's place, and the records of relays."""

from typing import Any
from urllib.parse import quote

from service.domain.errors import Unreadable
from service.domain.task import State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts
from service.providers.form import file, form, is_inline
from service.providers.newapi import video
from service.providers.read import fields, identifier
from service.providers.seedance import ark, record
from service.providers.seedance.family import (
    IMAGES,
    LIFETIME,
    SECONDS,
    VIDEOS,
    image_body,
    mistakes_in,
    model_of,
    video_body,
)
from service.providers.wire import Call, Callback, Reply

_TASKS, _IMAGES, _EDITS = "/volc/v3/contents/generations/tasks", "/v1/images/generations", "/v1/images/edits"
_EDITOR = "seededit"


class Aggregator(Dialect):
    """CometAPI's /volc/v3 and /v1/images routes. SeedEdit takes its picture as a file of a form."""

    facts = Facts(
        family="seedance",
        name="aggregator",
        operations={**dict.fromkeys(VIDEOS, _TASKS), **dict.fromkeys(IMAGES, _IMAGES)},
        callbacks=True,
        reserved=frozenset({"callback_url", "stream"}),
        synchronous=frozenset(IMAGES),
        typical_seconds=SECONDS,
        result_lifetime=LIFETIME,
        uploads={"image_to_image": ("image",)},
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the task, or makes the images."""
        if task.operation in VIDEOS:
            return Call(method="POST", path=_TASKS, json=video_body(task, callback_url))
        body = image_body(task)
        if _EDITOR in model_of(task).lower() and "image" in body:
            source: Any = body.pop("image")
            sent = file(source, "image") if is_inline(source) else source
            return Call(method="POST", path=_EDITS, form=form({"image": sent, **body}), max_answer=ark.MAX_ANSWER)
        return Call(method="POST", path=_IMAGES, json=body, max_answer=ark.MAX_ANSWER)

    def query(self, task: Task) -> Call:
        """Return the call that queries the task."""
        return Call(method="GET", path=f"{_TASKS}/{quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: Ark's, or an envelope whose ``data`` is the id."""
        said = fields(reply.document)
        if reply.ok and "code" in said and isinstance(said.get("data"), str):
            job = identifier(said["data"])
            if said["code"] == "success" and job is not None:
                return Update(state=State.SUBMITTED, external_id=job)
        if reply.ok and "code" in said:
            raise record.refusal_of(reply, creating=True)
        return ark.read_created(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the task: Ark's, or a gateway's record around it."""
        update = _read(reply.document) if reply.ok else None
        if update is None:
            raise record.refusal_of(reply, creating=False)
        return update

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: Ark's task."""
        update = _read(callback.document)
        if update is None:
            raise Unreadable("no task in it")
        return [update]

    def validate(self, task: Task) -> list[Mistake]:
        """Return what the pages rule out."""
        found = super().validate(task)
        return found + mistakes_in(task) if task.operation in self.facts.operations else found


def _read(document: Any) -> Update | None:
    job = record.task_in(document)
    if job is not None and not fields(job.get("data")):
        return record.read(job)
    return video.read_task(document) if video.is_task(document) else None
