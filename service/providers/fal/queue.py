"""fal's queue (queue.fal.run), which runs any model by its path."""

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from service.domain.errors import NotFound, Unreadable
from service.domain.task import State, Task, Update
from service.domain.validation import Mistake
from service.providers import market
from service.providers.dialect import Dialect, Facts, about, merge
from service.providers.fal.record import is_completed, read, read_result, read_verdict, refusal_of
from service.providers.read import fields, identifier, word
from service.providers.signatures import ed25519_over_digest
from service.providers.wire import Call, Callback, Exchange, Reply

_NAMES = {"image": "image_url", "last_image": "end_image_url", "video": "video_url", "count": "num_images"}
_LAST_IMAGE: tuple[tuple[str, str], ...] = (
    ("fal-ai/kling-video/v2.1", "tail_image_url"),
    ("fal-ai/kling-video", "tail_image_url"),
)
_IMAGE_LISTS = ("/edit", "/multi", "reference-to-image")
"""Ends of the names of models that take their images as a list, ``image_urls``."""
_SECONDS: tuple[tuple[str, str], ...] = (
    ("fal-ai/veo", "{}s"),
    ("fal-ai/luma", "{}s"),
    ("fal-ai/kling-video", "{}"),
    ("fal-ai/minimax", "{}"),
    ("fal-ai/pixverse", "{}"),
    ("fal-ai/bytedance/seedance", "{}"),
)
"""How a duration is written, by the beginning of the model's name. Others take a number."""
_NAMESPACES = frozenset({"workflows", "comfy"})
"""The first parts of names that have one part more (fal-client 1.0.3)."""
_CANCEL_WORDS = frozenset({"cancellation_requested", "already_completed"})
_WEEK = 604800.0
_BAD_REQUEST = 400
_GONE = 404


class Queue(Dialect):
    """POST /{owner}/{app}/… of queue.fal.run. The body is the model's input; the callback URL is in the query."""

    facts = Facts(
        family="fal",
        name="queue",
        operations=dict.fromkeys(market.SECONDS, "/{owner}/{app}"),
        callbacks=True,
        signs=True,
        reserved=frozenset({"callback_url", "fal_webhook"}),
        queries=("/requests/",),
        typical_seconds=market.SECONDS,
        result_lifetime=_WEEK,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that puts the request into the queue."""
        query = "" if callback_url is None else f"?fal_webhook={quote(callback_url, safe='')}"
        return Call(method="POST", path=f"/{quote(_model(task))}{query}", json=merge(_input(task), task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the request's status."""
        return Call(method="GET", path=f"{_request(task)}/status")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit. Only the id is certain: its URLs are built from the model's name."""
        said = fields(reply.document)
        if not reply.ok or identifier(said.get("request_id")) is None:
            raise refusal_of(reply, creating=True)
        update = read(said) or Update()
        return (
            update
            if update.state is not None or update.unknown_word
            else dataclasses.replace(update, state=State.SUBMITTED)
        )

    def read_status(self, reply: Reply) -> Update:
        """Read a status, or a result: the HTTP status of a result is the model's verdict."""
        if reply.ok and (update := read(reply.document)) is not None:
            return update
        verdict = None if reply.ok else read_verdict(reply)
        if verdict is None:
            raise refusal_of(reply, creating=False)
        return verdict

    def poll(self, task: Task) -> Exchange:
        """Request the status, and once it is completed the result."""
        reply = yield self.query(task)
        update = about(task, self.read_status(reply))
        if not reply.ok or not is_completed(update, reply.document):
            return update
        result = yield Call(method="GET", path=_request(task))
        made = fields(result.document)
        return read_result(made, whole=True) if result.ok and made else self.read_status(result)

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: the result or the error, with the id of the request."""
        update = read(callback.document)
        if update is None:
            raise Unreadable("no request in it")
        return [update]

    def verify_signature(self, callback: Callback, secret: str | None) -> bool | None:
        """Return whether fal's Ed25519 signature is right.

        :param secret: fal's public keys: the document at https://rest.fal.ai/.well-known/jwks.json
        """
        if secret is None:
            return None
        return ed25519_over_digest(callback, secret, prefix="x-fal-webhook-", first="request-id")

    def authorize(self, call: Call, key: str) -> Call:
        """Return the call with the key: its id and secret in one text."""
        return dataclasses.replace(call, headers={**call.headers, "Authorization": f"Key {key}"})

    def cancel(self, task: Task) -> Exchange:
        """Request the cancellation. The request may finish all the same; a poll shows that."""
        reply = yield Call(method="PUT", path=f"{_request(task)}/cancel")
        return self.read_cancelled(reply)

    def read_cancelled(self, reply: Reply) -> Update:
        """Read the answer to the call that cancels. It is a request: the job may still finish."""
        said = (word(fields(reply.document).get("status")) or "").lower()
        if reply.status == _GONE:
            raise NotFound("not_found", said or None)
        if reply.ok or (reply.status == _BAD_REQUEST and said):
            return Update(unknown_word=said if said and said not in _CANCEL_WORDS else None)
        raise refusal_of(reply, creating=False)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what is wrong with the model's name."""
        found = super().validate(task)
        if task.operation not in self.facts.operations:
            return found
        least = 3 if _model(task).partition("/")[0] in _NAMESPACES else 2
        return found + market.path_mistakes(_model(task), "input.model", least=least)


def _model(task: Task) -> str:
    return str(task.input.get("model", "")).strip("/")


def _request(task: Task) -> str:
    """Return the path of a request: only the first parts of the model's name are in it.

    :raises ValueError: for a task without the name of a model: its request cannot be asked for
    """
    parts = _model(task).split("/")
    wanted = 3 if parts[0] in _NAMESPACES else 2
    if len(parts) < wanted:
        raise ValueError("the model's name is needed")
    app = "/".join(parts[:wanted])
    return f"/{quote(app)}/requests/{quote(task.external_id or '', safe='')}"


def _input(task: Task) -> dict[str, Any]:
    """Return the model's input. Models differ in how they write a duration and take images."""
    model = _model(task)
    last = next((name for prefix, name in _LAST_IMAGE if model.startswith(prefix)), _NAMES["last_image"])
    given = market.model_input(task, _NAMES | {"last_image": last})
    written: Mapping[str, str] = dict(_SECONDS)
    form = next((written[prefix] for prefix in written if model.startswith(prefix)), None)
    if form is not None and "duration" in task.input and "duration" not in task.input.get("input", {}):
        given["duration"] = form.format(given["duration"])
    if model.endswith(_IMAGE_LISTS) and "image" in task.input:
        given.setdefault("image_urls", [given.pop("image_url")])
    return given
