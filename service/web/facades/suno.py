"""Suno-API as new-api, chatgpt-web-midjourney-proxy and clients of suno-api speak it: /suno/* and /api/*."""

from typing import Any, Final
from uuid import UUID

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.events import rfc3339
from service.domain.task import State, Task
from service.domain.webhook_events import TYPES
from service.flows.webhooks.formats.ids import task_id_of
from service.flows.webhooks.formats.shapes import texts
from service.flows.webhooks.formats.suno import clip_document, clip_of, clips, items_of, lyrics_document, row
from service.web.facades.actions import credit_of
from service.web.facades.body import Fields
from service.web.facades.door import Door, DoorRequest, DoorRoute, shown
from service.web.facades.outcome import hold
from service.web.problems import Problem

_SAME: Final = {
    "gpt_description_prompt": "prompt",
    "prompt": "lyrics",
    "tags": "style",
    "title": "title",
    "negative_tags": "negative_prompt",
    "mv": "model",
    "model": "model",
    "continue_at": "continue_at",
    "infill_start_s": "start",
    "infill_end_s": "end",
    "persona_id": "persona",
}
"""Our names of Suno-API's fields, where the value is the same."""
_SOUND: Final = ("style_weight", "weirdness_constraint", "audio_weight")
_KINDS: Final = {
    "extend": "extend",
    "upload_extend": "extend",
    "cover": "cover",
    "infill": "infill",
    "artist_consistency": "persona_music",
    "gen_stem": "stems",
}
"""Our operation by Suno-API's ``task``."""
_CLIP_FIELDS: Final = ("continue_clip_id", "cover_clip_id", "artist_clip_id", "clip_id", "root_clip_id")
_HOOKS: Final = ("notify_hook", "callback_url")
_LIMIT: Final = 500
_MAX_WAIT: Final = 100.0
"""Seconds for which ``wait_audio`` of suno-api holds a request."""
_NAMES: Final = {"prompt": "gpt_description_prompt", "lyrics": "prompt", "style": "tags", "model": "mv"}


def operation_of(action: str, said: Fields) -> str:
    """Return the operation of an action, whose letters may be upper or lower case.

    :raises Problem: 400 for an unknown action
    """
    match action.lower():
        case "music":
            kind = said.get("task")
            if isinstance(kind, str) and kind in _KINDS:
                return _KINDS[kind]
            return "extend" if said.get("continue_clip_id") else "music"
        case "lyrics" | "concat" | "stems":
            return action.lower()
        case _:
            raise Problem(400, "invalid_action", f"{action[:40]}: is no action; take music, lyrics, concat or stems")


def request_of(operation: str, said: Fields, parent: tuple[Task, str | None] | None = None) -> dict[str, Any]:
    """Return our request of a body in Suno-API's form.

    :param parent: the task that a follow-up continues, and the provider's id of the clip
    """
    given = {ours: said[theirs] for theirs, ours in _SAME.items() if said.get(theirs) not in (None, "")}
    if operation == "lyrics":
        given = {"prompt": said.get("prompt"), "model": given.get("model")}
        given = {name: value for name, value in given.items() if value is not None}
    elif operation in {"concat", "stems"}:
        given = {name: given[name] for name in ("title", "model") if name in given and operation == "stems"}
        if operation == "concat" and isinstance(said.get("is_infill"), bool):
            given["infill"] = said["is_infill"]
    else:
        given |= _sound(said)
        if "prompt" in given:  # Suno-API ignores the three others then, and Suno writes them
            given = {name: value for name, value in given.items() if name not in {"lyrics", "style", "title"}}
        if said.get("make_instrumental") is True:
            given["instrumental"] = True
    asked: dict[str, Any] = {"family": "suno", "operation": operation, "input": given}
    if parent is not None:
        task, item = parent
        asked["parent_id"] = str(task.id)
        if item is not None:
            given["clip"] = item
    elif (clip := _named_clip(said)) is not None and operation != "music":
        given["clip"] = clip
    hook = next((said[name] for name in _HOOKS if said.get(name)), None)
    if hook is not None:
        asked |= {"callback_url": hook, "callback_format": "suno", "callback_events": [*_TOLD]}
    return asked


_TOLD: Final = tuple(name for name in TYPES if name in {
    "task.succeeded", "task.failed", "task.cancelled", "task.expired", "task.late_result",
})  # fmt: skip


def _sound(said: Fields) -> dict[str, Any]:
    """Return how the song is to sound: gateways take it within ``metadata``."""
    metadata = said.get("metadata")
    inside: dict[str, Any] = metadata if isinstance(metadata, dict) else {}
    sliders = inside.get("control_sliders")
    set_to: dict[str, Any] = sliders if isinstance(sliders, dict) else {}
    found = {("weirdness" if name.startswith("weird") else name): set_to.get(name) for name in _SOUND}
    found["vocal_gender"] = inside.get("vocal_gender")
    return {name: value for name, value in found.items() if value is not None}


def _named_clip(said: Fields) -> str | None:
    return next((each for name in _CLIP_FIELDS if isinstance(each := said.get(name), str) and each), None)


def error_document(problem: Problem) -> dict[str, Any]:
    """Return an error as Suno-API and its gateways write it."""
    detail = problem.detail
    if problem.mistakes:
        detail = "; ".join(f"{_NAMES.get(each.path, each.path)}: {each.message}" for each in problem.mistakes)
    return {"code": problem.code, "message": detail, "data": None, "error": {"message": detail, "code": problem.code}}


async def _accepted(request: DoorRequest, operation: str, said: Fields) -> Task:
    asked = request_of(operation, said, await _parent(request, operation, said))
    return (await request.accept(asked, said)).task


async def _parent(request: DoorRequest, operation: str, said: Fields) -> tuple[Task, str | None] | None:
    """Return the task that a follow-up continues: by a clip's id of ours, or by its own. None for a clip from elsewhere."""
    if operation in {"music", "lyrics"}:
        return None
    named = _named_clip(said)
    found = None if named is None else clip_of(named)
    if found is not None:
        task = await _find(request, found[0])
        made = items_of(task)
        if found[1] >= len(made):
            raise Problem(400, "invalid_request", f"clip {named}: its task has not made it")
        return task, made[found[1]]
    task_id = task_id_of(str(said.get("task_id") or ""))
    parent = None if task_id is None else await request.find_by_id(task_id)
    return None if parent is None else (parent, named)


async def _find(request: DoorRequest, task_id: UUID) -> Task:
    task = await request.find_by_id(task_id)
    if task is None:
        raise Problem(400, "task_not_exist", "task_not_exist")
    return task


async def submit(request: DoorRequest) -> Response:
    """Accept a task, and return its id in an envelope."""
    said = await request.fields()
    task = await _accepted(request, operation_of(request.http.path_params["action"], said), said)
    return shown({"code": "success", "message": "", "data": str(task.id)})


async def fetch(request: DoorRequest) -> Response:
    """Return a task in an envelope."""
    task_id = task_id_of(request.http.path_params["id"])
    if task_id is None:
        raise Problem(400, "task_not_exist", "task_not_exist")
    task = await request.whole(await _find(request, task_id))
    return shown({"code": "success", "message": "", "data": row(task)})


async def fetch_many(request: DoorRequest) -> Response:
    """Return several tasks in an envelope; ids that no task of the client has are left out."""
    named = (await request.fields()).get("ids")
    if not isinstance(named, list) or len(named) > _LIMIT:
        raise Problem(400, "invalid_request", f"ids: give a list of at most {_LIMIT} ids")
    found = await request.find_many(named)
    return shown({"code": "success", "message": "", "data": [row(each) for each in found.values()]})


async def generate(request: DoorRequest) -> Response:
    """Accept a song, and return the clips that are to be made."""
    said = await request.fields()
    task = await _accepted(request, operation_of("music", said), said)
    document = {"id": task.id.hex, "clips": clips(task), "status": "complete", "created_at": rfc3339(task.created_at)}
    return shown(document)


async def generate_lyrics(request: DoorRequest) -> Response:
    """Accept lyrics."""
    task = await _accepted(request, "lyrics", await request.fields())
    return shown({"id": task.id.hex})


async def feed(request: DoorRequest) -> Response:
    """Return clips by their ids, as a bare list."""
    wanted = [each.strip() for each in request.http.path_params["ids"].split(",")][:_LIMIT]
    return shown(await _clips(request, wanted))


async def _clips(request: DoorRequest, named: list[str]) -> list[dict[str, Any]]:
    known = [clip for each in named if (clip := clip_of(each)) is not None]
    found = await request.find_many([str(task_id) for task_id, _ in known])
    return [clip_document(found[task_id], number) for task_id, number in known if task_id in found]


async def lyrics(request: DoorRequest) -> Response:
    """Return lyrics."""
    task = await request.find(request.http.path_params["id"])
    return shown(lyrics_document(task))


async def api_generate(request: DoorRequest) -> Response:
    """Accept a song in the form of suno-api, and return its clips as a bare list."""
    said = await request.fields()
    translated = dict(said)
    if not request.route.path.endswith("custom_generate"):
        translated["gpt_description_prompt"] = translated.pop("prompt", None)
    if isinstance(said.get("model"), str):
        translated["model"] = said["model"].partition("|")[0]
    task = await _accepted(request, "music", translated)
    if said.get("wait_audio") is True:
        task = await hold(request, task, _MAX_WAIT)
    return shown([_api_clip(each) for each in clips(task)])


async def api_get(request: DoorRequest) -> Response:
    """Return clips in the form of suno-api."""
    named = str(request.http.query_params.get("ids") or request.http.query_params.get("id") or "")
    found = [_api_clip(each) for each in await _clips(request, named.split(",")[:_LIMIT])]
    if "id" in request.http.query_params and not found:
        raise Problem(404, "not_found", "no clip has this id")
    return shown(found[0] if "id" in request.http.query_params else found)


def _api_clip(clip: dict[str, Any]) -> dict[str, Any]:
    """Return a clip with the names of suno-api."""
    about = clip["metadata"]
    flat = {
        name: clip[name]
        for name in ("id", "title", "image_url", "audio_url", "video_url", "created_at", "model_name", "status")
    }
    words = {"lyric": about["prompt"], "prompt": about["prompt"], "tags": about["tags"], "type": "gen"}
    described = {"gpt_description_prompt": about["gpt_description_prompt"], "error_message": about["error_message"]}
    return {**flat, **words, **described, "duration": about["duration"]}


async def api_lyrics(request: DoorRequest) -> Response:
    """Accept lyrics in the form of suno-api, and return them when they are written."""
    task = await hold(request, await _accepted(request, "lyrics", await request.fields()), _MAX_WAIT)
    document = lyrics_document(task)
    if task.state is State.SUCCEEDED:
        document["text"] = next(iter(texts(task)), "")
    return shown(document)


async def api_limit(request: DoorRequest) -> Response:
    """Return the credit of the first upstream that serves Suno and tells it."""
    credit = await credit_of(request, "suno", "music")
    return shown({"credits_left": credit, "period": None, "monthly_limit": 0, "monthly_usage": 0})


def _slashes(method: str, path: str, handler: Any, **more: Any) -> tuple[DoorRoute, ...]:
    """Return a route with and without a slash at its end: clients have both."""
    return tuple(DoorRoute(method=method, path=f"{path}{end}", handler=handler, **more) for end in ("", "/"))


DOOR: Final = Door(
    name="suno",
    prefixes=("/suno",),
    routes=(
        *_slashes("POST", "/submit/{action}", submit),
        *_slashes("POST", "/fetch", fetch_many, scope=Scope.READ),
        *_slashes("GET", "/fetch/{id}", fetch, scope=Scope.READ),
        *_slashes("POST", "/generate", generate),
        *_slashes("POST", "/generate/description-mode", generate),
        *_slashes("POST", "/generate/lyrics", generate_lyrics),
        *_slashes("GET", "/feed/{ids}", feed, scope=Scope.READ),
        *_slashes("GET", "/lyrics/{id}", lyrics, scope=Scope.READ),
        DoorRoute(method="POST", path="/api/generate", handler=api_generate),
        DoorRoute(method="POST", path="/api/custom_generate", handler=api_generate),
        DoorRoute(method="POST", path="/api/generate_lyrics", handler=api_lyrics),
        DoorRoute(method="GET", path="/api/get", handler=api_get, scope=Scope.READ),
        DoorRoute(method="GET", path="/api/clip", handler=api_get, scope=Scope.READ),
        DoorRoute(method="GET", path="/api/get_limit", handler=api_limit, scope=Scope.READ),
    ),
    write_error=error_document,
)
