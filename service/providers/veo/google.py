"""Reading of Google's long-running operations, whose answers decide by the videos in them, and of its errors."""

import re
from collections.abc import Mapping
from typing import Any

from service.domain.errors import AccountProblem, NotFound, Refused, Unavailable, Uncertain, UpstreamError
from service.domain.task import Failure, Result, State, Update
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import RETRYABLE, failure_from_text
from service.providers.read import fields, identifier, items, line, link, number, word
from service.providers.wire import Reply

_RPC = {
    3: "invalid_input",
    9: "invalid_input",
    7: "forbidden",
    8: "rate_limited",
    4: "provider_timeout",
    14: "overloaded",
}
"""The codes of google.rpc.Code; any other is the provider's error."""
_INVALID = 3
_STATUSES: Mapping[str, tuple[type[UpstreamError], str]] = {
    "INVALID_ARGUMENT": (Refused, "invalid_input"),
    "OUT_OF_RANGE": (Refused, "invalid_input"),
    "FAILED_PRECONDITION": (AccountProblem, "forbidden"),  # billing, or the region
    "UNAUTHENTICATED": (AccountProblem, "unauthorized"),
    "PERMISSION_DENIED": (AccountProblem, "forbidden"),
    "NOT_FOUND": (AccountProblem, "forbidden"),  # the model is not served (any more)
    "RESOURCE_EXHAUSTED": (Unavailable, "rate_limited"),
    "INTERNAL": (Uncertain, "provider_error"),
    "DEADLINE_EXCEEDED": (Uncertain, "provider_timeout"),
    "UNAVAILABLE": (Unavailable, "overloaded"),
}
"""``error.status`` of an answer to a submit (google.rpc.Code by name)."""
_WRONG_KEY = "API_KEY_INVALID"
_POLICY = ("violat", "sensitive", "safety")
_NO_CREDIT = re.compile(
    r"credits? (?:are|is|has been|have been) (?:depleted|used up|exhausted)|insufficient credit", re.IGNORECASE
)
"""Words of a prepaid account without credit, which Google answers as an exhausted quota. That never passes by waiting."""
_SAMPLES = ("generatedSamples", "videos", "generatedVideos")
_BUCKET = "gs://"


def operation_in(document: Any) -> Mapping[str, Any] | None:
    """Return an operation; None where a document is none."""
    said = fields(document)
    is_one = identifier(said.get("name")) is not None or isinstance(said.get("done"), bool)
    return said if is_one else None


def read(job: Mapping[str, Any], *, created: bool = False) -> Update:
    """Read an operation. It is running until it is done, and its videos decide how it ended.

    :param created: whether it is the answer to a submit
    """
    name = identifier(job.get("name"))
    if job.get("done") is not True:
        return Update(state=State.SUBMITTED if created else State.RUNNING, external_id=name)
    error = fields(job.get("error"))
    if error or job.get("error") is not None:
        return Update(state=State.FAILED, external_id=name, failure=_failure(error))
    response = fields(job.get("response"))
    answer = fields(response.get("generateVideoResponse")) or response
    results = tuple(found for holder in _SAMPLES for each in items(answer.get(holder)) if (found := _video(each)))
    if results:
        return Update(state=State.SUCCEEDED, external_id=name, results=results)
    reasons = [text for each in items(answer.get("raiMediaFilteredReasons")) if (text := line(each)) is not None]
    if reasons:
        return Update(state=State.FAILED, external_id=name, failure=Failure("content_policy", "; ".join(reasons)))
    held = [answer.get(holder) for holder in _SAMPLES]
    if any(any(each) if isinstance(each, list) else each for each in held) or not isinstance(
        job.get("response", {}), dict
    ):
        return Update(external_id=name)  # there may be a video that cannot be read
    return Update(state=State.FAILED, external_id=name, failure=Failure("provider_error", None, retryable=True))


def read_created(reply: Reply) -> Update:
    """Read the answer to a submit: the operation's name."""
    job = operation_in(reply.document)
    if not reply.ok or job is None or identifier(job.get("name")) is None:
        raise refusal_of(reply, creating=True)
    return read(job, created=True)


def read_status(reply: Reply) -> Update:
    """Read the answer to a poll: the operation."""
    job = operation_in(reply.document)
    if not reply.ok or job is None:
        raise refusal_of(reply, creating=False)
    return read(job)


def _video(sample: Any) -> Result | None:
    """Return the one video of a sample: where it is, or its bytes."""
    held = fields(sample)
    video = fields(held.get("video")) or held
    for name in ("uri", "gcsUri"):
        place = word(video.get(name))
        if place is not None and (place.startswith(_BUCKET) or link(place, relative=False) is not None):
            return Result("video", place)
    for name in ("encodedVideo", "bytesBase64Encoded", "videoBytes"):
        data = video.get(name)
        if isinstance(data, str) and data.strip():
            kind = word(video.get("encoding")) or word(video.get("mimeType")) or "video/mp4"
            return Result("video", f"data:{kind};base64,{data.strip()}")
    return None


def _failure(error: Mapping[str, Any]) -> Failure:
    """Return why an operation failed: by its text if that mentions the content, or by its code."""
    text, stated = line(error.get("message")), error.get("code")
    by_text = failure_from_text(text).code
    speaks_of_content = (stated is None or stated == _INVALID) and any(part in (text or "").lower() for part in _POLICY)
    if by_text == "content_policy" or speaks_of_content:
        return Failure("content_policy", text)
    code = _RPC.get(stated, "provider_error") if isinstance(stated, int) else "provider_error"
    if not isinstance(stated, int) and by_text != "unknown":
        code = by_text
    return Failure(code, text, retryable=code in RETRYABLE)


def refusal_of(reply: Reply, *, creating: bool) -> UpstreamError:
    """Return the error that a reply without an operation means."""
    error = fields(fields(reply.document).get("error"))
    status, text = (word(error.get("status")) or "").upper(), line(error.get("message"))
    if status not in _STATUSES:
        return newapi_errors.refusal_in(reply, creating=creating)
    details = [fields(each) for each in items(error.get("details"))]
    if any(word(each.get("reason")) == _WRONG_KEY for each in details) or "api key not valid" in (text or "").lower():
        return AccountProblem("unauthorized", text)
    if _NO_CREDIT.search(text or ""):
        return AccountProblem("insufficient_credit", text)
    kind, code = _STATUSES[status]
    if not creating:
        if status == "NOT_FOUND":
            return NotFound("not_found", text)
        kind = Unavailable if kind is Uncertain else kind
    elif kind is Refused and failure_from_text(text).code == "content_policy":
        code = "content_policy"
    return kind(code, text, retry_after=_wait(details) or reply.retry_after, broken=code in _BROKEN)


_BROKEN = frozenset({"provider_error", "provider_timeout", "overloaded"})


def _wait(details: list[Mapping[str, Any]]) -> float | None:
    """Return the seconds of RetryInfo: ``12s``."""
    for each in details:
        seconds = number((word(each.get("retryDelay")) or "").removesuffix("s"))
        if seconds is not None:
            return max(seconds, 0.0)
    return None
