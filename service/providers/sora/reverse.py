"""Sora by a relay's unified form: POST /v1/video/create, GET /v1/video/query?id=."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from service.domain.task import Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge
from service.providers.sora import record
from service.providers.sora.family import MODEL
from service.providers.wire import Call, Reply

_PATH = "/v1/video/create"
_ORIENTATIONS: Mapping[str, str] = {"16:9": "landscape", "9:16": "portrait"}
_SIZES: Mapping[str, str] = {"720p": "small", "1080p": "large"}


class Reverse(Dialect):
    """The relay's unified form. It is slow and gives no guarantee; ids contain a colon."""

    facts = Facts(
        family="sora",
        name="reverse",
        operations={"text_to_video": _PATH, "image_to_video": _PATH},
        typical_seconds={"text_to_video": 300.0, "image_to_video": 300.0},
        reserved=frozenset({"callback_url", "notify_hook"}),
        experimental=True,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the video. The relay requires every field."""
        del callback_url
        given = task.input
        model = task.model or MODEL
        body: dict[str, Any] = {
            "images": [given["image"]] if "image" in given else [],
            "model": model,
            "orientation": _ORIENTATIONS.get(given.get("aspect_ratio", "16:9"), "landscape"),
            "prompt": given.get("prompt"),
            "size": _SIZES.get(given.get("resolution", "720p"), "small"),
            "duration": _whole(given.get("duration", 15 if model.endswith("pro") else 10)),
            "watermark": given.get("watermark", True),
            "private": given.get("private", False),
        }
        return Call(method="POST", path=self.facts.operations[task.operation], json=merge(body, task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the video."""
        return Call(method="GET", path=f"/v1/video/query?id={quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit."""
        return record.read_created(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the video."""
        return record.read_status(reply)

    def validate(self, task: Task) -> list[Mistake]:
        """Return a mistake for a shape that the relay has no word for."""
        found = super().validate(task)
        ratio = task.input.get("aspect_ratio", "16:9")
        if ratio not in _ORIENTATIONS and "orientation" not in task.options:
            found.append(Mistake("input.aspect_ratio", f"It makes {', '.join(_ORIENTATIONS)} only."))
        return found


def _whole(seconds: float) -> float:
    return int(seconds) if float(seconds).is_integer() else seconds
