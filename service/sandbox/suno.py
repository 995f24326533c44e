"""Suno at a gateway (`/suno/*`, the protocol of Suno-API), and at sunoapi.org and kie.ai (`/api/v1/*`)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.sandbox.desk import Answer, Creation, Desk, Provider, Serve, read_object
from service.sandbox.gateway import FAILURE, GATEWAY, MODERATED, task_error
from service.sandbox.jobs import Job, Order, State

SUNO: Final = replace(GATEWAY, account="suno")
DIALECTS: Final = ("suno/newapi", "suno/sunoapi")
STARTS: Final = ("/suno/", "/api/v1/")
"""Every path starts with one of these."""

# The words of Suno-API's tasks, and of a clip that is as far as its task.
WORDS: Final[dict[State, str]] = {
    "queued": "NOT_START",
    "running": "IN_PROGRESS",
    "failed": "FAILURE",
    "succeeded": "SUCCESS",
}
CLIP_WORDS: Final[dict[State, str]] = {
    "queued": "submitted",
    "running": "streaming",
    "failed": "error",
    "succeeded": "complete",
}

# route below /suno → one of the fields that it needs
_NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "submit/music": ("gpt_description_prompt", "prompt", "tags", "continue_clip_id", "cover_clip_id"),
    "submit/lyrics": ("prompt",),
    "submit/concat": ("clip_id",),
    "uploads/audio-url": ("url",),
    "persona/create": ("root_clip_id",),
    "act/tags": ("original_tags",),
}
_CLIP_FIELDS: Final = ("continue_clip_id", "cover_clip_id", "artist_clip_id", "clip_id", "root_clip_id", "audioId")
_ALONE: Final = ("submit/concat", "uploads/audio-url")  # they make one clip; a song has two
_STEMS: Final = 12
_POINTS: Final = 10
_FIRST_READY: Final = 0.5  # of the work, when the first clip is finished
_CONVERSION: Final = 0.2  # of a job's usual time: what a WAV or a video takes from the first question on
_NOT_READY: Final = {"code": 1102, "message": "Please wait for the creation to finish before downloading."}
_CREDITS: Final = 1000


def routes(desk: Desk) -> list[Route]:
    """Return the routes of both protocols."""

    async def one(request: Request) -> Response:
        return desk.poll(request.path_params["id"], SUNO, lambda _job: _enveloped)

    async def many(request: Request) -> Response:
        ids = (await read_object(request) or {}).get("ids")
        wanted = [str(job_id) for job_id in ids] if isinstance(ids, list) else []
        return desk.poll_many(wanted, SUNO, lambda _job: _row_if_any, wrap=_listed)

    async def vendor_one(request: Request) -> Response:
        return desk.poll(request.query_params.get("taskId", ""), VENDOR, lambda _job: _record)

    async def credit(_request: Request) -> Response:
        return _vendor(200, "success", _CREDITS - desk.ledger.spent(VENDOR.account)).response()

    return [
        *(desk.creation(SUNO, _creation(desk, path)) for path in _NEEDED),
        desk.route(SUNO, "POST", "/suno/fetch", many),
        desk.route(SUNO, "GET", "/suno/fetch/{id}", one),
        desk.route(SUNO, "GET", "/suno/act/wav/{clip}", _converting(desk, "wav")),
        desk.route(SUNO, "GET", "/suno/act/mp4/{clip}", _converting(desk, "mp4")),
        desk.route(SUNO, "GET", "/suno/act/timing/{clip}", _timing(desk)),
        *(desk.creation(VENDOR, _vendor_creation(desk, path)) for path in _VENDOR_NEEDED),
        desk.route(VENDOR, "GET", "/api/v1/generate/record-info", vendor_one),
        desk.route(VENDOR, "GET", "/api/v1/generate/credit", credit),
    ]


def _creation(desk: Desk, path: str) -> Creation:
    def read(_request: Request, document: Mapping[str, Any]) -> Order | Answer:
        if not any(document.get(name) for name in _NEEDED[path]):
            return task_error("invalid_request", "prompt_empty")
        if not _knows_clips(desk, document, SUNO):
            return task_error("task_not_exist", "task_origin_not_exist")
        return _order(document, document.get("notify_hook"))

    at_once = {"persona/create": _persona, "act/tags": _tags}
    taken = at_once.get(path, lambda job: {"code": "success", "message": "", "data": job.id})
    return Creation(f"/suno/{path}", read, taken=taken, callback=None if path in at_once else _called)


def _order(document: Mapping[str, Any], callback_url: object) -> Order:
    prompt = document.get("gpt_description_prompt") or document.get("prompt")
    return Order(
        document=document,
        prompt=prompt if isinstance(prompt, str) else "",
        points=_POINTS,
        media="audio",
        callback_url=callback_url if isinstance(callback_url, str) and callback_url else None,
    )


def _knows_clips(desk: Desk, document: Mapping[str, Any], provider: Provider) -> bool:
    """Return whether the sandbox made every clip that an order continues."""
    named = [str(document[name]) for name in _CLIP_FIELDS if document.get(name)]
    return all(_clip_of(desk, clip, provider) is not None for clip in named)


def _clip_of(desk: Desk, clip: str, provider: Provider) -> tuple[Job, int] | None:
    """Return the job that made a clip and the clip's number there, or None."""
    job_id, _, number = clip.rpartition("-")
    job = desk.ledger.find(job_id, provider.account)
    if job is None or not number.isdecimal() or not 0 < int(number) <= _count(job):
        return None
    return job, int(number)


def _count(job: Job) -> int:
    document = job.order.document
    if document.get("task") == "gen_stem":
        return _STEMS if document.get("stem_task") == "twelve" else 2
    return 1 if job.route.endswith(_ALONE) else 2


def clip_id(job: Job, number: int) -> str:
    """Return the id of a clip of a job, counted from 1."""
    return f"{job.id}-{number}"


def _failure(job: Job) -> str:
    return MODERATED if job.faults.moderate else FAILURE


def _clip_state(job: Job, number: int, state: State, at: float) -> State:
    """Return the progress of a clip. The first one finishes before the others, even if the job fails."""
    if number == 1 and state == "running" and job.life.progress_at(at) >= _FIRST_READY:
        return "succeeded"
    return "succeeded" if number == 1 and state == "failed" and job.faults.halffail else state


def _clip(job: Job, number: int, state: State, at: float) -> dict[str, Any]:
    """Return a clip. A streaming clip has a stream URL and no length; a video comes with its end."""
    state = _clip_state(job, number, state, at)
    done, document, name = state == "succeeded", job.order.document, clip_id(job, number)
    file = job.file(f"{number}.mp3") if done else ""
    stream = f"https://audiopipe.suno.ai/?item_id={name}" if state == "running" else ""
    pictured = state != "failed" and (not done or not job.faults.fade)
    return {
        "id": name,
        "title": document.get("title") or "Untitled",
        "status": CLIP_WORDS[state],
        "audio_url": file or stream,
        "video_url": job.file(f"{number}.mp4") if done is not job.faults.fade and state != "failed" else "",
        "image_url": job.file(f"{number}.png") if pictured else "",
        "image_large_url": job.file(f"{number}.large.png") if pictured else "",
        "model_name": document.get("mv"),
        "metadata": {
            "tags": document.get("tags"),
            "prompt": document.get("prompt"),
            "gpt_description_prompt": document.get("gpt_description_prompt"),
            "duration": 120.0 if done else None,
            "error_type": "generation_error" if state == "failed" else None,
            "error_message": _failure(job) if state == "failed" else None,
        },
    }


def row(job: Job, state: State, at: float) -> dict[str, Any]:
    """Return a job as Suno-API's task: times are whole seconds, 0 means not yet, and progress is 0% or 100%."""
    life, ended, lyrics = job.life, state in ("failed", "succeeded"), job.route.endswith("lyrics")
    clips = [_clip(job, number, state, at) for number in range(1, _count(job) + 1)]
    text = {"id": job.id, "text": f"[Verse]\n{job.prompt}", "title": "Untitled", "status": "complete"}
    words = text if state == "succeeded" else None
    return {
        "task_id": job.id,
        "notify_hook": job.callback_url or "",
        "action": "LYRICS" if lyrics else "MUSIC",
        "status": WORDS[state],
        "fail_reason": _failure(job) if state == "failed" and not job.faults.halffail else "",
        "submit_time": int(job.created_at),
        "start_time": int(life.started_at) if at >= life.started_at else 0,
        "finish_time": int(life.ended_at) if ended else 0,
        "progress": "100%" if ended else "0%",
        "data": words if lyrics else clips if state != "queued" else None,
    }


def _row_if_any(job: Job, state: State, at: float) -> dict[str, Any] | None:
    return None if job.faults.nodata and state in ("queued", "running") else row(job, state, at)


def _enveloped(job: Job, state: State, at: float) -> dict[str, Any]:
    return {"code": "success", "message": "", "data": _row_if_any(job, state, at)}


def _called(job: Job, state: State, at: float) -> dict[str, Any]:
    """Return a callback. No page documents its body: this is the answer to a fetch."""
    return {"code": "success", "message": "", "data": row(job, state, at)}


def _listed(rows: list[Any]) -> dict[str, Any]:
    """Return the known tasks in an envelope, or null."""
    known = [each for each in rows if each is not None]
    return {"code": "success", "message": "", "data": known or None}


def _persona(job: Job) -> dict[str, Any]:
    document = job.order.document
    clip = {"id": document["root_clip_id"], "status": "complete"}
    names = {name: document.get(name) for name in ("name", "description", "root_clip_id")}
    return {"id": job.id, **names, "clip": clip, "persona_clips": [{"clip": clip}]}


def _tags(job: Job) -> dict[str, Any]:
    return {"upsampled_tags": f"{job.order.document['original_tags']}, spelt out at length", "request_id": job.id}


def _converting(desk: Desk, ending: str) -> Serve:
    """Convert a clip: the first request starts the conversion, and later ones find the file."""
    begun: dict[str, float] = {}

    async def serve(request: Request) -> Response:
        clip = request.path_params["clip"]
        found = _clip_of(desk, clip, SUNO)
        if found is None:
            return task_error("invalid_request", "clip not found").response()
        job, number = found
        now = desk.clock()
        ready_at = begun.setdefault(clip, now) + desk.seconds * _CONVERSION
        if now < ready_at or now < job.life.ended_at:
            return Answer(200, _NOT_READY).response()
        url = job.file(f"{number}.{ending}")
        return Answer(200, {"code": "success", "data": {f"{ending}_url": url}}).response()

    return serve


def _timing(desk: Desk) -> Serve:
    async def serve(request: Request) -> Response:
        if _clip_of(desk, request.path_params["clip"], SUNO) is None:
            return task_error("invalid_request", "clip not found").response()
        sung = [{"word": "coo ", "success": True, "start_s": 8.38, "end_s": 8.78, "p_align": 0.98}]
        return Answer(200, {"aligned_words": sung, "waveform_data": [0.001, 0.042], "hoot_cer": 0.03}).response()

    return serve


# sunoapi.org and kie.ai

_VENDOR_NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "generate": ("prompt", "style"),
    "generate/extend": ("audioId",),
}


def _said(code: int, message: str, data: Any = None) -> dict[str, Any]:
    """Return the body of an answer or a callback. Its code distinguishes success from failure."""
    return {"code": code, "msg": message, "data": data}


def _vendor(code: int, message: str, data: Any = None, status: int = 200) -> Answer:
    return Answer(status, _said(code, message, data))


VENDOR: Final = Provider(
    account="sunoapi",
    invalid=lambda why: _vendor(400, why),
    unauthorized=_vendor(401, "You do not have access permissions"),
    unknown=_vendor(200, "success"),
    errors={
        "refuse": _vendor(422, "The request parameters are not valid"),
        "refuse200": _vendor(422, "The request parameters are not valid"),
        "moderate": _vendor(400, "The prompt contains sensitive words"),
        "nocredit": _vendor(429, "The current credits are insufficient. Please top up."),
        "429": _vendor(430, "Your call frequency is too high. Please try again later."),
        "503": _vendor(455, "The service is being maintained"),
        "500": _vendor(500, "Server exception, please try again later", status=500),
    },
)


def _vendor_creation(desk: Desk, path: str) -> Creation:
    def read(_request: Request, document: Mapping[str, Any]) -> Order | Answer:
        if path == "generate" and document.get("instrumental") is None:
            return _vendor(400, "instrumental cannot be null")
        if not document.get("callBackUrl"):
            return _vendor(400, "Please enter callBackUrl.")
        if not any(document.get(name) for name in _VENDOR_NEEDED[path]):
            return _vendor(400, f"{_VENDOR_NEEDED[path][0]} cannot be empty")
        if not _knows_clips(desk, document, VENDOR):
            return _vendor(404, "The audio does not exist")
        return _order(document, document["callBackUrl"])

    return Creation(
        f"/api/v1/{path}",
        read,
        taken=lambda job: _said(200, "success", {"taskId": job.id}),
        callback=_stage,
        stages=(_FIRST_READY,),
    )


def _tracks(job: Job, state: State, at: float) -> list[dict[str, Any]]:
    """Return the tracks that exist, with the file of each finished one; keys in snake_case."""
    far = {number: _clip_state(job, number, state, at) for number in (1, 2)}
    if "succeeded" not in far.values():
        return []
    return [
        {
            "id": clip_id(job, number),
            "audio_url": job.file(f"{number}.mp3") if clip_state == "succeeded" else "",
            "stream_audio_url": job.file(f"{number}.stream"),
            "image_url": job.file(f"{number}.png"),
            "title": job.order.document.get("title") or "Untitled",
            "duration": 120.0 if clip_state == "succeeded" else None,
        }
        for number, clip_state in far.items()
        if clip_state != "failed"
    ]


def _stage(job: Job, state: State, at: float) -> dict[str, Any]:
    """Return a callback: the lyrics, the first track, all tracks, or a failure."""
    tracks = _tracks(job, state, at)
    if state == "failed":
        data = {"callbackType": "error", "task_id": job.id, "data": None}
        return _said(400 if job.faults.moderate else 501, _failure(job), data)
    kind = "complete" if state == "succeeded" else "first" if tracks else "text"
    return _said(200, f"{kind} generated", {"callbackType": kind, "task_id": job.id, "data": tracks})


def _record(job: Job, state: State, at: float) -> dict[str, Any]:
    """Return a job as a record with keys in camelCase; the record may be missing at first."""
    if job.faults.nodata and state in ("queued", "running"):
        return _said(200, "success")
    tracks, failed = _tracks(job, state, at), state == "failed"
    words: dict[State, str] = {
        "queued": "PENDING",
        "running": "FIRST_SUCCESS" if tracks else "TEXT_SUCCESS",
        "failed": "SENSITIVE_WORD_ERROR" if job.faults.moderate else "GENERATE_AUDIO_FAILED",
        "succeeded": "SUCCESS",
    }
    return _said(
        200,
        "success",
        {
            "taskId": job.id,
            "parentMusicId": job.order.document.get("audioId") or "",
            "response": {"taskId": job.id, "sunoData": [_camel(track) for track in tracks]} if tracks else {},
            "status": words[state],
            "type": "GENERATE",
            "errorCode": 501 if failed and not job.faults.moderate else None,
            "errorMessage": _failure(job) if failed else None,
        },
    )


def _camel(track: Mapping[str, Any]) -> dict[str, Any]:
    words = {name: name.split("_") for name in track}
    return {head + "".join(map(str.capitalize, rest)): track[name] for name, (head, *rest) in words.items()}
