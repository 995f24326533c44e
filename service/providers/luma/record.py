"""Reading of a generation: as Luma shows it, as the Agents API does, and in the shape of Luma's web site."""

import re
from collections.abc import Mapping
from typing import Any

from service.domain.errors import AccountProblem, Refused, Unreadable, UpstreamError
from service.domain.task import ENDED, Failure, Result, ResultRole, State, Update
from service.providers.dialect import accepted
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import RETRYABLE, failure_from_text
from service.providers.read import fields, identifier, items, kind_of, line, link, word
from service.providers.wire import Callback, Reply

STATES = {
    "pending": State.SUBMITTED,
    "queued": State.SUBMITTED,
    "processing": State.RUNNING,
    "dreaming": State.RUNNING,
    "completed": State.SUCCEEDED,
    "failed": State.FAILED,
}
"""``state`` of Luma's OpenAPI 1.1.0, of the Agents API and of gateways, in lower case."""
_CODES = {
    "content_moderated": "content_policy",
    "generation_failed": "provider_error",
    "output_not_found": "provider_error",
    "budget_exhausted": "insufficient_credit",
    "image_too_large": "invalid_input",
    "unsupported_format": "invalid_input",
    "corrupt_input": "invalid_input",
    "invalid_request": "invalid_input",
    "rate_limited": "rate_limited",
}
"""``failure_code`` of the Agents API: its pages and its SDK 0.5.0."""
_WEB = (("video", "download_url"), ("video_raw", "url"), ("video", "url"))
"""Where the web shape has the video, without the watermark first."""
_KEY = re.compile(r"api key|not authenticated", re.IGNORECASE)
_SECONDARY: tuple[tuple[str, ResultRole], ...] = (("thumbnail", "cover"), ("last_frame", "last_frame"))


def generation_in(document: Any) -> Mapping[str, Any] | None:
    """Return the generation of an answer: itself, or the first of a list."""
    said = fields(document)
    for holder in (said, fields(said.get("data")), *(fields(each) for each in _listed(said))):
        if identifier(holder.get("id")) is not None or word(holder.get("state")) is not None:
            return holder
    return None


def _listed(said: Mapping[str, Any]) -> list[Any]:
    listed = said.get("generations") if isinstance(said.get("generations"), list) else said.get("data")
    return items(listed)[:1] if isinstance(listed, list) else []


def read(job: Mapping[str, Any]) -> Update:
    """Read a generation. A success without an output keeps the state."""
    said = (word(job.get("state")) or "").lower()
    state = STATES.get(said)
    results = _outputs(job) if state in ENDED else ()
    if state is State.SUCCEEDED and not any(each.role == "result" for each in results):
        state, results = None, ()
    return Update(
        state=state,
        external_id=identifier(job.get("id")),
        results=results if state is State.SUCCEEDED else (),
        failure=_failure(job) if state is State.FAILED else None,
        unknown_word=said if said and said not in STATES else None,
    )


def read_created(reply: Reply) -> Update:
    """Read the answer to a submit: the generation, or its id alone."""
    said = fields(reply.document)
    job = generation_in(reply.document) or {}
    update = read({**job, "id": identifier(job.get("id")) or identifier(said.get("task_id"))})
    if not reply.ok or update.external_id is None:
        raise refusal_of(reply, creating=True)
    return accepted(update)


def read_status(reply: Reply) -> Update:
    """Read the answer to a poll."""
    job = generation_in(reply.document)
    if not reply.ok or job is None or word(job.get("state")) is None:
        raise refusal_of(reply, creating=False)
    return read(job)


def read_callback(callback: Callback) -> list[Update]:
    """Read a callback: the generation, as a poll shows it."""
    job = generation_in(callback.document)
    if job is None or word(job.get("state")) is None:
        raise Unreadable("no generation in it")
    return [read(job)]


def _outputs(job: Mapping[str, Any]) -> tuple[Result, ...]:
    """Return the outputs, the main ones first."""
    listed = [(link(each), word(fields(each).get("type"))) for each in items(job.get("output"))]
    made = tuple(Result(_kind(kind, url), url) for url, kind in listed if url is not None)
    return made or _assets(fields(job.get("assets"))) or _of_the_site(job)


def _kind(stated: str | None, url: str) -> Any:
    return stated if stated in {"video", "image", "audio"} else kind_of(url, "image")


def _assets(assets: Mapping[str, Any]) -> tuple[Result, ...]:
    """Return a video with its poster and preview, or an image."""
    video, image, preview = (link(assets.get(name)) for name in ("video", "image", "progress_video"))
    if video is None:
        return () if image is None else (Result("image", image),)
    found = [Result("video", video)]
    found += [] if image is None else [Result("image", image, role="cover")]
    return tuple(found + ([] if preview is None else [Result("video", preview, role="preview")]))


def _of_the_site(job: Mapping[str, Any]) -> tuple[Result, ...]:
    """Return the one video of the web shape, with its still images."""
    found = [link(fields(job.get(holder)).get(name), relative=False) for holder, name in _WEB]
    video = next((url for url in found if url is not None), None) or link(job.get("video"), relative=False)
    if video is None:
        return ()
    stills = [(link(job.get(name), relative=False), role) for name, role in _SECONDARY]
    return (Result("video", video), *(Result("image", url, role=role) for url, role in stills if url is not None))


def _failure(job: Mapping[str, Any]) -> Failure:
    text, stated = line(job.get("failure_reason")), (word(job.get("failure_code")) or "").lower()
    if stated in _CODES:
        return Failure(_CODES[stated], text or stated, retryable=_CODES[stated] in RETRYABLE)
    return failure_from_text(text or stated or None)


def refusal_of(reply: Reply, *, creating: bool) -> UpstreamError:
    """Return the error that a reply without a generation means. A wrong key is known by its words, too."""
    found = newapi_errors.refusal_in(reply, creating=creating)
    if isinstance(found, Refused) and _KEY.search(found.message or ""):
        return AccountProblem("unauthorized", found.message)
    return found
