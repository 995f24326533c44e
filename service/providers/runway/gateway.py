"""Runway by the two protocols of gateways: their own (/runway/pro), and Runway's own bodies (/runwayml/v1)."""

from typing import Any
from urllib.parse import quote

from service.domain.errors import Unreadable
from service.domain.task import Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, about, merge, unsupported
from service.providers.read import fields
from service.providers.runway.family import missing
from service.providers.runway.native import (
    GATEWAY_MODELS,
    SIZES,
    VERSION,
    native_body,
    native_mistakes,
    shape,
    whole_seconds,
)
from service.providers.runway.record import GATEWAY_WORDS, gateway_job, is_task, read_created, read_status, read_task
from service.providers.wire import UNREACHABLE_CALLBACK, Call, Callback, Exchange, Reply

_FEED_ROUTES = {
    "text_to_video": "/runway/pro/generate",
    "image_to_video": "/runway/pro/generate",
    "video_to_video": "/runway/pro/video2video",
    "character_performance": "/runway/pro/act_one",
}
_FEED_FIELDS = {
    "text_to_video": frozenset({"prompt", "duration", "aspect_ratio", "model", "style", "motion"}),
    "image_to_video": frozenset(
        {"prompt", "image", "last_image", "duration", "aspect_ratio", "model", "style", "motion"}
    ),
    "video_to_video": frozenset({"prompt", "video", "duration", "model", "strength"}),
    "character_performance": frozenset({"video", "image"}),
}
"""Which of our fields POST /runway/pro/* has words for."""


class Aggregator(Dialect):
    """POST /runway/pro/* and /runway/feed of CometAPI ('reverse' or 'compatibility format'), DeerAPI and ElkAPI."""

    facts = Facts(
        family="runway",
        name="aggregator",
        operations=_FEED_ROUTES,
        callbacks=True,
        queries=("/feed",),
        cost_unit="points",
        refunds=True,
        typical_seconds=dict.fromkeys(_FEED_ROUTES, 240.0),  # documented samples took 104, 291 and 359 s
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job. CometAPI and DeerAPI refuse one without a callback URL."""
        mapped = {"callback_url": callback_url or UNREACHABLE_CALLBACK, **_feed_body(task)}
        body = merge(mapped, task.options)
        return Call(method="POST", path=self.facts.operations[task.operation], json=body, headers=VERSION)

    def query(self, task: Task) -> Call:
        """Return the call that asks the feed."""
        return Call(method="POST", path="/runway/feed", json={"task_id": task.external_id}, headers=VERSION)

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: an id alone, the whole record, or a refusal with HTTP 200."""
        return read_created(reply, GATEWAY_WORDS)

    def read_status(self, reply: Reply) -> Update:
        """Read the answer of the feed."""
        return read_status(reply, GATEWAY_WORDS)

    def poll(self, task: Task) -> Exchange:
        """Query the feed. Only the gateway's own id is compared: a record may hold the vendor's id too."""
        return _polled(self, task)

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: the feed's record without its envelope, or with one."""
        if not is_task(callback.document):
            raise Unreadable("no task in it")
        return [read_task(callback.document, GATEWAY_WORDS)]

    def validate(self, task: Task) -> list[Mistake]:
        """Return the mistakes that the gateways' pages rule out."""
        found = super().validate(task)
        if task.operation not in self.facts.operations:
            return found
        needed = {"image": "image"} if task.operation == "character_performance" else {"prompt": "prompt"}
        found += unsupported(task, _FEED_FIELDS[task.operation], "The gateways' own Runway format")
        found += missing(self.create(task, None).json, needed)
        if task.input.get("duration", 5) not in {5, 10} and "seconds" not in fields(task.options.get("options")):
            found.append(Mistake("input.duration", "Gateways make videos of 5 or 10 seconds."))
        return found


class AggregatorOfficial(Dialect):
    """/runwayml/v1/* of CometAPI and its siblings: Runway's own bodies, without text_to_video, cancel and callbacks."""

    facts = Facts(
        family="runway",
        name="aggregator-official",
        operations={name: f"/runwayml/v1/{name}" for name in GATEWAY_MODELS},
        typical_seconds=dict.fromkeys(GATEWAY_MODELS, 120.0),
        cost_unit="credits",
        refunds=True,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        del callback_url  # no page documents a field for it
        body = native_body(task, GATEWAY_MODELS)
        return Call(method="POST", path=self.facts.operations[task.operation], json=body, headers=VERSION)

    def query(self, task: Task) -> Call:
        """Return the call that queries the task."""
        return Call(method="GET", path=f"/runwayml/v1/tasks/{quote(task.external_id or '', safe='')}", headers=VERSION)

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: a bare id."""
        return read_created(reply, GATEWAY_WORDS)

    def read_status(self, reply: Reply) -> Update:
        """Read the task: in the gateway's wrapper by older pages, Runway's bare object by newer ones."""
        return read_status(reply, GATEWAY_WORDS)

    def poll(self, task: Task) -> Exchange:
        """Request the task. Only the gateway's own id is compared: the bare object may hold the vendor's."""
        return _polled(self, task)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what CometAPI's pages and Runway's reference rule out."""
        found = super().validate(task)
        return found + native_mistakes(task, GATEWAY_MODELS) if task.operation in self.facts.operations else found


def _polled(dialect: Dialect, task: Task) -> Exchange:
    reply = yield dialect.query(task)
    update = dialect.read_status(reply)
    about(task, Update(), stated=gateway_job(reply.document))
    return update


def _feed_body(task: Task) -> dict[str, Any]:
    """Return a task in the gateways' own Runway format."""
    given, ratio = task.input, task.input.get("aspect_ratio")
    if task.operation == "character_performance":
        return {"video": given.get("video"), "image": given.get("image")}
    body = {"prompt": given.get("prompt"), "model": given.get("model", "gen4_turbo"), "style": given.get("style")}
    motion = given.get("motion")
    options: dict[str, Any] = {"seconds": whole_seconds(given, 5)}
    match task.operation:
        case "text_to_video":
            body |= {"style": given.get("style", "cinematic"), "ratio": shape(ratio or "16:9")}
            motion = motion or {}
        case "image_to_video":
            body |= {"image": given.get("image"), "last_image": given.get("last_image")}
            body["ratio"] = ratio and SIZES.get(ratio, ratio)
        case _:
            body["video"] = given.get("video")
            options = {"seconds": whole_seconds(given), "structure_transformation": given.get("strength")}
    if motion is not None:
        still = dict.fromkeys(("x", "y", "z", "r", "bg_x_pan", "bg_y_pan"), 0)
        options["motion_vector"] = {**still, **motion}
    given_options = {name: value for name, value in options.items() if value is not None}
    return body | ({"options": given_options} if given_options else {})
