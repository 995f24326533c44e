"""Sora by CometAPI's reverse format and its relays: POST and GET /sora/v1/videos, with a remix."""

from urllib.parse import quote

from service.domain.task import Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge
from service.providers.sora import record
from service.providers.sora.family import MODEL
from service.providers.wire import Call, Reply

_PATH = "/sora/v1/videos"
_KNOWN = frozenset({"prompt", "model", "image", "duration", "aspect_ratio"})


class Relay(Dialect):
    """CometAPI's "reverse format". Its pages do not show the bodies: prompt and model are sent, and ``options`` override them."""

    facts = Facts(
        family="sora",
        name="relay",
        operations={"text_to_video": _PATH, "image_to_video": _PATH, "remix": f"{_PATH}/{{id}}/remix"},
        typical_seconds=dict.fromkeys(("text_to_video", "image_to_video", "remix"), 300.0),
        reserved=frozenset({"callback_url", "notify_hook"}),
        experimental=True,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the video, or a remix of the parent's."""
        del callback_url
        given = task.input
        parent = quote(str(task.inherited.get("external_id") or ""), safe="")
        body = {
            "prompt": given.get("prompt"),
            "model": task.model or MODEL,
            "image": given.get("image"),
            "duration": given.get("duration"),
            "aspect_ratio": given.get("aspect_ratio"),
        }
        path = self.facts.operations[task.operation].replace("{id}", parent)
        return Call(method="POST", path=path, json=merge(body, task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the video."""
        return Call(method="GET", path=f"{_PATH}/{quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit."""
        return record.read_created(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the video: a task record, or OpenAI's object. The shape distinguishes them."""
        return record.read_status(reply)

    def validate(self, task: Task) -> list[Mistake]:
        """Return a mistake for each field that this format has no name for."""
        found = super().validate(task)
        why = "The reverse format has no such field: leave it out, or choose another upstream."
        return found + [Mistake(f"input.{name}", why) for name in task.input if name not in _KNOWN]
