"""Midjourney at a gateway (`/mj/*`): polls show new-api's copy of a task, callbacks are the engine's own words."""

import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.sandbox.desk import Answer, Creation, Desk, Provider, read_object
from service.sandbox.gateway import relay_error
from service.sandbox.jobs import Job, Media, Order, State

ACCOUNT: Final = "midjourney"
DIALECTS: Final = ("midjourney/proxy",)
MODES: Final = ("", "/mj-fast", "/mj-turbo", "/mj-relax")
STARTS: Final = ("/mj",)
"""Every path starts with one of these."""

WORDS: Final[dict[State, str]] = {
    "queued": "SUBMITTED",
    "running": "IN_PROGRESS",
    "failed": "FAILURE",
    "succeeded": "SUCCESS",
}

# route below /submit → (action, its further fields in new-api's terms, points)
_DRAWINGS: Final[dict[str, tuple[str, dict[str, str], int]]] = {
    "imagine": ("IMAGINE", {"prompt": "prompt_is_required"}, 10),
    "blend": ("BLEND", {"base64Array": "base64Array_is_required"}, 10),
    "describe": ("DESCRIBE", {"base64|link": "base64_is_required"}, 5),
    "shorten": ("SHORTEN", {"prompt": "prompt_is_required"}, 5),
    "edits": ("EDITS", {"prompt": "prompt_is_required", "image": "image_is_required"}, 10),
    "video": ("VIDEO", {"image|prompt|taskId": "image_is_required"}, 40),
}
_CHANGES: Final = {"U": "UPSCALE", "V": "VARIATION", "R": "REROLL"}

# The buttons for which new-api has a price. Others are refused, although the engine shows them.
_BUTTONS: Final[dict[str, str]] = {
    "MJ::JOB::upsample": "UPSCALE",
    "MJ::JOB::variation": "VARIATION",
    "MJ::JOB::reroll": "REROLL",
    "MJ::JOB::low_variation": "LOW_VARIATION",
    "MJ::JOB::high_variation": "HIGH_VARIATION",
    "MJ::JOB::pan_": "PAN",
    "MJ::Inpaint": "INPAINT",
    "MJ::Outpaint": "ZOOM",
    "MJ::CustomZoom": "CUSTOM_ZOOM",
}
_WITH_WINDOW: Final = {"INPAINT": "maskBase64", "CUSTOM_ZOOM": "prompt"}  # and the fields that it needs
_OF_FOUR: Final = (
    *((f"MJ::JOB::upsample::{number}::{{}}", f"U{number}", "") for number in range(1, 5)),
    ("MJ::JOB::reroll::0::{}::SOLO", "", "🔄"),
    *((f"MJ::JOB::variation::{number}::{{}}", f"V{number}", "") for number in range(1, 5)),
)
_OF_ONE: Final = (
    ("MJ::JOB::upsample_v6_2x_subtle::1::{}::SOLO", "Upscale (Subtle)", ""),
    ("MJ::JOB::upsample_v6_2x_creative::1::{}::SOLO", "Upscale (Creative)", ""),
    ("MJ::JOB::low_variation::1::{}::SOLO", "Vary (Subtle)", "🪄"),
    ("MJ::JOB::high_variation::1::{}::SOLO", "Vary (Strong)", "🪄"),
    ("MJ::Inpaint::1::{}::SOLO", "Vary (Region)", "🖌️"),
    ("MJ::Outpaint::50::1::{}::SOLO", "Zoom Out 2x", "🔍"),
    ("MJ::CustomZoom::{}", "Custom Zoom", "🔍"),
    ("MJ::JOB::pan_left::1::{}::SOLO", "", "⬅️"),
    ("MJ::JOB::pan_right::1::{}::SOLO", "", "➡️"),
    ("MJ::BOOKMARK::{}", "", "❤️"),
)


def _refused(description: str, status: int = 400, code: int = 4) -> Answer:
    """Return a refusal of new-api's Midjourney relay, with the space at the end."""
    return Answer(status, {"description": f"{description} ", "type": "upstream_error", "code": code})


def _said(code: int, description: str, result: Any = None, **properties: Any) -> Answer:
    """Return an answer as an engine sends it: always HTTP 200."""
    document = {"code": code, "description": description, "result": result, "properties": properties}
    return Answer(200, document)


MIDJOURNEY: Final = Provider(
    account=ACCOUNT,
    invalid=_refused,
    unauthorized=relay_error(401, "Invalid Token"),
    unknown=_refused("task_no_found"),
    unknown200=_refused("task_no_found", 200),
    errors={
        "refuse": _refused("bind_request_body_failed"),
        "refuse200": _said(4, "参数错误"),
        "moderate": _said(24, "可能包含敏感词", promptEn="…", bannedWord="…"),
        "nocredit": _refused("quota_not_enough"),
        "429": Answer(429, _refused("当前分组负载已饱和，请稍后再试", code=30).document, {"Retry-After": "1"}),
        "503": relay_error(503, "当前分组 default 下对于模型 mj_imagine 无可用渠道", "model_not_found"),
        # The gateway got a page from its engine; whether that has the job cannot be told from this.
        "500": _refused("readObjectStart: expect { or n, but found <", 500),
    },
    new_id=lambda: str(uuid.uuid4().int)[:16],
)

Read = Callable[[Mapping[str, Any]], Order | Answer]


def routes(desk: Desk) -> list[Route]:
    """Return the routes; those that create exist once for every speed mode."""
    reads: dict[str, Read] = {f"/mj/submit/{name}": _drawing(name) for name in _DRAWINGS}
    reads |= {
        "/mj/submit/action": lambda document: _action(desk, document),
        "/mj/submit/change": lambda document: _change(desk, document),
        "/mj/submit/simple-change": lambda document: _simple_change(desk, document),
        "/mj/submit/modal": lambda document: _modal(desk, document),
        "/mj/submit/upload-discord-images": _upload,
        "/mj/insight-face/swap": _swap,
    }

    async def fetch(request: Request) -> Response:
        return desk.poll(request.path_params["id"], MIDJOURNEY, lambda _job: copy)

    async def fetch_many(request: Request) -> Response:
        ids = (await read_object(request) or {}).get("ids")
        wanted = [str(job_id) for job_id in ids] if isinstance(ids, list) else []
        return desk.poll_many(wanted, MIDJOURNEY, lambda _job: copy)

    async def seed(request: Request) -> Response:
        job = desk.ledger.find(request.path_params["id"], ACCOUNT)
        answer = MIDJOURNEY.unknown if job is None else _said(1, "成功", str(uuid.UUID(_uuid(job)).int % 10**9))
        return answer.response()

    async def image(request: Request) -> Response:
        job = desk.ledger.find(request.path_params["id"], ACCOUNT)
        if job is None:
            return Answer(400, {"error": "midjourney_task_not_found"}).response()
        return Response(status_code=302, headers={"Location": job.file_url})

    return [
        *(desk.creation(MIDJOURNEY, _creation(mode + path, read)) for path, read in reads.items() for mode in MODES),
        desk.route(MIDJOURNEY, "GET", "/mj/task/{id}/fetch", fetch),
        desk.route(MIDJOURNEY, "POST", "/mj/task/list-by-condition", fetch_many),
        desk.route(MIDJOURNEY, "GET", "/mj/task/{id}/image-seed", seed),
        Route("/mj/image/{id}", image),
    ]


def _creation(path: str, read: Read) -> Creation:
    taken = _uploaded if path.endswith("upload-discord-images") else _taken
    return Creation(path, lambda _request, document: read(document), taken=taken, callback=engine, has_modal=True)


# Orders


def _drawing(name: str) -> Read:
    action, needed, points = _DRAWINGS[name]

    def read(document: Mapping[str, Any]) -> Order | Answer:
        for names, complaint in needed.items():
            if not any(document.get(each) for each in names.split("|")):
                return _refused(complaint)
        return _order(document, action, _text(document, "prompt"), points, "video" if action == "VIDEO" else "image")

    return read


def _order(document: Mapping[str, Any], action: str, prompt: str, points: int = 10, media: Media = "image") -> Order:
    return Order(
        document={**document, "action": action},
        prompt=prompt,
        points=points,
        media=media,
        callback_url=_text(document, "notifyHook") or None,
        awaits_input=action in _WITH_WINDOW,
    )


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else ""


def _parent(desk: Desk, job_id: str) -> Job | Answer:
    """Return the parent task. It must be finished in the gateway's copy, which may be late."""
    job = desk.ledger.find(job_id, ACCOUNT)
    if job is None:
        return _refused("task_not_found")
    at = desk.clock() - (job.faults.lag or 0)
    return job if _status(job, job.state_at(at), at) == WORDS["succeeded"] else _refused("task_status_not_success")


def _action(desk: Desk, document: Mapping[str, Any]) -> Order | Answer:
    custom_id = _text(document, "customId")
    if not custom_id:
        return _refused("custom_id_is_required")
    action = next((action for prefix, action in _BUTTONS.items() if custom_id.startswith(prefix)), None)
    if action is None:
        return relay_error(400, f"unknown_action:{custom_id}")
    parent = _parent(desk, _text(document, "taskId"))
    if isinstance(parent, Answer):
        return parent
    if custom_id not in {button["customId"] for button in _buttons(parent)}:
        return _said(4, "the task has no such button")
    return _order(document, action, parent.prompt)


def _change(desk: Desk, document: Mapping[str, Any]) -> Order | Answer:
    if not document.get("index"):
        return _refused("index_is_required")
    if document.get("action") not in _CHANGES.values():
        return _said(4, "action参数错误")
    parent = _parent(desk, _text(document, "taskId"))
    return parent if isinstance(parent, Answer) else _order(document, str(document["action"]), parent.prompt)


def _simple_change(desk: Desk, document: Mapping[str, Any]) -> Order | Answer:
    said = re.fullmatch(r"(\S+) ([UV][1-4]|R)", _text(document, "content"))
    if said is None:
        return _said(4, "content参数错误")
    parent = _parent(desk, said[1])
    return parent if isinstance(parent, Answer) else _order(document, _CHANGES[said[2][0]], parent.prompt)


def _modal(desk: Desk, document: Mapping[str, Any]) -> Order | Answer:
    job = desk.ledger.find(_text(document, "taskId"), ACCOUNT)
    if job is None:
        return _said(3, "关联任务不存在或已失效")
    if not job.awaits_input:
        return _said(4, "the task waits for nothing")
    wanted = _WITH_WINDOW.get(str(job.order.document["action"]), "prompt")
    if not document.get(wanted):
        return _said(4, f"{wanted}不能为空")
    return Order(document=document, prompt=_text(document, "prompt"), points=0, resumes=job.id)


def _upload(document: Mapping[str, Any]) -> Order | Answer:
    images = document.get("base64Array")
    return _order(document, "UPLOAD", "", 1) if isinstance(images, list) and images else _refused("base64_is_required")


def _swap(document: Mapping[str, Any]) -> Order | Answer:
    whole = all(document.get(f"{side}Base64") or document.get(f"{side}Url") for side in ("source", "target"))
    return _order(document, "SWAP_FACE", "") if whole else _refused("sour_base64_and_target_base64_is_required")


# Answers


def _taken(job: Job) -> dict[str, Any]:
    """Return the answer to a job that was taken. new-api hides that it waits in a window, but for the buttons that always open one."""
    if job.awaits_input and not job.faults.hidemodal:
        document = _said(21, "Waiting for window confirm", job.id, finalPrompt="", remix=True).document
    else:
        document = _said(1, "提交成功", job.id, discordInstanceId="sandbox").document
    return dict(document)


def _uploaded(job: Job) -> dict[str, Any]:
    count = len(job.order.document["base64Array"])
    return dict(_said(1, "success", [job.file(f"{number}.png") for number in range(count)]).document)


def copy(job: Job, state: State, at: float) -> dict[str, Any]:
    """Return a job as new-api's copy: unset times are 0, unset texts empty, pictures go through the gateway."""
    status = _status(job, state, at)
    picture = f"{job.base_url}/mj/image/{job.id}"
    pictures = {"SUCCESS": picture, "IN_PROGRESS": f"{picture}?rand={int(at * 1e9)}"}
    text = _finished_text(job) if status == "SUCCESS" else None
    return {
        "id": job.id,
        "action": _action_of(job),
        "customId": _text(job.order.document, "customId"),
        "botType": _text(job.order.document, "botType"),
        "prompt": job.prompt,
        "promptEn": job.prompt if status else "",
        "description": "提交成功",
        "state": _text(job.order.document, "state"),
        **_times(job, at, unset=0),
        "imageUrl": "" if _action_of(job) == "SHORTEN" else pictures.get(status, ""),
        "videoUrl": "",
        "videoUrls": _videos(job) if status == "SUCCESS" else None,
        "status": status,
        "progress": "100%" if status == "FAILURE" else _progress(job, status, at),
        "failReason": _reason(job) if status == "FAILURE" else "",
        "buttons": _buttons(job) if status == "SUCCESS" else None,
        "maskBase64": "",
        "properties": None if text is None else {"finalPrompt": text, "finalZhPrompt": ""},
    }


def engine(job: Job, state: State, at: float) -> dict[str, Any]:
    """Return a job as the engine's task object, the body of a callback: nulls, the engine's URLs, the hook echoed."""
    status = _status(job, state, at)
    pictures = {"SUCCESS": job.file("png"), "IN_PROGRESS": job.file("grid_0.png")}
    text = _finished_text(job) if status == "SUCCESS" else None
    return {
        "id": job.id,
        "properties": {
            "notifyHook": job.callback_url,
            "flags": 0,
            "finalPrompt": text or job.prompt,
            "discordInstanceId": "sandbox",
        },
        "action": _action_of(job),
        "status": status,
        "prompt": text or job.prompt,
        "promptEn": text or job.prompt,
        "description": f"/{_action_of(job).lower()} {job.prompt}",
        "state": job.order.document.get("state"),
        **_times(job, at, unset=None),
        "imageUrl": None if _action_of(job) == "SHORTEN" else pictures.get(status),
        "videoUrls": _videos(job) if status == "SUCCESS" else None,
        "progress": "" if status == "FAILURE" else _progress(job, status, at),
        "failReason": _reason(job) if status == "FAILURE" else None,
        "buttons": _buttons(job) if status == "SUCCESS" else [],
    }


def _status(job: Job, state: State, at: float) -> str:
    """Return the status of a job at a moment: empty before the gateway's copy has one."""
    if at < job.created_at:
        return ""
    if job.awaits_input or (job.answered_at is not None and at < job.answered_at):
        return "MODAL"
    return WORDS[state]


def _times(job: Job, at: float, unset: int | None) -> dict[str, int | None]:
    moments = {"startTime": job.life.started_at, "finishTime": job.life.ended_at}
    told = {name: int(moment * 1000) if at >= moment else unset for name, moment in moments.items()}
    return {"submitTime": int(job.created_at * 1000), **told}


def _progress(job: Job, status: str, at: float) -> str:
    if status == "SUCCESS":
        return "100%"
    return f"{int(job.life.progress_at(at) * 100)}%" if status == "IN_PROGRESS" else "0%"


def _reason(job: Job) -> str:
    """Return why a job failed, in brackets like Discord's titles."""
    if job.faults.moderate:
        return "[Banned prompt detected] the prompt is against the rules"
    return "[Internal Server Error] something went wrong"


def _action_of(job: Job) -> str:
    return str(job.order.document["action"])


def _finished_text(job: Job) -> str | None:
    if _action_of(job) not in {"DESCRIBE", "SHORTEN"}:
        return None
    return "\n\n".join(f"{number}️⃣ a picture, in words" for number in range(1, 5))


def _videos(job: Job) -> list[dict[str, str]] | None:
    if _action_of(job) != "VIDEO":
        return None
    count = job.order.document.get("batchSize", 4)
    return [{"url": job.file(f"{number}.mp4"), "thumbnail": job.file(f"{number}.png")} for number in range(count)]


def _uuid(job: Job) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, job.id))


def _buttons(job: Job) -> list[dict[str, Any]]:
    """Return the buttons of a finished job: those of one picture differ from those of four."""
    if _action_of(job) in {"DESCRIBE", "SHORTEN", "VIDEO", "SWAP_FACE", "UPLOAD"}:
        return []
    shown = _OF_ONE if _action_of(job) == "UPSCALE" else _OF_FOUR
    return [
        {"customId": custom_id.format(_uuid(job)), "emoji": emoji, "label": label, "type": 2, "style": 2}
        for custom_id, label, emoji in shown
    ]
