"""Veo by gateways: the unified routes (/v1/video/create, /v1/video/query), and the chat format."""

from typing import Any
from urllib.parse import quote

from service.domain.task import Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge, unsupported
from service.providers.veo import relay
from service.providers.veo.family import model_of
from service.providers.wire import Call, Reply

_CREATE, _CHAT = "/v1/video/create", "/v1/chat/completions"
_OPERATIONS = ("text_to_video", "image_to_video", "reference_to_video")
_TAKEN = frozenset({"prompt", "image", "last_image", "images", "aspect_ratio", "enhance_prompt", "upscale", "model"})
_UNSAID = frozenset({"aspect_ratio", "enhance_prompt", "upscale"})
"""Fields that the chat format has no place for: the prompt may say them."""
_MINUTES = 900.0


class Aggregator(Dialect):
    """POST /v1/video/create and GET /v1/video/query. The ids contain a colon."""

    facts = Facts(
        family="veo",
        name="aggregator",
        operations=dict.fromkeys(_OPERATIONS, _CREATE),
        typical_seconds=dict.fromkeys(_OPERATIONS, 180.0),
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        del callback_url  # no page knows a field for it
        given = task.input
        body: dict[str, Any] = {
            "model": model_of(task, "veo3.1-fast"),
            "prompt": given.get("prompt", ""),
            "images": _images(task) or None,
            "enhance_prompt": given.get("enhance_prompt"),
            "enable_upsample": given.get("upscale"),
            "aspect_ratio": given.get("aspect_ratio"),
        }
        return Call(method="POST", path=_CREATE, json=merge(body, task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the job."""
        return _query(task)

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit."""
        return relay.read_submitted(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the record."""
        return relay.read_polled(reply)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what the gateways' pages rule out."""
        return super().validate(task) + _mistakes(task, _TAKEN)


class Chat(Dialect):
    """POST /v1/chat/completions as a stream, which names the job at its start. A cut stream is followed by its id."""

    facts = Facts(
        family="veo",
        name="chat",
        operations=dict.fromkeys(_OPERATIONS, _CHAT),
        typical_seconds=dict.fromkeys(_OPERATIONS, 180.0),
        submit_timeout=_MINUTES,
        reserved=frozenset({"callback_url", "stream"}),
        experimental=True,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        del callback_url
        prompt, images = task.input.get("prompt", ""), _images(task)
        parts = [
            {"type": "text", "text": prompt},
            *({"type": "image_url", "image_url": {"url": url}} for url in images),
        ]
        body = {
            "model": model_of(task, "veo3-frames" if images else "veo3"),
            "messages": [{"role": "user", "content": parts if images else prompt}],
            "stream": True,
        }
        return Call(method="POST", path=_CHAT, json=merge(body, task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the job by the unified route, on the gateway itself."""
        return _query(task)

    def read_created(self, reply: Reply) -> Update:
        """Read the log: the film, or the id of the job."""
        return relay.read_submitted(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the record."""
        return relay.read_polled(reply)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what the gateways' pages rule out."""
        return super().validate(task) + _mistakes(task, _TAKEN - _UNSAID)


def _query(task: Task) -> Call:
    return Call(method="GET", path=f"/v1/video/query?id={quote(task.external_id or '', safe='')}")


def _images(task: Task) -> list[str]:
    single = [task.input[name] for name in ("image", "last_image") if name in task.input]
    return single + list(task.input.get("images", ()))


def _mistakes(task: Task, taken: frozenset[str]) -> list[Mistake]:
    return unsupported(task, taken, "The gateways' Veo format") if task.operation in _OPERATIONS else []
