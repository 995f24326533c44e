"""Kling's own API, newer generation: the model is in the path (https://api-singapore.klingai.com)."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from service.domain.errors import Uncertain
from service.domain.task import Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge
from service.providers.kling import official
from service.providers.kling.keys import with_key_pair
from service.providers.kling.record import first_task, read_task, tasks_in
from service.providers.kling.refusals import code_in, refusal_of
from service.providers.newapi.video import accepted
from service.providers.read import fields, identifier
from service.providers.signatures import standard_webhook
from service.providers.wire import BalanceExchange, Call, Callback, JobsExchange, ManyExchange, Reply

_ROUTES = {
    "text_to_video": "/text-to-video/{model}",
    "image_to_video": "/image-to-video/{model}",
    "motion_control": "/motion-control/{model}",
    "omni_video": "/omni-video/{model}",
    "product_video": "/solutions/e-commerce/{model}",
}
_MODELS = {
    "text_to_video": "kling-3.0-turbo",
    "image_to_video": "kling-3.0-turbo",
    "motion_control": "kling-2.6",
    "omni_video": "kling-3.0-omni",
    "product_video": "clothing_dupe",
}
"""The models that are taken where none is named. The model is a part of the path."""
_PLAIN = frozenset({"prompt", "model"})
_SETTINGS = {
    "duration": "duration",
    "aspect_ratio": "aspect_ratio",
    "resolution": "resolution",
    "orientation": "character_orientation",
}
_CONTENTS: Mapping[str, Mapping[str, str]] = {
    "text_to_video": {},
    "image_to_video": {"image": "first_frame", "last_image": "last_frame"},
    "motion_control": {"image": "image", "video": "video"},
    "omni_video": {"image": "first_frame", "last_image": "last_frame", "images": "image", "video": "video"},
    "product_video": {"video": "source_video", "product_images": "product_image", "person_images": "model_image"},
}
"""The type of each of our media."""
_FIELDS = {name: _PLAIN | contents.keys() | {"aspect_ratio"} for name, contents in _CONTENTS.items()}
_FIELDS["text_to_video"] |= {"duration", "resolution", "mode", "generate_audio"}
_FIELDS["image_to_video"] = _FIELDS["text_to_video"] - {"aspect_ratio"} | {"image", "last_image"}
_FIELDS["omni_video"] |= {"duration", "resolution", "mode", "generate_audio"}
_FIELDS["motion_control"] = _PLAIN | {"image", "video", "orientation", "resolution", "mode", "keep_sound"}
_RESOLUTIONS = {"std": "720p", "pro": "1080p", "4k": "4k"}
_SHORTEST, _LONGEST = 3, 30
_BATCH = 20
_FILLED = frozenset({"callback_url", "external_task_id"})


class OfficialV2(Dialect):
    """Kling's own API, newer generation. One query reads any tasks, by their ids or by our references."""

    facts = Facts(
        family="kling",
        name="official-v2",
        operations=_ROUTES,
        callbacks=True,
        signs=True,
        batch_size=_BATCH,
        queries=("/tasks",),
        typical_seconds=dict.fromkeys(_ROUTES, 240.0) | {"product_video": 600.0},
        result_lifetime=official.LIFETIME,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job, with a reference by which it can be found."""
        model = task.input.get("model", _MODELS[task.operation])
        path = _ROUTES[task.operation].replace("{model}", quote(model, safe=""))
        filled = {"callback_url": callback_url, "external_task_id": official.reference_of(task)}
        body = _body(task) | {"options": {name: value for name, value in filled.items() if value is not None}}
        return Call(method="POST", path=path, json=merge(body, task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the task."""
        return Call(method="GET", path=f"{_list_of(task)}?task_ids={quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: a task in its first state."""
        if not reply.ok or fields(reply.document).get("code") != 0:
            raise refusal_of(reply, creating=True)
        [record, *_] = tasks_in(reply.document) or [{}]
        update = read_task(record)
        if update.external_id is None:
            raise Uncertain("unreadable", "the answer names no task")
        return accepted(update)

    def read_status(self, reply: Reply) -> Update:
        """Read the task: a list of one. An unknown id answers an empty list."""
        return official.read_status(reply)

    def poll_many(self, tasks: Sequence[Task]) -> ManyExchange:
        """Request the state of several tasks, for each of the two lists by one call."""
        found: dict[str, Update] = {}
        for path in sorted({_list_of(task) for task in tasks}):
            names = [quote(task.external_id or "", safe="") for task in tasks if _list_of(task) == path]
            reply = yield Call(method="GET", path=f"{path}?task_ids={','.join(names)}")
            listed = tasks_in(reply.document) if reply.ok and code_in(reply) is None else None
            if listed is None or (first_task(reply.document) is None and listed):
                raise refusal_of(reply, creating=False)
            updates = (read_task(record) for record in listed)
            found |= {update.external_id: update for update in updates if update.external_id is not None}
        return found

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: the bare task, at times without its outputs."""
        return official.read_callback(callback)

    def verify_signature(self, callback: Callback, secret: str | None) -> bool | None:
        """Return whether the signature is right, where the console's webhook secret is set."""
        return None if secret is None else standard_webhook(callback, secret)

    def sign(self, call: Call, key: str, *, host: str, content: bytes, now: float) -> Call:
        """Return the call with a token of a key pair, where the key is one."""
        del host, content
        return with_key_pair(call, key, now=now) or self.authorize(call, key)

    def find_lost_jobs(self, task: Task) -> JobsExchange:
        """Search the job by the reference of its submit."""
        path = f"{_list_of(task)}?external_task_ids={official.reference_of(task)}"
        reply = yield Call(method="GET", path=path)
        if reply.ok and fields(reply.document).get("code") == 0 and tasks_in(reply.document) == []:
            return []
        found = first_task(reply.document) if reply.ok and code_in(reply) is None else None
        if found is None:
            raise refusal_of(reply, creating=False)
        return [official.listed_job(task, identifier(found.get("id")), found.get("create_time"))]

    def balance(self) -> BalanceExchange:
        """Request the units that are left in the resource packs."""
        return official.units_left()

    def validate(self, task: Task) -> list[Mistake]:
        """Return what Kling's pages rule out, and a callback URL in its own field ``options``."""
        found = super().validate(task)
        if task.operation not in _ROUTES:
            return found
        if "options" in task.options:
            stated = task.options["options"]
            if not isinstance(stated, Mapping) or _FILLED & stated.keys():
                found.append(
                    Mistake("options.options", "Leave callback_url and external_task_id out: Dovecote fills them.")
                )
        return found + _mistakes(task)


def _list_of(task: Task) -> str:
    """Return the path of the list that holds a task."""
    return "/solutions" if task.operation == "product_video" else "/tasks"


def _body(task: Task) -> dict[str, Any]:
    given, types = task.input, _CONTENTS[task.operation]
    contents: list[dict[str, Any]] = []
    for name, kind in types.items():
        urls = given.get(name, ())
        contents += [{"type": kind, "url": url} for url in ([urls] if isinstance(urls, str) else urls)]
    settings = {theirs: given[ours] for ours, theirs in _SETTINGS.items() if ours in given}
    if "duration" in settings:
        settings["duration"] = int(settings["duration"])
    if "resolution" in settings:
        settings["resolution"] = settings["resolution"].lower()
    if "mode" in given:
        settings["resolution"] = _RESOLUTIONS[given["mode"]]
    if "generate_audio" in given:
        settings["audio"] = "native" if given["generate_audio"] else "off"
    if "keep_sound" in given:
        settings["audio"] = "original" if given["keep_sound"] else "off"
    prompt = given.get("prompt")
    if contents and prompt is not None:
        contents.insert(0, {"type": "product_info" if task.operation == "product_video" else "prompt", "text": prompt})
        prompt = None
    return {"prompt": prompt, "contents": contents or None, "settings": settings or None}


def _mistakes(task: Task) -> list[Mistake]:
    given, known = task.input, _FIELDS[task.operation]
    found = [
        Mistake(f"input.{name}", "Kling's newer API has no such field here: leave it out, or choose another upstream.")
        for name in given
        if name not in known
    ]
    duration = given.get("duration")
    if duration is not None and not (float(duration).is_integer() and _SHORTEST <= duration <= _LONGEST):
        found.append(Mistake("input.duration", f"Kling makes {_SHORTEST} to {_LONGEST} whole seconds."))
    for name in _CONTENTS[task.operation]:
        urls = given.get(name, ())
        if any(url[:5].lower() == "data:" for url in ([urls] if isinstance(urls, str) else urls)):
            found.append(Mistake(f"input.{name}", "Kling's newer API is known to take URLs only."))
    if "last_image" in given and str(given.get("model", _MODELS[task.operation])).endswith("-turbo"):
        found.append(Mistake("input.last_image", "kling-3.0-turbo has no last frame: use kling-3.0"))
    return found
