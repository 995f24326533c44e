"""ElkAPI's task API (`/v1/task/submit`, `/v1/task/{id}`): any model by one route, with RixAPI's errors."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.sandbox.desk import Answer, Creation, Desk, Provider
from service.sandbox.gateway import relay_error
from service.sandbox.jobs import Job, Media, Order, State

WORDS: Final[dict[State, str]] = {
    "queued": "queued",
    "running": "in_progress",
    "succeeded": "completed",
    "failed": "failed",
}
# What a model makes, by a word in the path that names it; anything else makes a video.
MAKES: Final[dict[str, Media]] = {"music": "audio", "image": "image"}

_POINTS: Final = 10
_PROMPTS: Final = ("prompt", "gpt_description_prompt")


def _error(status: int, message: str, code: str = "") -> Answer:
    """Word an error as RixAPI does, which words all of them alike."""
    return relay_error(status, message, code, "rix_api_error")


ELKAPI: Final = Provider(
    account="elk-task",
    invalid=lambda why: _error(400, why, "invalid_request"),
    unauthorized=_error(401, "Invalid Token"),
    unknown=_error(404, "task not found", "task_not_exist"),
    unknown200=_error(200, "task not found", "task_not_exist"),
    errors={
        "refuse": _error(400, "the provider does not take this input", "invalid_request"),
        "moderate": _error(400, "the prompt violates the content policy", "invalid_request"),
        "refuse200": _error(200, "invalid parameter", "invalid_request"),
        "nocredit": _error(403, "用户额度不足, 剩余额度: $0.000000", "insufficient_user_quota"),
        "429": Answer(429, _error(429, "too many requests").document, {"Retry-After": "1"}),
        "503": _error(503, "no channel for this model", "model_not_found"),
        "500": _error(500, "请求上游地址失败", "do_request_failed"),
    },
)


def routes(desk: Desk) -> list[Route]:
    async def task(request: Request) -> Response:
        return desk.poll(request.path_params["id"], ELKAPI, lambda _job: show)

    taken = Creation("/v1/task/submit", _read, taken=lambda job: show(job, "queued", job.created_at), callback=show)
    return [desk.creation(ELKAPI, taken), desk.route(ELKAPI, "GET", "/v1/task/{id}", task)]


def _read(_request: Request, document: Mapping[str, Any]) -> Order | Answer:
    model, given = document.get("model"), document.get("input")
    if not isinstance(model, str) or not model:
        return _error(400, "model is required", "invalid_request")
    if not isinstance(given, Mapping):
        return _error(500, "not implemented", "convert_request_failed")
    prompt = next((given[name] for name in _PROMPTS if isinstance(given.get(name), str)), "")
    url = document.get("callback_url")
    return Order(
        document=document,
        prompt=prompt,
        points=_POINTS,
        media=next((media for word, media in MAKES.items() if word in model), "video"),
        callback_url=url if isinstance(url, str) else None,
    )


def show(job: Job, state: State, at: float) -> dict[str, Any]:
    """Show a job: the answer to a submit and to a poll, and a callback, are all the same object (ElkAPI's page)."""
    shown: dict[str, Any] = {"id": job.id, "status": WORDS[state], "created_at": int(job.created_at)}
    if state in {"succeeded", "failed"}:
        shown["completed_at"] = int(job.life.changed_at(at))
    if state == "succeeded":
        shown["outputs"] = _outputs(job)
    if state == "failed":
        shown["error"] = "Content policy violation detected" if job.faults.moderate else "the job ended in an error"
    return shown


def _outputs(job: Job) -> list[str]:
    """List the files: of a song two, and before them their covers, with nothing to link them."""
    if job.order.media != "audio":
        return [job.file_url]
    return [job.file(f"{number}.{ending}") for ending in ("png", "mp3") for number in range(2)]
