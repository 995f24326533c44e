"""Reading of Pika's jobs, in the words of its API and of gateways."""

from collections.abc import Mapping
from typing import Any

from service.domain.errors import AccountProblem, Refused, Unavailable, Uncertain, UpstreamError
from service.domain.task import ENDED, Failure, Result, ResultKind, State, Update
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import RETRYABLE, failure_from_text
from service.providers.read import fields, identifier, items, kind_of, line, link, links, number, percent, word
from service.providers.wire import Reply

STATES = {
    "queued": State.SUBMITTED,
    "pending": State.SUBMITTED,
    "running": State.RUNNING,
    "generating": State.RUNNING,
    "started": State.RUNNING,
    "completed": State.SUCCEEDED,
    "finished": State.SUCCEEDED,
    "succeeded": State.SUCCEEDED,
    "success": State.SUCCEEDED,
    "failed": State.FAILED,
    "error": State.FAILED,
    "cancelled": State.CANCELLED,
    "canceled": State.CANCELLED,
}
"""``status`` of both generations, by the clients that are known."""
_CODES = {
    "invalid_input": "invalid_input",
    "content_moderation": "content_policy",
    "insufficient_balance": "insufficient_credit",
    "usage_limit_exceeded": "insufficient_credit",
    "cycle_limit_exceeded": "insufficient_credit",
    "membership_required": "forbidden",
    "admission_suspended": "forbidden",
    "rate_limited": "rate_limited",
    "provider_error": "provider_error",
    "internal": "provider_error",
    "provider_unavailable": "overloaded",
    "provider_timeout": "provider_timeout",
    "timed_out": "provider_timeout",
}
"""``error.code`` of a job and of an answer (clients of api.dev.pika.art)."""
_CLASSES: Mapping[str, type[UpstreamError]] = {
    "invalid_input": Refused,
    "content_policy": Refused,
    "insufficient_credit": AccountProblem,
    "forbidden": AccountProblem,
    "rate_limited": Unavailable,
    "overloaded": Unavailable,
    "provider_error": Uncertain,
    "provider_timeout": Uncertain,
}
_KINDS: tuple[ResultKind, ...] = ("video", "image", "audio")
_MICRO = 1_000_000


def job_in(document: Any) -> Mapping[str, Any] | None:
    """Return a job of Pika's own API; None for any other document."""
    said = fields(document)
    named = identifier(said.get("id")) or identifier(said.get("request_id")) or identifier(said.get("video_id"))
    return said if named is not None and not fields(said.get("data")) else None


def read(job: Mapping[str, Any]) -> Update:
    """Read a job. A completion without an output keeps the state: its billing is pending."""
    said = (word(job.get("status")) or "").lower()
    state = STATES.get(said)
    results = _outputs(job) if state in ENDED else ()
    if state is State.SUCCEEDED and not results:
        state = None
    charge = number(fields(job.get("billing")).get("charge_micro_usd"))
    names = (identifier(job.get(name)) for name in ("id", "request_id", "video_id"))
    return Update(
        state=state,
        external_id=next((name for name in names if name is not None), None),
        progress=percent(job.get("progress")),
        results=results if state is State.SUCCEEDED else (),
        failure=_failure(job) if state in {State.FAILED, State.CANCELLED} else None,
        cost=None if charge is None else charge / _MICRO,
        unknown_word=said if said and said not in STATES else None,
    )


def _outputs(job: Mapping[str, Any]) -> tuple[Result, ...]:
    """Return the outputs: of one video the first of its places."""
    output = fields(job.get("output"))
    several = links(output.get("videos"))
    if several:
        return tuple(Result("video", url) for url in several)
    for kind in _KINDS:
        if (url := link(output.get(kind))) is not None:
            return (Result(kind_of(url, kind), url),)
    found = (link(job.get(name), relative=False) for name in ("content_url", "url"))
    url = next((each for each in found if each is not None), None)
    return () if url is None else (Result(kind_of(url, "video"), url),)


def _failure(job: Mapping[str, Any]) -> Failure | None:
    error = fields(job.get("error"))
    text = line(error.get("message")) or (line(job.get("error")) if isinstance(job.get("error"), str) else None)
    code = _CODES.get((word(error.get("code")) or "").lower()) or (failure_from_text(text).code if text else None)
    code = "provider_error" if code in {None, "unknown"} else code
    if STATES.get((word(job.get("status")) or "").lower()) is State.CANCELLED:
        return Failure("cancelled", text) if text else None
    return Failure(code or "provider_error", text, retryable=code in RETRYABLE)


def refusal_of(reply: Reply, *, creating: bool) -> UpstreamError:
    """Return the error that a reply without a job means: by Pika's code, else as at any gateway."""
    error = fields(fields(reply.document).get("error"))
    code = _CODES.get((word(error.get("code")) or "").lower())
    if code is None:
        return newapi_errors.refusal_in(reply, creating=creating)
    kind = _CLASSES[code]
    kind = Unavailable if kind is Uncertain and not creating else kind
    broken = code in {"overloaded", "provider_error", "provider_timeout"}
    return kind(code, line(error.get("message")), retry_after=reply.retry_after, broken=broken)


# Gateways --------------------------------------------------------------------------------------------------------


def read_feed(document: Any) -> Update | None:
    """Read a feed: the first of its videos decides. None for any other document."""
    said = fields(document)
    said = fields(said.get("data")) or said
    if "videos" not in said or identifier(said.get("id")) is None:
        return None
    video = fields(next(iter(items(said["videos"])), None))
    url, reason = link(video.get("resultUrl"), relative=False), line(video.get("error"))
    status = (word(video.get("status")) or "").lower()
    stated = STATES.get(status)
    failed = reason is not None or stated is State.FAILED
    state = State.FAILED if failed else State.SUCCEEDED if url is not None else State.RUNNING
    found = failure_from_text(reason)
    code = "provider_error" if found.code == "unknown" else found.code
    main = (Result("video", url),) if url is not None and state is State.SUCCEEDED else ()
    poster = link(video.get("videoPoster"), relative=False)
    return Update(
        state=state,
        external_id=identifier(said.get("id")),
        progress=percent(video.get("progress")),
        results=main + ((Result("image", poster, role="cover"),) if main and poster else ()),
        failure=Failure(code, reason, retryable=code in RETRYABLE) if failed else None,
        unknown_word=status if status and status not in STATES else None,
    )


_QUEUE = {"in_queue": State.SUBMITTED, "in_progress": State.RUNNING}
"""``status`` of Pika's models at fal's queue, which gateways pass on."""
_ENDED = "completed"
"""It ended well or badly: another answer has the result."""


def read_queue(document: Any) -> Update | None:
    """Read a status or a result of fal's queue; None for any other document."""
    said = fields(document)
    status, job = (word(said.get("status")) or "").lower(), identifier(said.get("request_id"))
    if status and job is not None:
        unknown = status if status not in _QUEUE and status != _ENDED else None
        return Update(state=_QUEUE.get(status), external_id=job, unknown_word=unknown)
    url = link(said.get("video"), relative=False)
    if url is None or "status" in said:
        return None
    return Update(state=State.SUCCEEDED, results=(Result("video", url),))
