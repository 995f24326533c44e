"""Luma by gateways: Luma's own path with answers in the shape of its web site, or with Luma's own."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from service.domain.task import Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge, unsupported
from service.providers.luma import record
from service.providers.luma.family import inline_media, renamed, seconds
from service.providers.luma.official import keyframes_of
from service.providers.wire import Call, Callback, Reply

_ROUTE = "/dream-machine/v1/generations"
_OPERATIONS = ("text_to_video", "image_to_video", "extend")
_SAME = frozenset({"prompt", "aspect_ratio", "loop", "resolution", "model"})
_FRAMES = frozenset({"duration", "image", "last_image"})
_RELAY = "/luma/generations"
_RELAY_NAMES = {
    "prompt": "user_prompt",
    "model": "model_name",
    "image": "image_url",
    "last_image": "image_end_url",
} | {name: name for name in ("aspect_ratio", "loop", "resolution")}


class Aggregator(Dialect):
    """POST and GET /dream-machine/v1/generations of CometAPI and its siblings (their page "official API format")."""

    facts = Facts(
        family="luma",
        name="aggregator",
        operations=dict.fromkeys(_OPERATIONS, _ROUTE),
        callbacks=True,
        typical_seconds=dict.fromkeys(_OPERATIONS, 120.0),
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the generation."""
        body = renamed(task, {name: name for name in _SAME})
        body |= {"duration": seconds(task), "keyframes": keyframes_of(task), "callback_url": callback_url}
        return Call(method="POST", path=_ROUTE, json=merge(body, task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the generation."""
        return Call(method="GET", path=f"{_ROUTE}/{quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit."""
        return record.read_created(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the generation in any of its shapes."""
        return record.read_status(reply)

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: Luma's own generation."""
        return record.read_callback(callback)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what the gateways' pages rule out."""
        return super().validate(task) + _mistakes(task)


class Relay(Dialect):
    """POST /luma/generations of other gateways. Their callback is ``notify_hook``, whose body no page shows."""

    facts = Facts(
        family="luma",
        name="relay",
        operations={
            "text_to_video": _RELAY,
            "image_to_video": _RELAY,
            "extend": f"{_RELAY}/{{id}}/extend",
        },
        callbacks=True,
        confirms=True,
        reserved=frozenset({"callback_url", "notify_hook"}),
        typical_seconds=dict.fromkeys(_OPERATIONS, 120.0),
        experimental=True,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the generation."""
        parent = quote(str(task.inherited.get("external_id") or ""), safe="")
        body: Mapping[str, Any] = renamed(task, _RELAY_NAMES) | {"duration": seconds(task), "notify_hook": callback_url}
        path = self.facts.operations[task.operation].replace("{id}", parent)
        return Call(method="POST", path=path, json=merge(body, task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the generation."""
        return Call(method="GET", path=f"{_RELAY}/{quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: the generation, or ``task_id`` alone."""
        return record.read_created(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the generation, or the first of ``data``."""
        return record.read_status(reply)

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: the generation, as a poll shows it."""
        return record.read_callback(callback)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what the gateways' pages rule out."""
        return super().validate(task) + _mistakes(task)


def _mistakes(task: Task) -> list[Mistake]:
    if task.operation not in _OPERATIONS:
        return []
    return unsupported(task, _SAME | _FRAMES, "This Luma protocol") + inline_media(task)
