"""Ideogram's own API, version 2 (/v2). Known by its paths and answers; no page shows a whole request: experimental."""

import dataclasses
from typing import Any
from urllib.parse import quote, urlencode

from service.domain.task import Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge, unsupported
from service.providers.ideogram import answers
from service.providers.wire import Call, Callback, Reply

_MODELS = {"v_4_5": "ideogram-4-5", "v4_5": "ideogram-4-5", "4.5": "ideogram-4-5"}
"""The names in the path, by those that Ideogram's other routes have the form of."""
_ROUTE = "/v2/image/generate/{model}"
_SAME = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "aspect_ratio": "aspect_ratio",
    "resolution": "resolution",
    "rendering_speed": "rendering_speed",
    "magic_prompt": "magic_prompt",
    "style": "style_type",
    "seed": "seed",
    "count": "num_images",
}
_DAY = 86400.0


class OfficialV2(Dialect):
    """POST /v2/image/generate/{model} and GET /v2/generations/{id}. It is always asked to work asynchronously.

    Whether ``async`` and ``webhook_url`` stand in the query, as in version 1, or in the body is not known: ``options`` reach the body.
    """

    facts = Facts(
        family="ideogram",
        name="official-v2",
        operations={"text_to_image": _ROUTE},
        callbacks=True,
        signs=True,
        typical_seconds={"text_to_image": 20.0},
        result_lifetime=_DAY,
        cost_unit="USD",
        reserved=frozenset({"callback_url", "webhook_url"}),
        experimental=True,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that makes the pictures."""
        path = _ROUTE.replace("{model}", quote(_model(task), safe=""))
        query = {"async": "true", **({} if callback_url is None else {"webhook_url": callback_url})}
        return Call(method="POST", path=f"{path}?{urlencode(query)}", json=merge(_body(task), task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the generation."""
        return Call(method="GET", path=f"/v2/generations/{quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: the id of a generation, or pictures all the same."""
        return answers.read_created(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the generation."""
        return answers.read_status(reply)

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: the pictures, without a status."""
        return answers.read_callback(callback)

    def verify_signature(self, callback: Callback, secret: str | None) -> bool | None:
        """Return whether Ideogram's signature is right, where its public keys are known."""
        return None if secret is None else answers.signature_is_right(callback, secret)

    def authorize(self, call: Call, key: str) -> Call:
        """Return the call with the key in Ideogram's own header."""
        return dataclasses.replace(call, headers={**call.headers, "Api-Key": key})

    def validate(self, task: Task) -> list[Mistake]:
        """Return what is known to be refused."""
        found = super().validate(task)
        if task.operation not in self.facts.operations:
            return found
        found += unsupported(task, {*_SAME, "model"}, "Ideogram's version 2")
        if {"aspect_ratio", "resolution"} <= task.input.keys():
            found.append(Mistake("input.resolution", "goes not with an aspect_ratio: give one of them"))
        return found


def _model(task: Task) -> str:
    stated = str(task.input.get("model", "ideogram-4-5"))
    return _MODELS.get(stated.lower(), stated)


def _body(task: Task) -> dict[str, Any]:
    body = {theirs: task.input[ours] for ours, theirs in _SAME.items() if ours in task.input}
    if "aspect_ratio" in body:
        body["aspect_ratio"] = body["aspect_ratio"].replace(":", "x")
    return body
