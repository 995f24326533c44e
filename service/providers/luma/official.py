"""Luma's Dream Machine API (https://api.lumalabs.ai/dream-machine/v1), as its OpenAPI 1.1.0 and its SDK 1.21 have it."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from service.domain.errors import UpstreamError
from service.domain.task import Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge, unsupported
from service.providers.luma import record
from service.providers.luma.family import inline_media, renamed, seconds
from service.providers.read import fields, identifier, items, moment, number
from service.providers.wire import (
    Balance,
    BalanceExchange,
    Call,
    Callback,
    DeleteExchange,
    JobsExchange,
    ListedJob,
    Reply,
)

_BASE = "/dream-machine/v1"
_JOBS = f"{_BASE}/generations"
_VIDEO, _IMAGE = f"{_JOBS}/video", f"{_JOBS}/image"
ROUTES: Mapping[str, str] = {
    **dict.fromkeys(("text_to_video", "image_to_video", "extend"), _VIDEO),
    "video_to_video": f"{_VIDEO}/modify",
    "reframe_video": f"{_VIDEO}/reframe",
    "upscale": f"{_JOBS}/{{id}}/upscale",
    "add_audio": f"{_JOBS}/{{id}}/audio",
    **dict.fromkeys(("text_to_image", "image_to_image"), _IMAGE),
    "reframe_image": f"{_IMAGE}/reframe",
}
_KINDS = {
    "video_to_video": "modify_video",
    "reframe_video": "reframe_video",
    "reframe_image": "reframe_image",
    "upscale": "upscale_video",
    "add_audio": "add_audio",
}
"""``generation_type`` of the operations that must name it."""
_SAME = ("prompt", "negative_prompt", "aspect_ratio", "resolution", "loop", "format", "model")
_NAMES = {name: name for name in _SAME} | {"strength": "mode"}
_NO_MODEL = frozenset({"upscale", "add_audio"})
_BUILT: Mapping[str, frozenset[str]] = {
    "text_to_video": frozenset({"duration", "concepts"}),
    "image_to_video": frozenset({"duration", "concepts", "image", "last_image"}),
    "extend": frozenset({"duration", "concepts"}),
    "video_to_video": frozenset({"video", "first_frame"}),
    "reframe_video": frozenset({"video", "position"}),
    "text_to_image": frozenset({"reference_images", "style_images", "character_images"}),
    "image_to_image": frozenset({"image", "reference_images"}),
    "reframe_image": frozenset({"image", "position"}),
}
"""The fields that an operation takes besides those of one name."""
_STRENGTH = "flex_1"
_PAGE, _MAX_PAGES = 100, 20


class Official(Dialect):
    """The Dream Machine API. Callbacks are not signed, and a receiver must answer exactly 200 within a few seconds."""

    facts = Facts(
        family="luma",
        name="official",
        operations=ROUTES,
        callbacks=True,
        cost_unit="US cents",
        reserved=frozenset({"callback_url", "sync", "sync_timeout"}),
        typical_seconds=dict.fromkeys(ROUTES, 120.0) | dict.fromkeys(("text_to_image", "image_to_image"), 15.0),
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the generation. It never requests the synchronous answer."""
        path = ROUTES[task.operation].replace("{id}", quote(_parent(task), safe=""))
        return Call(method="POST", path=path, json=merge({**_body(task), "callback_url": callback_url}, task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the generation."""
        return Call(method="GET", path=f"{_JOBS}/{quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: the generation, of a follow-up the new one."""
        return record.read_created(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the generation. Its id may be missing."""
        return record.read_status(reply)

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: the generation."""
        return record.read_callback(callback)

    def find_lost_jobs(self, task: Task) -> JobsExchange:
        """List the account's generations, newest first. Each shows its request."""
        del task
        found: list[ListedJob] = []
        for page in range(_MAX_PAGES):
            reply = yield Call(method="GET", path=f"{_JOBS}?limit={_PAGE}&offset={page * _PAGE}")
            said = fields(reply.document)
            if not reply.ok or not isinstance(said.get("generations"), list):
                raise record.refusal_of(reply, creating=False)
            for each in items(said["generations"]):
                job = fields(each)
                name, at = identifier(job.get("id")), moment(job.get("created_at"))
                if name is None or at is None:
                    raise UpstreamError("unreadable", "a listed generation has no id or no time")
                found.append(ListedJob(name, at.timestamp(), functools.partial(_may_be, fields(job.get("request")))))
            if said.get("has_more") is not True:
                return found
        raise UpstreamError("unreadable", f"the list goes on after {_MAX_PAGES} pages")

    def delete(self, task: Task) -> DeleteExchange:
        """Delete the record of an ended generation: 204 without a body."""
        reply = yield dataclasses.replace(self.query(task), method="DELETE")
        if not reply.ok:
            raise record.refusal_of(reply, creating=False)

    def balance(self) -> BalanceExchange:
        """Request the credits, in US cents."""
        reply = yield Call(method="GET", path=f"{_BASE}/credits")
        left = number(fields(reply.document).get("credit_balance"))
        if not reply.ok or left is None:
            raise record.refusal_of(reply, creating=False)
        return Balance(left, self.facts.cost_unit)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what Luma's pages rule out."""
        found = super().validate(task)
        if task.operation not in ROUTES:
            return found
        known = _BUILT.get(task.operation, frozenset()) | _NAMES.keys()
        return found + unsupported(task, known, "This Luma protocol") + inline_media(task)


def _parent(task: Task) -> str:
    return str(task.inherited.get("external_id") or "")


def _body(task: Task) -> dict[str, Any]:
    """Return a task in Luma's fields."""
    given, images = task.input, task.operation.endswith("image")
    body = renamed(task, _NAMES) | {"generation_type": _KINDS.get(task.operation), "duration": seconds(task)}
    if task.operation not in _NO_MODEL:
        body.setdefault("model", "photon-1" if images else "ray-2")
    if task.operation == "video_to_video":
        body.setdefault("mode", _STRENGTH)
    body["keyframes"] = keyframes_of(task)
    body["concepts"] = [{"key": key} for key in given.get("concepts", ())] or None
    if "reframe" in task.operation or task.operation == "video_to_video":
        body["media"] = {"url": given.get("video", given.get("image"))}
    elif task.operation == "image_to_image":
        body["modify_image_ref"] = {"url": given["image"]}
    if "first_frame" in given:
        body["first_frame"] = {"url": given["first_frame"]}
    for ours, theirs in (("reference_images", "image_ref"), ("style_images", "style_ref")):
        body[theirs] = [{"url": url} for url in given.get(ours, ())] or None
    if "character_images" in given:
        body["character_ref"] = {"identity0": {"images": list(given["character_images"])}}
    return body | dict(given.get("position", {}))


def keyframes_of(task: Task) -> dict[str, Any] | None:
    """Return the first and the last frame: images, or for an extension the parent's end. None where there is none."""
    frames: dict[str, Any] = {}
    if task.operation == "extend":
        frames["frame0"] = {"type": "generation", "id": _parent(task)}
    elif task.operation == "image_to_video":
        frames["frame0"] = {"type": "image", "url": task.input["image"]}
    if "last_image" in task.input:
        frames["frame1"] = {"type": "image", "url": task.input["last_image"]}
    return frames or None


def _may_be(request: Mapping[str, Any], task: Task) -> bool:
    """Return whether a listed request may be a task's: the same prompt and model, where it shows them."""
    body = merge(_body(task), task.options)
    shown = [name for name in ("prompt", "model", "generation_type") if request.get(name) and body.get(name)]
    return all(request[name] == body[name] for name in shown)
