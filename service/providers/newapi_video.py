"""The video API of every new-api gateway: /v1/video/generations and /v1/videos. CometAPI calls back, too."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from service.domain.errors import Unreadable
from service.domain.task import Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.vendors import VENDORS, whole
from service.providers.newapi.video import is_task, read_accepted, read_task, refusal_of_submit
from service.providers.read import fields
from service.providers.wire import Call, Callback, Reply

_GENERATIONS = "/v1/video/generations"
_VIDEOS = "/v1/videos"
_ROUTES = {"run": _VIDEOS, "remix": f"{_VIDEOS}/{{id}}/remix"}
_MODELS: Mapping[str, str] = {"kling": "kling-v1", "minimax": "MiniMax-Hailuo-02", "vidu": "viduq2"}
"""The models of new-api's channels that are taken where none is named (new-api, ``relay/channel/task``)."""
_OWN = frozenset({"model", "prompt", "image", "last_image", "duration", "seed"})
"""Our fields for which new-api has a word of its own. The others go to the vendor, in ``metadata``."""
_SERVED = {(family, operation) for family in _MODELS for operation in ("text_to_video", "image_to_video")} | {
    ("any", "run"),
    ("any", "remix"),
}
_NO_CALLBACK = "minimax-h3"
"""new-api's channel for these models refuses a request with a callback URL."""
_UNKNOWN_FIELD = (
    "new-api's video API is not known to have it: leave it out, set it by options, or choose another upstream."
)


class NewApiVideo(Dialect):
    """Any video model of a new-api gateway.

    new-api itself has no callbacks. CometAPI has them, without saying for which models, and asks to poll all the same.
    """

    facts = Facts(
        family="any",
        name="newapi-video",
        operations={operation: _ROUTES.get(operation, _GENERATIONS) for _, operation in _SERVED},
        callbacks=True,
        confirms=True,
        typical_seconds=dict.fromkeys((operation for _, operation in _SERVED), 180.0),
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        path = self.facts.operations[task.operation]
        if task.operation == "remix":
            path = f"{_VIDEOS}/{quote(str(task.inherited.get('external_id') or ''), safe='')}/remix"
        body = merge(_body(task), task.options)
        if not str(body.get("model")).lower().startswith(_NO_CALLBACK):
            body = merge({"callback_url": callback_url}, body)
        return Call(method="POST", path=path, json=body)

    def query(self, task: Task) -> Call:
        """Return the call that queries the task, on the route on which it was created."""
        route = _VIDEOS if task.operation in _ROUTES else _GENERATIONS
        return Call(method="GET", path=f"{route}/{quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit. Its ``task_id`` and ``id`` may differ: the first one is asked with."""
        update = read_accepted(reply.document) if reply.ok else None
        if update is None:
            raise refusal_of_submit(reply)
        return update

    def read_status(self, reply: Reply) -> Update:
        """Read the task in any of its shapes."""
        if not reply.ok or not is_task(reply.document):
            raise newapi_errors.refusal_in(reply, creating=False)
        return read_task(reply.document)

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: a flat task."""
        if not is_task(callback.document):
            raise Unreadable("no task in it")
        return [read_task(callback.document)]

    def offers(self, family: str, operation: str) -> bool:
        """Return whether it serves an operation, of any family."""
        return (family, operation) in _SERVED

    def validate(self, task: Task) -> list[Mistake]:
        """Return fields that this API does not have, and a callback URL in the input."""
        found = super().validate(task)
        if not self.offers(task.family, task.operation):
            return found
        if task.family != "any":
            known = _OWN | VENDORS[task.family].names.keys()
            found += [Mistake(f"input.{name}", _UNKNOWN_FIELD) for name in task.input if name not in known]
        if "callback_url" in fields(task.input.get("input")):
            found.append(Mistake("input.input.callback_url", "Leave callback_url out: Dovecote fills it."))
        return found


def _body(task: Task) -> dict[str, Any]:
    """Return the body of a task: new-api's own fields, and the vendor's others in ``metadata``."""
    given = task.input
    if task.operation == "run":
        return {**fields(given.get("input")), "model": given.get("model")}
    if task.operation == "remix":
        return {"prompt": given.get("prompt")}
    images = [given[name] for name in ("image", "last_image") if name in given]
    body: dict[str, Any] = {
        "model": given.get("model", _MODELS[task.family]),
        "prompt": given.get("prompt"),
        "image": images[0] if images else None,
        "images": images if len(images) > 1 else None,
        "duration": whole(given["duration"]) if "duration" in given else None,
    }
    names = VENDORS[task.family].names
    rest = {names.get(name) or name: value for name, value in given.items() if name not in _OWN}
    if "seed" in given:
        rest["seed"] = given["seed"]
    if "last_image" in given and names.get("last_image"):
        rest[names["last_image"]] = given["last_image"]
    return {**body, "metadata": rest or None}
