"""Reading of Ark's tasks, of its images, and of its errors, which gateways pass on."""

import re
from collections.abc import Mapping
from typing import Any

from service.domain.errors import AccountProblem, NotFound, Refused, Unavailable, Uncertain, UpstreamError
from service.domain.task import Failure, Result, State, Update
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import RETRYABLE, failure_from_text
from service.providers.read import fields, identifier, is_output, items, kind_of, line, link, word
from service.providers.wire import Reply

STATES = {
    "queued": State.SUBMITTED,
    "running": State.RUNNING,
    "succeeded": State.SUCCEEDED,
    "failed": State.FAILED,
    "expired": State.FAILED,
    "cancelled": State.CANCELLED,
    "canceled": State.CANCELLED,
}
"""``status`` of Ark's page on querying a task, and the other spelling."""
_EXPIRED = "expired"
Verdict = tuple[type[UpstreamError], str]
_CODES: tuple[tuple[re.Pattern[str], Verdict], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), verdict)
    for pattern, verdict in (
        (r"SensitiveContentDetected", (Refused, "content_policy")),
        (r"^(Missing|Invalid)Parameter", (Refused, "invalid_input")),
        (r"^AuthenticationError", (AccountProblem, "unauthorized")),
        (r"^AccountOverdueError|^QuotaExceeded|^SetLimitExceeded", (AccountProblem, "insufficient_credit")),
        (r"^AccessDenied|^OperationDenied|^InvalidEndpoint|^ModelNotOpen", (AccountProblem, "forbidden")),
        (r"RateLimit", (Unavailable, "rate_limited")),
        (r"^ServerOverloaded|^ModelLoadingError", (Unavailable, "overloaded")),
        (r"^InternalServiceError", (Uncertain, "provider_error")),
        (r"^ResourceNotFound", (NotFound, "not_found")),
    )
)
"""``error.code`` of Ark's page on error codes: QuotaExceeded never passes by waiting, although its HTTP status is 429."""
_BROKEN = frozenset({"provider_error", "overloaded"})


def task_in(document: Any) -> Mapping[str, Any] | None:
    """Return a task: itself, or the first of a list."""
    said = fields(document)
    if isinstance(said.get("items"), list):
        said = fields(items(said["items"])[0]) if said["items"] else {}
    return said if identifier(said.get("id")) is not None and word(said.get("status")) is not None else None


def read(job: Mapping[str, Any]) -> Update:
    """Read a task. A success without an output keeps the state."""
    said = (word(job.get("status")) or "").lower()
    state = STATES.get(said)
    content = fields(job.get("content"))
    results = _outputs(content) if state is State.SUCCEEDED else ()
    if state is State.SUCCEEDED and not results:
        state = None
    return Update(
        state=state,
        external_id=identifier(job.get("id")),
        results=results,
        failure=_failure(job, said) if state in {State.FAILED, State.CANCELLED} else None,
        unknown_word=said if said and said not in STATES else None,
    )


def _outputs(content: Mapping[str, Any]) -> tuple[Result, ...]:
    """Return the video, or the file of a 3D model, with the last frame beside it. URLs are kept byte for byte."""
    video, made = (link(content.get(name), relative=False) for name in ("video_url", "file_url"))
    main = video or made
    if main is None:
        return ()
    frame = link(content.get("last_frame_url"), relative=False)
    beside = () if frame is None else (Result("image", frame, role="last_frame"),)
    return (Result(kind_of(main, "video" if video else "model"), main), *beside)


def _failure(job: Mapping[str, Any], said: str) -> Failure | None:
    error = fields(job.get("error"))
    text = line(error.get("message")) or (line(job.get("error")) if isinstance(job.get("error"), str) else None)
    if STATES[said] is State.CANCELLED:
        return Failure("cancelled", text) if text else None
    if said == _EXPIRED:
        return Failure("provider_timeout", text, retryable=True)
    return failure_in(error.get("code"), text)


def failure_in(code: Any, text: str | None) -> Failure:
    """Return the failure that an error object reports: by its code, else by its text."""
    verdict = _verdict(word(code))
    found = verdict[1] if verdict else failure_from_text(text).code
    found = "provider_error" if found == "unknown" else found
    return Failure(found, text, retryable=found in RETRYABLE)


def _verdict(code: str | None) -> Verdict | None:
    return next((verdict for pattern, verdict in _CODES if pattern.search(code or "")), None)


def read_pictures(document: Any) -> Update | None:
    """Read the answer of an image call; None where it holds no list of pictures. Those that were made are delivered."""
    said = fields(document)
    entries = said.get("data")
    if not isinstance(entries, list) or not entries:
        return None
    results = tuple(found for each in entries if (found := _picture(fields(each), said)) is not None)
    if results:
        return Update(state=State.SUCCEEDED, results=results)
    errors = [error for each in entries if (error := fields(fields(each).get("error")))]
    if len(errors) < len(entries):
        return None
    failure = failure_in(errors[0].get("code"), line(errors[0].get("message")))
    return Update(state=State.FAILED, failure=failure)


def _picture(entry: Mapping[str, Any], said: Mapping[str, Any]) -> Result | None:
    url = link(entry.get("url"), relative=False)
    if url is not None:
        return Result("image", url)
    data = entry.get("b64_json")
    if isinstance(data, str) and is_output(f"data:,{data}"):
        kind = word(entry.get("output_format")) or word(said.get("output_format")) or "jpeg"
        return Result("image", f"data:image/{kind};base64,{data.strip()}")
    return None


def refusal_of(reply: Reply, *, creating: bool) -> UpstreamError:
    """Return the error that a reply without a task means: by Ark's code, else as at any gateway."""
    error = fields(fields(reply.document).get("error"))
    verdict = _verdict(word(error.get("code")))
    if verdict is None:
        return newapi_errors.refusal_in(reply, creating=creating)
    kind, code = verdict
    if kind is NotFound and creating:
        kind, code = AccountProblem, "forbidden"
    elif kind is Uncertain and not creating:
        kind = Unavailable
    return kind(code, line(error.get("message")), retry_after=reply.retry_after, broken=code in _BROKEN)
