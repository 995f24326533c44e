"""Requests of the two protocols of gateways: their bodies, and their known refusals."""

import dataclasses
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from service.domain.errors import Unavailable, Unreadable
from service.domain.task import ENDED, Result, State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, merge
from service.providers.read import number
from service.providers.suno.family import NO_CLIP, NO_SUBJECT, clip_of, inline_recording, too_long
from service.providers.wire import Call, Exchange, Reply

LOOKUPS = {name: f"/suno/act/{name}/{{clip_id}}" for name in ("wav", "mp4", "timing")}
"""Questions about a clip, answered with a link or with the document itself. They buy nothing."""
SYNCHRONOUS_ROUTES = {"persona": "/suno/persona/create", "style_tags": "/suno/act/tags", **LOOKUPS}
_TASKS = {"cover": "cover", "infill": "infill", "persona_music": "artist_consistency", "stems": "gen_stem"}
_CLIP_FIELDS = {
    **dict.fromkeys(("extend", "infill", "stems"), "continue_clip_id"),
    "cover": "cover_clip_id",
    "persona_music": "artist_clip_id",
    "concat": "clip_id",
    "persona": "root_clip_id",
}
_SAME = {
    "prompt": "gpt_description_prompt",
    "lyrics": "prompt",
    "style": "tags",
    "title": "title",
    "negative_prompt": "negative_tags",
    "continue_at": "continue_at",
    "start": "infill_start_s",
    "end": "infill_end_s",
    "persona": "persona_id",
}
"""Our names and those of POST /suno/submit/music, where the value is the same."""
_SLIDERS = {"style_weight": "style_weight", "weirdness": "weirdness_constraint", "audio_weight": "audio_weight"}
_MODELS = {"persona_music": "chirp-v4-tau"}  # the only kind that sings as a persona, besides chirp-v3-5-tau
_MODEL = "chirp-auk"
"""The model where none is named: Suno-API's own default, chirp-v3-0, is no longer served."""
_WAVE = b"RIFF"


def creation(task: Task, route: str, **more: Any) -> Call:
    """Return the call that creates the job, or queries a clip."""
    if task.operation in LOOKUPS:
        return _lookup(task)
    return Call(method="POST", path=route, json=merge({**body_of(task), **more}, task.options))


def query(task: Task, route: str) -> Call:
    """Return the call that queries the job's state."""
    if task.operation in LOOKUPS:
        return _lookup(task)
    return Call(method="GET", path=f"/suno/{route}/{quote(task.external_id or '', safe=',')}")


def _lookup(task: Task) -> Call:
    return Call(method="GET", path=LOOKUPS[task.operation].format(clip_id=quote(clip_of(task) or "", safe="")))


def free_request(dialect: Dialect, task: Task, call: Call, read: Callable[[Reply], Update]) -> Exchange:
    """Send a free request about a clip and read the answer. It may be repeated after any error."""
    reply = yield call
    if task.operation not in LOOKUPS:
        return read(reply)
    if reply.ok and reply.body.startswith(_WAVE):
        return Update(state=State.SUCCEEDED, results=(Result("audio", call.path),))  # to be fetched with the key
    try:
        update = dialect.read_status(reply)
    except Unreadable as error:
        raise Unavailable("unreadable", error.message) from error
    if update.state in ENDED:
        return dataclasses.replace(update, external_id=None)
    return Update(state=State.RUNNING, external_id=clip_of(task))


def submit(dialect: Dialect, task: Task, callback_url: str | None) -> Exchange:
    """Submit a task. A question about a clip may be repeated after any error; any other call is made once."""
    call = dialect.facts.creating(task.operation, dialect.create(task, callback_url))
    return free_request(dialect, task, call, dialect.read_created)


def body_of(task: Task) -> dict[str, Any]:
    """Return a task as the gateways take it. The raw protocol takes the same bodies."""
    given, clip = task.input, clip_of(task)
    match task.operation:
        case "lyrics":
            return {"prompt": given.get("prompt"), "mv": given.get("model")}
        case "upload":
            return {"url": given.get("audio")}
        case "style_tags":
            return {"original_tags": given.get("style")}
        case "concat":
            return {"clip_id": clip, "is_infill": given.get("infill", task.inherited.get("operation") == "infill")}
        case "persona":
            named = {"name": given.get("name"), "description": given.get("description")}
            clips = None if clip is None else [clip]
            return {"root_clip_id": clip, **named, "clips": clips, "is_public": given.get("public", False)}
        case _:
            return _song(task, clip)


def _song(task: Task, clip: str | None) -> dict[str, Any]:
    """Return the body for a song: POST /suno/submit/music has one for all kinds."""
    given, taken, kind = task.input, task.inherited, task.operation
    body: dict[str, Any] = {theirs: given[ours] for ours, theirs in _SAME.items() if ours in given}
    body |= {"mv": given.get("model", _MODELS.get(kind, _MODEL)), "task": _TASKS.get(kind)}
    body["generation_type"] = "TEXT" if kind in _TASKS else None
    if kind in _CLIP_FIELDS:
        body |= {_CLIP_FIELDS[kind]: clip, "task_id": taken.get("task_id")}
    if kind == "extend":
        uploaded = given.get("uploaded", taken.get("operation") == "upload")
        body["task"] = "upload_extend" if uploaded else "extend"
    if kind == "stems":
        split = given.get("split", "two")
        body |= {"stem_type_id": 91, "stem_type_group_name": split.capitalize(), "stem_task": split}
    if kind == "persona_music":
        body.setdefault("persona_id", taken.get("persona"))
    if kind == "stems" or given.get("instrumental"):
        body |= {"make_instrumental": True, "prompt": body.get("prompt", "")}
    sliders = {theirs: given[ours] for ours, theirs in _SLIDERS.items() if ours in given}
    sound = merge({"control_sliders": sliders or None, "vocal_gender": given.get("vocal_gender")}, {})
    if sound:
        body["metadata"] = sound if "prompt" in given else {**sound, "create_mode": "custom"}
    return body


def mistakes_in(task: Task) -> list[Mistake]:
    """Return what gateways are known to refuse. Fields that ``options`` set are not checked."""
    if task.operation in LOOKUPS:
        bodiless = Mistake("options", f"{task.operation} takes no fields of the provider's: leave them out.")
        return ([bodiless] if task.options else []) + ([] if clip_of(task) else [NO_CLIP])
    body = merge(body_of(task), task.options)
    clip = _CLIP_FIELDS.get(task.operation)
    found = [NO_CLIP] if clip is not None and not body.get(clip) else []
    found += inline_recording(task)
    if "duration" in task.input:
        found.append(
            Mistake("input.duration", "Gateways have no such field: leave it out, or choose another upstream.")
        )
    if task.operation == "music" and not any(body.get(name) for name in ("gpt_description_prompt", "prompt", "tags")):
        found.append(NO_SUBJECT)
    if task.operation == "persona_music" and not body.get("persona_id"):
        found.append(Mistake("input.persona", "is required here: name a persona, or a parent_id that created one"))
    start, end = number(body.get("infill_start_s")), number(body.get("infill_end_s"))
    if start is not None and end is not None and start >= end:
        found.append(Mistake("input.end", "must be later than start"))
    return found + too_long(task, body.get("mv"), {"lyrics": body.get("prompt"), "style": body.get("tags")})
