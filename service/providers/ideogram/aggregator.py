"""Ideogram at gateways (/ideogram), under the gateway's key."""

from typing import Any

from service.domain.task import Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge
from service.providers.form import form
from service.providers.ideogram import answers
from service.providers.ideogram.family import MEDIA, fields_of, generation_of, legacy_body, mistakes_in
from service.providers.wire import Call, File, Reply

_V3 = "/ideogram/v1/ideogram-v3"
_ROUTES = {
    "text_to_image": f"{_V3}/generate",
    "image_to_image": f"{_V3}/remix",
    "inpaint": f"{_V3}/edit",
    "reframe": f"{_V3}/reframe",
    "replace_background": f"{_V3}/replace-background",
    "image_upscale": "/ideogram/upscale",
    "describe": "/ideogram/describe",
}
_LEGACY = {
    "text_to_image": "/ideogram/generate",
    "image_to_image": "/ideogram/remix",
    "inpaint": "/ideogram/edit",
    "image_upscale": "/ideogram/upscale",
    "describe": "/ideogram/describe",
}
"""The routes of models before V3, and of operations without a version."""
_DAY = 86400.0


class Aggregator(Dialect):
    """POST /ideogram/v1/ideogram-v3/* and /ideogram/* of CometAPI and its siblings. The answer is the result.

    A body with files is a form. Without files it is JSON, which every gateway takes.
    """

    facts = Facts(
        family="ideogram",
        name="aggregator",
        operations=_ROUTES,
        synchronous=frozenset(_ROUTES),
        typical_seconds=dict.fromkeys(_ROUTES, 20.0),
        result_lifetime=_DAY,
        uploads=dict.fromkeys(_ROUTES, MEDIA),
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that makes the pictures."""
        del callback_url
        path, body = _request(task)
        whole = merge(body, task.options)
        if any(_has_file(value) for value in whole.values()):
            return Call(method="POST", path=path, form=form(whole))
        return Call(method="POST", path=path, json=whole)

    def query(self, task: Task) -> Call:
        """Return a call that finds nothing: there is no job."""
        del task
        return Call(method="GET", path="/v1/models")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer: pictures, or descriptions."""
        update = answers.read(reply.document) if reply.ok else None
        if update is None or update.state is None:
            raise answers.refusal_of(reply, creating=True)
        return update

    def read_status(self, reply: Reply) -> Update:
        """Read an answer as a poll would."""
        return answers.read_status(reply)

    def validate(self, task: Task) -> list[Mistake]:
        """Return the mistakes that the gateways' pages rule out."""
        found = super().validate(task)
        if task.operation not in self.facts.operations:
            return found
        generation = (
            generation_of(task, newest="v3") if "model" in task.input and task.operation != "describe" else "v3"
        )
        if generation == "v4":
            return [*found, Mistake("input.model", "Gateways have no V_4.")]
        return found + mistakes_in(task, generation)


def _request(task: Task) -> tuple[str, dict[str, Any]]:
    """Return the route and the body of a submit."""
    without_version = task.operation in {"image_upscale", "describe"}
    if without_version or (generation_of(task, newest="v3") == "legacy" and task.operation in _LEGACY):
        return _LEGACY[task.operation], legacy_body(task)
    return _ROUTES[task.operation], fields_of(task, "v3")


def _has_file(value: Any) -> bool:
    return isinstance(value, File) or (isinstance(value, list) and any(isinstance(each, File) for each in value))
