"""Pika's own API: /v1/media of api.dev.pika.art, and the older 2.2 routes of devapi.pika.art."""

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from service.domain.task import Result, State, Task, Update
from service.domain.validation import Mistake
from service.providers import market
from service.providers.dialect import Dialect, Facts, about, accepted, merge, unsupported, whole
from service.providers.form import file, form, is_inline
from service.providers.pika import record
from service.providers.pika.family import SECONDS, ratio_of
from service.providers.read import fields, identifier, kind_of, link
from service.providers.wire import Call, Exchange, Reply

_JOBS = "/v1/media/jobs"
_MODEL = "pika/pika-2.5"
_ROUTES = {
    "text_to_video": "text-to-video",
    "image_to_video": "image-to-video",
    "keyframes": "pikaframes",
    "scene": "pikascenes",
    "effect": "pikaffects",
    "addition": "pikadditions",
    "swap": "pikaswaps",
    "video_to_video": "video-to-video",
}
_NAMES = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "resolution": "resolution",
    "aspect_ratio": "aspect_ratio",
    "seed": "seed",
    "image": "image",
    "images": "images",
    "video": "video",
    "effect": "pikaffect",
    "ingredients": "ingredients_mode",
    "region": "modify_region",
}
_OLDER_ROUTES = {
    "text_to_video": "/generate/2.2/t2v",
    "image_to_video": "/generate/2.2/i2v",
    "keyframes": "/generate/2.2/pikaframes",
    "scene": "/generate/2.2/pikascenes",
    "effect": "/generate/pikaffects",
    "addition": "/generate/pikadditions",
    "swap": "/generate/pikaswaps",
}
_OLDER_NAMES = {
    "prompt": "promptText",
    "negative_prompt": "negativePrompt",
    "resolution": "resolution",
    "seed": "seed",
    "image": "image",
    "images": "images",
    "video": "video",
    "effect": "pikaffect",
    "ingredients": "ingredientsMode",
    "region": "modifyRegionRoi",
}


class Official(Dialect):
    """/v1/media. It has no callback, and no list. A repeated submit with the same key is one job, by three clients."""

    facts = Facts(
        family="pika",
        name="official",
        operations={name: f"/v1/media/{{model}}/{route}" for name, route in _ROUTES.items()},
        cost_unit="USD",
        typical_seconds={name: SECONDS[name] for name in _ROUTES},
        models_are_listed=False,
        experimental=True,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job. Its key is the task's id."""
        del callback_url
        model = str(task.input.get("model") or _MODEL)
        path = f"/v1/media/{quote(model)}/{_ROUTES[task.operation]}"
        body = merge(_body(task, model), task.options)
        return Call(method="POST", path=path, json=body, headers={"Idempotency-Key": str(task.id)})

    def query(self, task: Task) -> Call:
        """Return the call that queries the job."""
        return Call(method="GET", path=f"{_JOBS}/{quote(task.external_id or '', safe='')}")

    def poll(self, task: Task) -> Exchange:
        """Request the job, and its content once it is completed and shows none."""
        call = self.query(task)
        reply = yield call
        update = about(task, self.read_status(reply))
        said = record.STATES.get(str(fields(reply.document).get("status")).lower())
        if update.state is not None or said is not State.SUCCEEDED:
            return update
        content = yield Call(method="GET", path=f"{call.path}/content")
        found = _content(content.document) if content.ok else None
        return update if found is None else dataclasses.replace(found, external_id=update.external_id, cost=update.cost)

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: the job."""
        return read_created(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the job, or the answer of its content route."""
        return read_status(reply)

    def authorize(self, call: Call, key: str) -> Call:
        """Return the call with the key in Pika's own header."""
        return dataclasses.replace(call, headers={**call.headers, "X-API-Key": key})

    def validate(self, task: Task) -> list[Mistake]:
        """Return what Pika is known to refuse."""
        found = super().validate(task)
        if task.operation not in _ROUTES:
            return found
        found += market.path_mistakes(str(task.input.get("model", _MODEL)), "input.model")
        return found + unsupported(task, {*_NAMES, "duration", "model"}, "Pika's own API") + _inline(task)


class Older(Dialect):
    """The 2.2 routes. They take forms, and name no reason for a failure."""

    facts = Facts(
        family="pika",
        name="older",
        operations=_OLDER_ROUTES,
        typical_seconds={name: SECONDS[name] for name in _OLDER_ROUTES},
        uploads={name: ("image", "images", "video") for name in _OLDER_ROUTES if name != "text_to_video"},
        models_are_listed=False,
        experimental=True,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        del callback_url
        body: dict[str, Any] = {_OLDER_NAMES[name]: value for name, value in task.input.items() if name in _OLDER_NAMES}
        body |= {"duration": whole(task.input.get("duration")), "aspectRatio": ratio_of(task)}
        if task.operation == "keyframes":
            body["keyFrames"] = body.pop("images", None)
        return Call(method="POST", path=_OLDER_ROUTES[task.operation], form=form(merge(_files(body), task.options)))

    def query(self, task: Task) -> Call:
        """Return the call that queries the video."""
        return Call(method="GET", path=f"/videos/{quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: ``video_id``."""
        return read_created(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the video."""
        return read_status(reply)

    def authorize(self, call: Call, key: str) -> Call:
        """Return the call with the key in Pika's own header."""
        return dataclasses.replace(call, headers={**call.headers, "X-API-KEY": key})

    def validate(self, task: Task) -> list[Mistake]:
        """Return what Pika is known to refuse."""
        found = super().validate(task)
        known = {*_OLDER_NAMES, "duration", "aspect_ratio"}
        return found + unsupported(task, known, "Pika's older API") if task.operation in _OLDER_ROUTES else found


def read_created(reply: Reply) -> Update:
    """Read the answer to a submit: the job under any name of its id."""
    job = record.job_in(reply.document)
    if not reply.ok or job is None or fields(job.get("error")):
        raise record.refusal_of(reply, creating=True)
    return accepted(record.read(job))


def read_status(reply: Reply) -> Update:
    """Read a job, or the answer of the content route."""
    content = _content(reply.document) if reply.ok else None
    if content is not None:
        return content
    job = record.job_in(reply.document)
    if not reply.ok or job is None or job.get("status") is None:
        raise record.refusal_of(reply, creating=False)
    return record.read(job)


def _content(document: Any) -> Update | None:
    """Read the answer of the content route: a URL and no job."""
    said = fields(document)
    url = link(said.get("url"), relative=False)
    if url is None or "status" in said or identifier(said.get("id")) is not None:
        return None
    return Update(state=State.SUCCEEDED, results=(Result(kind_of(url, "video"), url),))


def _body(task: Task, model: str) -> dict[str, Any]:
    body = {_NAMES[name]: value for name, value in task.input.items() if name in _NAMES}
    seconds = "duration_s" if model.startswith("pika/") else "duration"
    if task.operation == "keyframes" and model.startswith("pika/"):
        seconds = "transition_duration_s"
    return body | {seconds: whole(task.input.get("duration"))}


def _files(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body whose media are files, where they are given with their bytes."""

    def sent(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [sent(f"{name}-{number}", each) for number, each in enumerate(value, 1)]
        return file(value, name) if is_inline(value) else value

    return {name: sent(name, value) for name, value in body.items() if value is not None}


def _inline(task: Task) -> list[Mistake]:
    media = {name: value for name, value in task.input.items() if name in {"image", "images", "video"}}
    inline = [name for name, value in media.items() if any(str(each)[:5].lower() == "data:" for each in _listed(value))]
    return [Mistake(f"input.{name}", "Pika takes URLs, and no data: URLs.") for name in inline]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
