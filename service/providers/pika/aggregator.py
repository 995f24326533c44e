"""Pika by gateways: /pika/generate and /pika/feed, as gpt-best and its siblings print them."""

from typing import Any
from urllib.parse import quote

from service.domain.errors import Uncertain
from service.domain.task import State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, accepted, merge, unsupported
from service.providers.newapi import errors as newapi_errors
from service.providers.pika import record
from service.providers.pika.family import SECONDS, ratio_of
from service.providers.read import fields, identifier
from service.providers.wire import Call, Reply

_ROUTE = "/pika/generate"
_OPERATIONS = ("text_to_video", "image_to_video", "video_to_video", "extend", "effect")
_TAKEN = frozenset(
    {
        "prompt",
        "image",
        "video",
        "effect",
        "aspect_ratio",
        "seed",
        "negative_prompt",
        "motion",
        "guidance",
        "sound",
        "model",
    }
)


class Aggregator(Dialect):
    """POST /pika/generate and GET /pika/feed/{id}. One body serves all operations."""

    facts = Facts(
        family="pika",
        name="aggregator",
        operations=dict.fromkeys(_OPERATIONS, _ROUTE),
        typical_seconds={name: SECONDS[name] for name in _OPERATIONS},
        models_are_listed=False,
        experimental=True,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        del callback_url  # no page knows a field for it
        return Call(method="POST", path=_ROUTE, json=merge(_body(task), task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the feed."""
        return Call(method="GET", path=f"/pika/feed/{quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: an id, also in an envelope, or a feed."""
        said = fields(reply.document)
        if not reply.ok or said.get("success") is False or fields(said.get("error")):
            raise newapi_errors.refusal_in(reply, creating=True)
        update = _read(reply.document)
        if update is not None:
            return accepted(update)
        job = identifier(fields(said.get("data")).get("id")) or identifier(said.get("id"))
        if job is None:
            raise (
                newapi_errors.refusal_in(reply, creating=True)
                if said
                else Uncertain("unreadable", "the answer has no id")
            )
        return Update(state=State.SUBMITTED, external_id=job)

    def read_status(self, reply: Reply) -> Update:
        """Read the feed, or the answer of the queue that is behind the gateway."""
        update = _read(reply.document) if reply.ok else None
        if update is None:
            raise newapi_errors.refusal_in(reply, creating=False)
        return update

    def validate(self, task: Task) -> list[Mistake]:
        """Return what the gateways' pages rule out."""
        found = super().validate(task)
        return (
            found + unsupported(task, _TAKEN, "The gateways' Pika format") if task.operation in _OPERATIONS else found
        )


def _read(document: Any) -> Update | None:
    return record.read_feed(document) or record.read_queue(document)


def _body(task: Task) -> dict[str, Any]:
    given = task.input
    parameters = {
        "guidanceScale": given.get("guidance", 12),
        "motion": given.get("motion", 1),
        "negativePrompt": given.get("negative_prompt", ""),
        "seed": given.get("seed"),
    }
    options = {
        "aspectRatio": ratio_of(task),
        "frameRate": 24,
        "camera": {},
        "parameters": {name: value for name, value in parameters.items() if value is not None},
        "extend": task.operation == "extend",
    }
    return {
        "pikaffect": given.get("effect"),
        "promptText": given.get("prompt", ""),
        "model": given.get("model", "2.2"),
        "options": {name: value for name, value in options.items() if value is not None},
        "image": given.get("image"),
        "video": given.get("video"),
        "sfx": given.get("sound"),
    }
