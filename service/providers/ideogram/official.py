"""Ideogram's own API."""

import dataclasses
from typing import Any
from urllib.parse import quote

from service.domain.task import Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge
from service.providers.form import form
from service.providers.ideogram import answers
from service.providers.ideogram.family import (
    FAMILY,
    MEDIA,
    Generation,
    fields_of,
    generation_of,
    legacy_body,
    mistakes_in,
)
from service.providers.wire import Call, Callback, Reply

_V3 = "/v1/ideogram-v3"
_ASYNC = "/v1/ideogram-v4/async/generate"
_ROUTES = {
    "text_to_image": _ASYNC,
    "transparent_image": f"{_V3}/generate-transparent",
    "image_to_image": f"{_V3}/remix",
    "inpaint": f"{_V3}/inpaint",
    "edit_image": "/v1/edit",
    "reframe": f"{_V3}/reframe",
    "replace_background": f"{_V3}/replace-background",
    "remove_background": "/v1/remove-background",
    "image_upscale": "/upscale",
    "describe": "/describe",
}
_OTHERS = {
    ("text_to_image", "v3"): f"{_V3}/generate",
    ("text_to_image", "legacy"): "/generate",
    ("image_to_image", "v4"): "/v1/ideogram-v4/remix",
    ("image_to_image", "legacy"): "/remix",
    ("inpaint", "legacy"): "/edit",
    ("reframe", "legacy"): "/reframe",
}
"""The routes of other models than the operation's first."""
_WITHOUT_VERSION = frozenset({"image_upscale", "describe"})
_ANSWER_SECONDS = 600.0
_DAY = 86400.0


class Official(Dialect):
    """api.ideogram.ai, with the key in ``Api-Key``. Pictures of V4 from words are asynchronous, all else is answered at once.

    An answer that is lost may have been charged, and no list tells: only a webhook of V4 does.
    """

    facts = Facts(
        family="ideogram",
        name="official",
        operations=_ROUTES,
        callbacks=True,
        signs=True,
        synchronous=frozenset(_ROUTES.keys() - {"text_to_image"}),
        submit_timeout=_ANSWER_SECONDS,
        typical_seconds=dict.fromkeys(FAMILY.operations, 20.0),
        result_lifetime=_DAY,
        cost_unit="USD",
        reserved=frozenset({"callback_url", "webhook_url"}),
        uploads=dict.fromkeys(_ROUTES.keys() - {"edit_image"}, MEDIA),
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that makes the pictures. The callback URL is in the query."""
        path, body = _request(task)
        if path == _ASYNC and callback_url is not None:
            path = f"{path}?webhook_url={quote(callback_url, safe='')}"
        whole = merge(body, task.options)
        if path == "/generate":
            return Call(method="POST", path=path, json=whole)
        return Call(method="POST", path=path, form=form(whole))

    def query(self, task: Task) -> Call:
        """Return the call that queries the generation."""
        return Call(method="GET", path=f"/v1/generations/{quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: pictures, or the id of a generation."""
        return answers.read_created(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the generation."""
        return answers.read_status(reply)

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: the pictures, without a status."""
        return answers.read_callback(callback)

    def verify_signature(self, callback: Callback, secret: str | None) -> bool | None:
        """Return whether Ideogram's Ed25519 signature is right, and is about the generation of the body.

        :param secret: Ideogram's public keys: the document at /v1/.well-known/jwks.json
        """
        return None if secret is None else answers.signature_is_right(callback, secret)

    def authorize(self, call: Call, key: str) -> Call:
        """Return the call with the key in Ideogram's own header."""
        return dataclasses.replace(call, headers={**call.headers, "Api-Key": key})

    def validate(self, task: Task) -> list[Mistake]:
        """Return what Ideogram's pages rule out."""
        found = super().validate(task)
        if task.operation not in self.facts.operations:
            return found
        return found + mistakes_in(task, "v3" if task.operation in _WITHOUT_VERSION else _generation(task))


def _generation(task: Task) -> Generation | None:
    return generation_of(task, newest="v4" if task.operation == "text_to_image" else "v3")


def _request(task: Task) -> tuple[str, dict[str, Any]]:
    """Return the route and the body of a submit."""
    if task.operation in _WITHOUT_VERSION:
        return _ROUTES[task.operation], legacy_body(task)
    generation: Generation = _generation(task) or "v3"
    path = _OTHERS.get((task.operation, generation), _ROUTES[task.operation])
    if generation == "legacy" and (task.operation, generation) in _OTHERS:
        return path, legacy_body(task)
    body = fields_of(task, generation)
    if task.operation == "edit_image":
        body = _instructed(body)
    return path, body


def _instructed(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body of an edit by instruction: files and URLs stand in fields of their own."""
    media = [body.pop("image"), *body.pop("reference_images", ())]
    files, urls = (
        [each for each in media if not isinstance(each, str)],
        [each for each in media if isinstance(each, str)],
    )
    return {**body, "images": files or None, "image_urls": urls or None}
