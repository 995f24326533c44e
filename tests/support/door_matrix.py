"""The matrix of the doors: a submit at each, what its client reads afterwards, and which faults it survives."""

import dataclasses
from collections.abc import Callable
from typing import Any

import httpx

Say = Callable[[str], Any]
"""Returns the body of a submit with a prompt."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A way to submit at a door."""

    name: str
    path: str
    body: Say
    success: str
    """The word that its client reads at the end; of a held request the HTTP status."""
    failure: str
    """What its client reads of a failed task; of a held request the HTTP status."""
    waiting: frozenset[str] = frozenset()
    raises: str
    """What the client makes of the failure."""
    poll: Callable[[Any], tuple[str, str, Any]] | None = None
    """Returns the method, path and body of the query for a submit's answer; None where the submit is held until the result is there."""
    word: Callable[[Any], str] = lambda document: str(document["status"])
    """Returns the word of the query's answer."""
    fails_by: str = "[fail]"
    """What makes the sandbox fail the job."""
    slow_by: str = "[seconds=120]"
    """What makes the job slow; an upstream that answers with the result itself is busy for a while instead."""


def _get(path: str, *names: str) -> Callable[[Any], tuple[str, str, Any]]:
    def ask(document: Any) -> tuple[str, str, Any]:
        for name in names:
            document = document[name]
        return "GET", path.format(document), None

    return ask


def _input(prompt: str) -> Any:
    return {"input": {"prompt": prompt}}


ROWS = (
    Row(
        name="RunwayML",
        path="/runwayml/v1/text_to_video",
        body=lambda prompt: {"model": "gen4.5", "promptText": prompt, "ratio": "1280:720", "duration": 5},
        poll=_get("/runwayml/v1/tasks/{}", "id"),
        success="SUCCEEDED",
        failure="FAILED",
        waiting=frozenset({"PENDING", "RUNNING", "THROTTLED"}),
        raises="`TaskFailedError` of the SDK",
    ),
    Row(
        name="Runway at gateways",
        path="/runway/pro/generate",
        body=lambda prompt: {"prompt": prompt, "model": "gen4.5", "options": {"seconds": 5}},
        poll=lambda document: ("POST", "/runway/feed", {"task_id": document["data"]["task_id"]}),
        word=lambda document: str(document["data"]["status"]),
        success="3",
        failure="2",
        waiting=frozenset({"0", "1"}),
        raises="the status and `msg` of the record",
    ),
    Row(
        name="Runway's web shape",
        path="/runway/tasks",
        body=lambda prompt: {"taskType": "gen4.5", "options": {"text_prompt": prompt, "seconds": 5}},
        poll=_get("/runway/tasks/{}", "task", "id"),
        word=lambda document: str(document["task"]["status"]),
        success="SUCCEEDED",
        failure="FAILED",
        waiting=frozenset({"PENDING", "RUNNING"}),
        raises="`error.errorMessage` of the task",
    ),
    Row(
        name="midjourney-proxy",
        path="/mj/submit/imagine",
        body=lambda prompt: {"prompt": prompt},
        poll=_get("/mj/task/{}/fetch", "result"),
        success="SUCCESS",
        failure="FAILURE",
        waiting=frozenset({"NOT_START", "SUBMITTED", "IN_PROGRESS"}),
        raises="`status` and `failReason`",
    ),
    Row(
        name="Suno-API",
        path="/suno/submit/music",
        body=lambda prompt: {"gpt_description_prompt": prompt, "mv": "chirp-v5"},
        poll=_get("/suno/fetch/{}", "data"),
        word=lambda document: str(document["data"]["status"]),
        success="SUCCESS",
        failure="FAILURE",
        waiting=frozenset({"NOT_START", "SUBMITTED", "QUEUED", "IN_PROGRESS"}),
        raises="`status` and `fail_reason`",
    ),
    Row(
        name="OpenAI, videos",
        path="/openai/v1/videos",
        body=lambda prompt: {"model": "sora-2", "prompt": prompt, "seconds": "8"},
        poll=_get("/openai/v1/videos/{}", "id"),
        success="completed",
        failure="failed",
        waiting=frozenset({"queued", "in_progress"}),
        raises="`video.error`: the SDK raises nothing for a failed video",
    ),
    Row(
        name="OpenAI, responses in the background",
        path="/openai/v1/responses",
        body=lambda prompt: {"model": "gpt-6-luna", "input": prompt, "background": True},
        poll=_get("/openai/v1/responses/{}", "id"),
        success="completed",
        failure="failed",
        waiting=frozenset({"queued", "in_progress"}),
        raises="`response.error`: the SDK raises nothing for a failed response",
    ),
    Row(
        name="OpenAI, images",
        path="/openai/v1/images/generations",
        body=lambda prompt: {"model": "dall-e-3", "prompt": prompt},
        success="200",
        failure="400",
        fails_by="[refuse]",
        slow_by="[429=3]",
        raises="`BadRequestError` of the SDK; `InternalServerError` (500) where the upstream failed",
    ),
    Row(
        name="OpenAI, chat",
        path="/openai/v1/chat/completions",
        body=lambda prompt: {"model": "gpt-6-luna", "messages": [{"role": "user", "content": prompt}]},
        success="200",
        failure="400",
        fails_by="[refuse]",
        slow_by="[429=3]",
        raises="`BadRequestError` of the SDK; `InternalServerError` (500) where the upstream failed",
    ),
    Row(
        name="OpenAI, speech",
        path="/openai/v1/audio/speech",
        body=lambda prompt: {"model": "gpt-4o-mini-tts", "input": prompt, "voice": "marin"},
        success="200",
        failure="400",
        fails_by="[refuse]",
        slow_by="[429=3]",
        raises="`BadRequestError` of the SDK; `InternalServerError` (500) where the upstream failed",
    ),
    Row(
        name="Replicate",
        path="/replicate/v1/models/acme/doves/predictions",
        body=_input,
        poll=_get("/replicate/v1/predictions/{}", "id"),
        success="succeeded",
        failure="failed",
        waiting=frozenset({"starting", "processing"}),
        raises="`ModelError` of `run` in Python, an `Error` in Node",
    ),
    Row(
        name="fal, queue",
        path="/fal/fal-ai/flux/dev",
        body=lambda prompt: {"prompt": prompt},
        poll=_get("/fal/fal-ai/flux/requests/{}/status", "request_id"),
        word=lambda document: "failed" if document.get("error") else str(document["status"]),
        success="COMPLETED",
        failure="failed",
        waiting=frozenset({"IN_QUEUE", "IN_PROGRESS"}),
        raises="`FalClientHTTPError` in Python, `ApiError` in JavaScript, when the result is fetched",
    ),
    Row(
        name="fal, run",
        path="/fal/fal-run/fal-ai/flux/dev",
        body=lambda prompt: {"prompt": prompt},
        success="200",
        failure="500",
        raises="`FalClientHTTPError` in Python, `ApiError` in JavaScript",
    ),
    Row(
        name="ElkAPI's task API",
        path="/v1/task/submit",
        body=lambda prompt: {"model": "acme/doves", "input": {"prompt": prompt}},
        poll=_get("/v1/task/{}", "id"),
        success="completed",
        failure="failed",
        waiting=frozenset({"queued", "pending", "processing", "in_progress"}),
        raises="`status` and `error` of the task",
    ),
    Row(
        name="new-api's video API",
        path="/v1/video/generations",
        body=lambda prompt: {"model": "sora-2", "prompt": prompt},
        poll=_get("/v1/video/generations/{}", "task_id"),
        word=lambda document: str(document["data"]["status"]),
        success="SUCCESS",
        failure="FAILURE",
        waiting=frozenset({"NOT_START", "SUBMITTED", "QUEUED", "IN_PROGRESS"}),
        raises="`status` and `fail_reason`",
    ),
)


def is_held(row: Row) -> bool:
    """Return whether a submit is held until the result is there."""
    return row.poll is None


COLUMNS = ("success", "failure", "slow", "gateway down", "callback lost", "answer lost")


def table() -> str:
    """Return the matrix as the documentation has it."""
    lines = ["| submit at | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row in ROWS:
        held = is_held(row)
        cells = [
            "the request returns it" if held else f"`{row.success}`",
            f"{row.failure}: {row.raises}" if held else f"`{row.failure}`: {row.raises}",
            "the request is held" if held else "the status says so until the end",
            "the request is held, and succeeds when it is back"
            if held
            else "the task waits, and succeeds when it is back",
            "found by a poll",
            "one job",
        ]
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def outcome(row: Row, answer: httpx.Response) -> str:
    """Return what a client reads of an answer: the word of its API, or of a held request the HTTP status."""
    return str(answer.status_code) if is_held(row) else row.word(answer.json())
