"""midjourney-proxy's API, as its bots, chatgpt-web-midjourney-proxy and new-api speak it: a bare host as the base URL."""

import re
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.errors import UpstreamError
from service.domain.task import State, Task
from service.domain.validation import Invalid
from service.domain.webhook_events import TYPES
from service.flows.submission.input import NotAwaited, send_input
from service.flows.webhooks.formats.midjourney_proxy import STATE_LABEL, task_document
from service.flows.webhooks.formats.shapes import outputs, reason_of, texts
from service.web.facades.body import Fields, is_one_of
from service.web.facades.door import Door, DoorRequest, DoorRoute, refused, shown
from service.web.facades.media import media_response
from service.web.facades.outcome import hold, succeeded
from service.web.problems import Problem
from service.web.waiting import wait_for_end

_SAME: Final[Mapping[str, Mapping[str, str]]] = {
    "imagine": {"prompt": "prompt", "base64Array": "images"},
    "blend": {"base64Array": "images"},
    "describe": {"base64": "image", "link": "image"},
    "shorten": {"prompt": "prompt"},
    "edits": {"prompt": "prompt", "image": "image", "maskBase64": "mask"},
    "video": {"prompt": "prompt", "image": "image", "endImage": "last_image", "motion": "motion", "loop": "loop", "batchSize": "count"},
    "upload": {"base64Array": "images"},
    "face_swap": {"sourceBase64": "image", "sourceUrl": "image", "targetBase64": "target_image", "targetUrl": "target_image"},
    "action": {"customId": "action"},
    "change": {},
    "simple_change": {},
}  # fmt: skip
"""Our names of the fields of each operation, where the value is the same."""
_OPERATIONS: Final = {
    "/submit/imagine": "imagine",
    "/submit/blend": "blend",
    "/submit/describe": "describe",
    "/submit/shorten": "shorten",
    "/submit/edits": "edits",
    "/submit/edit": "edits",
    "/submit/video": "video",
    "/submit/action": "action",
    "/submit/change": "change",
    "/submit/simple-change": "simple_change",
    "/insight-face/swap": "face_swap",
}
_MEDIA: Final = frozenset({"image", "last_image", "target_image", "mask"})
_BOTS: Final = {"MID_JOURNEY": "midjourney", "NIJI_JOURNEY": "niji"}
_SHAPES: Final = {"PORTRAIT": "2:3", "SQUARE": "1:1", "LANDSCAPE": "3:2"}
_SPEEDS: Final = frozenset({"fast", "turbo", "relax"})
_RESOLUTION: Final = re.compile(r"_(480|720)$")
_SHORTHAND: Final = re.compile(r"\s*(\S+)\s+([UVuv][1-4]|[Rr])\s*")
_BARE_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_WITH_WINDOW: Final = ("MJ::Inpaint", "MJ::CustomZoom")
"""The buttons that open a window: the job waits for a prompt or a mask."""
_MAX_STATE: Final = 255
_MAX_IDS: Final = 500
_MAX_SEEDS: Final = 10
"""How often a seed is asked for in all, where asking fails."""
_WINDOW_SECONDS: Final = 60.0
"""Seconds for which the input of a window waits until the provider's job asks for it."""
_SUBMITTED, _WINDOW, _GONE, _INVALID, _UNKNOWN, _FAILED, _FULL, _BANNED = 1, 21, 3, 4, 5, 9, 23, 24
"""The codes of answers."""
_CODES: Final[Mapping[str, int]] = {
    "not_found": _GONE,
    "content_policy": _BANNED,
    "budget_exceeded": _INVALID,
    "overloaded": _FULL,
    "rate_limited": _FULL,
    "unavailable": _UNKNOWN,
    "internal_error": _FAILED,
    "provider_timeout": _FAILED,
    "upstream_unavailable": _FAILED,
}
_NAMES: Final = {
    "images": "base64Array",
    "image": "base64",
    "mask": "maskBase64",
    "action": "customId",
    "parent_id": "taskId",
    "callback_url": "notifyHook",
}
"""Their names of our fields, for errors."""


def request_of(operation: str, said: Fields, *, speed: str | None, parent: Task | None = None) -> dict[str, Any]:
    """Return our request of a submit.

    :param speed: the mode that the path names
    :param parent: the task that a follow-up continues
    """
    given: dict[str, Any] = {}
    for theirs, ours in _SAME[operation].items():
        value = said.get(theirs)
        if value not in (None, "", []):
            given[ours] = _media(value) if ours in _MEDIA else value
    if "images" in given and isinstance(given["images"], list):
        given["images"] = [_media(each) for each in given["images"]]
    given |= _further(operation, said, parent)
    if (
        is_one_of(said.get("botType"), _BOTS)
        and parent is None
        and operation in {"imagine", "blend", "describe", "shorten"}
    ):
        given["bot"] = _BOTS[said["botType"]]
    if (mode := speed or _mode_of(said)) is not None:
        given["speed"] = mode
    asked: dict[str, Any] = {"family": "midjourney", "operation": operation, "input": given}
    if parent is not None:
        asked["parent_id"] = str(parent.id)
    if said.get("notifyHook"):
        told = {"callback_url": said["notifyHook"], "callback_format": "midjourney-proxy"}
        asked |= told | {"callback_events": [name for name in TYPES if name in _TOLD]}
    if isinstance(said.get("state"), str) and said["state"]:
        asked["labels"] = {STATE_LABEL: said["state"][:_MAX_STATE]}
    return asked


_TOLD: Final = frozenset({"task.progress", "task.late_result", *(f"task.{state}" for state in State)})
"""The types of messages that ``notifyHook`` gets: each change of the status or the progress."""


def _further(operation: str, said: Fields, parent: Task | None) -> dict[str, Any]:
    """Return the fields of an operation whose values have another form here."""
    found: dict[str, Any] = {}
    match operation:
        case "blend" if is_one_of(said.get("dimensions"), _SHAPES):
            found["aspect_ratio"] = _SHAPES[said["dimensions"]]
        case "change":
            found["change"] = str(said.get("action", "")).lower()
            if found["change"] != "reroll":
                found["index"] = said.get("index")
        case "simple_change":
            found["shorthand"] = (_SHORTHAND.fullmatch(str(said.get("content", ""))) or ["", "", ""])[2].upper()
        case "video":
            kind = _RESOLUTION.search(str(said.get("videoType", "")))
            if kind is not None:
                found["resolution"] = f"{kind[1]}p"
            if parent is not None and isinstance(said.get("index"), int):
                found["index"] = said["index"] + 1
    return {name: value for name, value in found.items() if value is not None}


def _media(value: Any) -> Any:
    """Return a medium as a URL: bare base64 as a ``data:`` URL of a picture."""
    if isinstance(value, str) and _BARE_BASE64.fullmatch(value[:4096].rstrip()) and not value.startswith("http"):
        return f"data:image/png;base64,{value}"
    return value


def _mode_of(said: Fields) -> str | None:
    """Return the first mode of the account filter, or of the body."""
    chosen = said.get("accountFilter")
    modes = chosen.get("modes") if isinstance(chosen, dict) else None
    named = modes[0] if isinstance(modes, list) and modes else said.get("mode")
    return named.lower() if isinstance(named, str) and named.lower() in _SPEEDS else None


def answer_document(code: int, description: str, result: Any = None, **properties: Any) -> dict[str, Any]:
    """Return an answer to a submit."""
    return {"code": code, "description": description, "result": result, "properties": properties}


def error_document(problem: Problem) -> dict[str, Any]:
    """Return an error as an engine writes it."""
    code = _CODES.get(problem.code, _INVALID)
    detail = problem.detail
    if problem.mistakes:
        detail = "; ".join(f"{_NAMES.get(each.path, each.path)}: {each.message}" for each in problem.mistakes)
    return {"code": code, "description": detail, "result": None, "properties": {}, "type": "dovecote_error"}


async def submit(request: DoorRequest) -> Response:
    """Accept a task."""
    operation = _OPERATIONS[request.route.path]
    said = await request.fields()
    parent = await _parent(request, operation, said)
    accepted = await request.accept(request_of(operation, said, speed=_speed(request), parent=parent), said)
    task = accepted.task
    if operation == "action" and str(said.get("customId", "")).startswith(_WITH_WINDOW):
        prompt = "" if parent is None else str(parent.input.get("prompt") or "")
        return shown(
            answer_document(_WINDOW, "Waiting for window confirm", task.id.hex, finalPrompt=prompt, remix=True)
        )
    return shown(answer_document(_SUBMITTED, "Submit success", task.id.hex))


def _speed(request: DoorRequest) -> str | None:
    mode = request.prefix.split("/")[1].removeprefix("mj-")
    return mode if mode in _SPEEDS else None


async def _parent(request: DoorRequest, operation: str, said: Fields) -> Task | None:
    """Return the task that a follow-up continues; None where the operation is none."""
    named = said.get("taskId")
    if operation == "simple_change":
        found = _SHORTHAND.fullmatch(str(said.get("content", "")))
        if found is None:
            raise Problem(400, "invalid_request", 'content: write the id and the change, such as "<id> U1"')
        named = found[1]
    elif operation not in {"action", "change"} and not (operation == "video" and named):
        return None
    if not isinstance(named, str | int) or not str(named):
        raise Problem(400, "invalid_request", "taskId: is required")
    return await request.find(str(named))


async def confirm_window(request: DoorRequest) -> Response:
    """Send the prompt or the mask that a window asks for. It may come before the provider asks: then it waits."""
    said = await request.fields()
    task = await request.find(str(said.get("taskId") or ""))
    given = {ours: said[theirs] for theirs, ours in (("prompt", "prompt"), ("maskBase64", "mask")) if said.get(theirs)}
    if "mask" in given:
        given["mask"] = _media(given["mask"])
    task = await wait_for_end(request.context, task, _WINDOW_SECONDS, enough=_is_past_submission)
    if task.state is State.RUNNING or task.state is State.SUCCEEDED:
        return shown(answer_document(_SUBMITTED, "Submit success", task.id.hex))  # it never asked, or it is answered
    try:
        await send_input(request.context, task, given)
    except NotAwaited as error:
        raise Problem(400, "invalid_request", reason_of(task) or str(error)) from None
    except Invalid as error:
        raise refused(error.mistakes, 400) from None
    except UpstreamError as error:
        raise Problem(502, "overloaded", error.message or error.code) from None
    return shown(answer_document(_SUBMITTED, "Submit success", task.id.hex))


def _is_past_submission(task: Task) -> bool:
    return task.state.ended or task.state in {State.RUNNING, State.AWAITING_INPUT}


async def upload(request: DoorRequest) -> Response:
    """Put images at Midjourney's, and return their addresses."""
    said = await request.fields()
    accepted = await request.accept(request_of("upload", said, speed=_speed(request)), said)
    task = succeeded(await hold(request, accepted.task))
    return shown(answer_document(_SUBMITTED, "success", outputs(task)))


async def image_seed(request: DoorRequest) -> Response:
    """Return the seed of a task's picture. However often it is asked for, Dovecote asks once, and anew after a failure."""
    parent = await request.find(request.http.path_params["id"])
    asked = {"family": "midjourney", "operation": "image_seed", "parent_id": str(parent.id), "input": {}}
    for attempt in range(_MAX_SEEDS):
        key = f"midjourney-seed-{parent.id}-{attempt}"
        accepted = await request.accept_under(key, asked)
        if accepted.new or not accepted.task.state.ended or accepted.task.state is State.SUCCEEDED:
            break
    task = succeeded(await hold(request, accepted.task))
    return shown(answer_document(_SUBMITTED, "success", next(iter(texts(task)), None)))


async def fetch(request: DoorRequest) -> Response:
    """Return a task."""
    try:
        task = await request.find(request.http.path_params["id"])
    except Problem:
        return shown({"description": "task_no_found ", "type": "upstream_error", "code": _INVALID}, 400)
    return shown(task_document(await request.whole(task)))


async def fetch_many(request: DoorRequest) -> Response:
    """Return several tasks as a bare list; ids that no task of the client has are left out."""
    named = (await request.fields()).get("ids")
    if not isinstance(named, list) or len(named) > _MAX_IDS:
        raise Problem(400, "invalid_request", f"ids: give a list of at most {_MAX_IDS} ids")
    tasks = (await request.find_many(named)).values()
    return shown([task_document(task) for task in tasks])


async def image(request: DoorRequest) -> Response:
    """Return the picture of a task: its kept copy, or the way to the provider's."""
    task = await request.find(request.http.path_params["id"])
    url = task_document(task)["imageUrl"]
    if not url:
        raise Problem(404, "not_found", "the task has no picture")
    return await media_response(request, task, url)


_MODES: Final = ("/mj", *(f"/{start}{mode}/mj" for mode in sorted(_SPEEDS) for start in ("mj-", "")))
DOOR: Final = Door(
    name="midjourney",
    prefixes=_MODES,
    routes=(
        *(DoorRoute(method="POST", path=path, handler=submit) for path in _OPERATIONS),
        DoorRoute(method="POST", path="/submit/modal", handler=confirm_window),
        DoorRoute(method="POST", path="/submit/upload-discord-images", handler=upload),
        DoorRoute(method="GET", path="/task/{id}/fetch", handler=fetch, scope=Scope.READ),
        DoorRoute(method="POST", path="/task/list-by-condition", handler=fetch_many, scope=Scope.READ),
        DoorRoute(method="GET", path="/task/{id}/image-seed", handler=image_seed),
        DoorRoute(method="GET", path="/image/{id}", handler=image, scope=Scope.READ),
    ),
    write_error=error_document,
    ok_errors=True,
)
