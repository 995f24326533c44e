"""Runway's own API (`/v1/*`), as its documentation and its SDK 5.24 describe it: polling only, no callbacks."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.sandbox.desk import Answer, Creation, Desk, Provider, Serve
from service.sandbox.jobs import Job, Media, Order, State

ACCOUNT: Final = "runwayml"
VERSION: Final = "2024-11-06"

_DOCS: Final = "https://docs.dev.runwayml.com/api"
_CREDITS: Final = 100_000  # at the start
_PRICE: Final = 5  # credits a second of output; the sandbox's own price
_SECONDS: Final = 5  # of output, where an order does not say
_LONGEST_PROMPT: Final = 1000  # UTF-16 units

WORDS: Final[dict[State, str]] = {
    "queued": "PENDING",
    "running": "RUNNING",
    "succeeded": "SUCCEEDED",
    "failed": "FAILED",
    "cancelled": "CANCELLED",
}

# operation → (what it makes, fields that it needs); `a|b` is either, as SDK versions name it
OPERATIONS: Final[dict[str, tuple[Media, tuple[str, ...]]]] = {
    "text_to_video": ("video", ("model", "promptText", "ratio")),
    "image_to_video": ("video", ("model", "promptImage", "ratio")),
    "video_to_video": ("video", ("model", "videoUri")),
    "text_to_image": ("image", ("model", "promptText", "ratio")),
    "video_upscale": ("video", ("model", "videoUri")),
    "image_upscale": ("image", ("model", "imageUri")),
    "character_performance": ("video", ("model", "character", "reference")),
    "text_to_speech": ("audio", ("model", "promptText")),
    "sound_effect": ("audio", ("model", "promptText")),
    "speech_to_speech": ("audio", ("model", "media", "voice")),
    "voice_dubbing": ("audio", ("model", "audioUri", "targetLang")),
    "voice_isolation": ("audio", ("model", "audioUri|audioUrl")),
}
_ALSO_NEEDED: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("text_to_video", "gen4.5"): ("duration",),
    ("image_to_video", "gen4.5"): ("promptText", "duration"),
    ("text_to_image", "gen4_image_turbo"): ("referenceImages",),
    ("text_to_speech", "eleven_multilingual_v2"): ("voice",),
}


def _error(status: int, text: str, **more: Any) -> Answer:
    return Answer(status, {"error": text, **more})


def _invalid(issues: list[dict[str, Any]]) -> Answer:
    return _error(400, "Validation of body failed", issues=issues, docUrl=_DOCS)


def _issue(path: list[str], message: str, **more: Any) -> dict[str, Any]:
    return {"code": "custom", "message": message, "path": path} | more


RUNWAYML: Final = Provider(
    account=ACCOUNT,
    invalid=lambda why: _invalid([_issue([], why)]),
    unauthorized=_error(401, "The API key is missing or not valid."),
    unknown=_error(404, "Could not find Task"),
    errors={
        "refuse": _invalid([_issue(["promptText"], "Invalid input")]),
        "refuse200": _invalid([_issue(["promptText"], "Invalid input")]),
        "moderate": _invalid([_issue(["promptText"], "The text was flagged by content moderation")]),
        "nocredit": _error(400, "You do not have enough credits to run this task.", docUrl=_DOCS),
        "429": replace(_error(429, "Your daily task limit has been reached."), headers={"Retry-After": "1"}),
        "503": _error(503, "Service unavailable"),
        "500": _error(500, "An unexpected error occurred."),
    },
)


def routes(desk: Desk) -> list[Route]:
    """Make the routes of Runway's own API."""

    async def show(request: Request) -> Response:
        return desk.poll(request.path_params["id"], RUNWAYML, lambda _job: _priced_task)

    async def remove(request: Request) -> Response:
        return _remove(desk, request.path_params["id"])

    async def organization(_request: Request) -> Response:
        return Answer(200, _organization(desk)).response()

    others = [
        ("GET", "/v1/tasks/{id}", show),
        ("DELETE", "/v1/tasks/{id}", remove),
        ("GET", "/v1/organization", organization),
    ]
    return [
        *(desk.creation(RUNWAYML, _creation(operation)) for operation in OPERATIONS),
        *(desk.route(RUNWAYML, method, path, _versioned(serve)) for method, path, serve in others),
    ]


def wrong_version(request: Request) -> str | None:
    """Say what is wrong with the request's X-Runway-Version, if anything is."""
    version = request.headers.get("x-runway-version")
    return None if version == VERSION else f"The X-Runway-Version header must be {VERSION}, not {version}."


def _versioned(serve: Serve) -> Serve:
    async def checked(request: Request) -> Response:
        wrong = wrong_version(request)
        return await serve(request) if wrong is None else _error(400, wrong, docUrl=_DOCS).response()

    return checked


def _creation(operation: str) -> Creation:
    def read(request: Request, document: Mapping[str, Any]) -> Order | Answer:
        wrong = wrong_version(request)
        if wrong is not None:
            return _error(400, wrong, docUrl=_DOCS)
        issues = _issues(operation, document)
        return _invalid(issues) if issues else read_order(operation, document)

    return Creation(f"/v1/{operation}", read, taken=_taken)


def read_order(operation: str, document: Mapping[str, Any]) -> Order:
    """Read an order in Runway's own field names; its price is a number of credits."""
    duration = document.get("duration")
    seconds = duration if isinstance(duration, int) else _SECONDS
    prompt = document.get("promptText")
    return Order(
        document=document,
        prompt=prompt if isinstance(prompt, str) else "",
        points=_PRICE * seconds,
        media=OPERATIONS[operation][0],
    )


def missing(document: Mapping[str, Any], needed: tuple[str, ...]) -> list[str]:
    """List the needed fields that are absent or empty; `a|b` is there when either is."""
    return [names for names in needed if not any(document.get(name) for name in names.split("|"))]


def _issues(operation: str, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    needed = OPERATIONS[operation][1] + _ALSO_NEEDED.get((operation, str(document.get("model"))), ())
    issues = [_issue([names.split("|")[0]], "Required", code="invalid_type") for names in missing(document, needed)]
    prompt = document.get("promptText")
    if isinstance(prompt, str) and len(prompt.encode("utf-16-le")) // 2 > _LONGEST_PROMPT:
        text = f"Too big: expected string to have <={_LONGEST_PROMPT} characters"
        issues.append(_issue(["promptText"], text, code="too_big", maximum=_LONGEST_PROMPT, inclusive=True))
    return issues


def _taken(job: Job) -> dict[str, Any]:
    return {"id": job.id, "estimatedCost": {"credits": job.points}}


def task_object(job: Job, state: State, at: float) -> dict[str, Any]:
    """Show a job as Runway's task object, without costs (older captures, and gateways, have none)."""
    created = datetime.fromtimestamp(job.created_at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    task: dict[str, Any] = {"id": job.id, "status": WORDS[state], "createdAt": created}
    if state == "running":
        task["progress"] = round(job.life.progress_at(at), 2)
    if state == "succeeded":
        task["output"] = [job.file_url]
    if state == "failed":
        task["failure"], task["failureCode"] = failure(job)
    return task


def failure(job: Job) -> tuple[str, str]:
    """Say why a job failed: the text, and Runway's failureCode."""
    if job.faults.moderate:
        return "The prompt was flagged by content moderation.", "SAFETY.INPUT.TEXT"
    return "An unexpected error occurred.", "INTERNAL.BAD_OUTPUT.CODE01"


def _priced_task(job: Job, state: State, at: float) -> dict[str, Any]:
    task = task_object(job, state, at)
    if state in ("queued", "running"):
        return task | {"estimatedCost": {"credits": job.points}}
    # Input that is refused for its content is not refunded; other failures are.
    charged = state == "succeeded" or job.faults.moderate
    return task | {"cost": {"credits": job.points if charged else 0}}


def _remove(desk: Desk, job_id: str) -> Response:
    """Cancel a job that is not finished; delete one that is. Either way a poll finds nothing afterwards."""
    now = desk.clock()
    job = desk.ledger.find(job_id, ACCOUNT)
    if job is None or job.gone:
        return RUNWAYML.unknown.response()
    if now < job.life.ended_at:
        desk.ledger.put(replace(job, cancelled_at=now))
    else:
        desk.ledger.put(replace(job, deleted_at=now))
    return Response(status_code=204)


def _organization(desk: Desk) -> dict[str, Any]:
    models = Counter(str(job.order.document["model"]) for job in desk.ledger.jobs if job.account == ACCOUNT)
    limits = {model: {"maxConcurrentGenerations": 5, "maxDailyGenerations": 1000} for model in models}
    return {
        "creditBalance": _CREDITS - desk.ledger.spent(ACCOUNT),
        "tier": {"maxMonthlyCreditSpend": _CREDITS, "models": limits},
        "usage": {"models": {model: {"dailyGenerations": count} for model, count in models.items()}},
    }
