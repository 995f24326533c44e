"""Reading of gateways' Veo jobs: the unified record, the raw record, and the log that a chat completion holds."""

import re
from collections.abc import Mapping
from typing import Any

from service.domain.errors import Uncertain
from service.domain.task import Failure, Result, State, Update
from service.domain.text import storable
from service.providers.dialect import accepted
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import RETRYABLE, failure_from_text
from service.providers.read import fields, identifier, items, line, link, word
from service.providers.stream import events_in, is_stream
from service.providers.wire import Reply

STATES = {
    "pending": State.SUBMITTED,
    "queued": State.SUBMITTED,
    **dict.fromkeys(("image_downloading", "video_generating", "video_upsampling", "processing"), State.RUNNING),
    **dict.fromkeys(("video_generation_completed", "video_upsampling_completed"), State.RUNNING),
    "completed": State.SUCCEEDED,
    **dict.fromkeys(("video_generation_failed", "video_upsampling_failed", "failed", "error"), State.FAILED),
}
"""The words of the relays' pages, in lower case."""
_MAY_BE_DONE = frozenset({"video_generation_completed", "video_upsampling_completed"})
"""Words that end a job where its video is there, and more is not wanted."""
_TASK_ID = re.compile(r"(?:任务\s*ID|task\s*id|\bid)\W{0,6}?`([^`\s]{4,200})`", re.IGNORECASE)
_LINK = re.compile(
    r"\[([^\]]{0,1000}+)\]\(\s{0,20}+<?(https?://[^\s()>]++(?:(?<!\])\([^\s()>]*+)*+)>?\s{0,20}+\)|(https?://[^\s()<>\[\]\"'`]++)",
    re.IGNORECASE,
)
"""A link, whose parts have bounds: an answer may be hostile."""
_NO_RESULT = re.compile(r"^https?://[^/]+/(?:web|source)/", re.IGNORECASE)
_DOWNLOAD = re.compile(r"download|下载", re.IGNORECASE)
_FILM = re.compile(r"\.mp4(?:[?#]|$)", re.IGNORECASE)
_POLICY = re.compile(r"policy|违反|moderation|prohibited|sensitive|unsafe", re.IGNORECASE)
_REASON = re.compile(r"(?:error|failed|失败|原因|reason)[^\n:：]{0,40}[:：]\s*([^\n]{1,400})", re.IGNORECASE)
_SHOWN = 400


def is_record(document: Any) -> bool:
    """Return whether a document is a job's record."""
    said = fields(document)
    return word(said.get("status")) is not None and ("id" in said or "video_url" in said)


def read_record(document: Any) -> Update:
    """Read a record. While an upscaled video is wanted, the plain one does not end the job."""
    job = fields(document)
    said = (word(job.get("status")) or "").lower()
    state, results = STATES.get(said), _films(job)
    more_is_wanted = fields(job.get("req")).get("enable_upsample") is True and said != "video_upsampling_completed"
    if said in _MAY_BE_DONE and results and not more_is_wanted and job.get("running") is not True:
        state = State.SUCCEEDED
    if state is State.SUCCEEDED and not results:
        state = None
    return Update(
        state=state,
        external_id=identifier(job.get("id")),
        results=results if state in {State.SUCCEEDED, State.FAILED} else (),
        failure=_failure(job) if state is State.FAILED else None,
        unknown_word=said if said and said not in STATES else None,
    )


def _films(job: Mapping[str, Any]) -> tuple[Result, ...]:
    """Return the one video: the upscaled one where it is there."""
    found = (link(job.get(name), relative=False) for name in ("upsample_video_url", "video_url"))
    url = next((each for each in found if each is not None), None)
    return () if url is None else (Result("video", url),)


def _failure(job: Mapping[str, Any]) -> Failure:
    holders = (job.get("error"), job.get("error_message"), fields(job.get("error")).get("message"), job.get("detail"))
    text = next((found for each in holders if not fields(each) and (found := line(each)) is not None), None)
    return _failed(text)


def _failed(text: str | None) -> Failure:
    found = failure_from_text(text)
    if text is None or found.code == "unknown":
        code = "content_policy" if text and _POLICY.search(text) else "provider_error"
        return Failure(code, text, retryable=code in RETRYABLE)
    return found


def read_submitted(reply: Reply) -> Update:
    """Read the answer to a submit by either route: a record, or a chat completion."""
    if reply.ok and (is_stream(reply) or isinstance(fields(reply.document).get("choices"), list)):
        return read_chat(reply)
    job = identifier(fields(reply.document).get("id"))
    if not reply.ok or job is None or fields(fields(reply.document).get("error")):
        raise newapi_errors.refusal_in(reply, creating=True)
    update = read_record(reply.document)
    return accepted(update)


def read_polled(reply: Reply) -> Update:
    """Read the answer to a poll: a record."""
    if not reply.ok or not is_record(reply.document):
        raise newapi_errors.refusal_in(reply, creating=False)
    return read_record(reply.document)


def read_chat(reply: Reply) -> Update:
    """Read the log that a chat completion or its stream holds.

    :raises Uncertain: when a log names no job and has no end, or no text at all: the job may be there
    """
    text, ended = _log(reply)
    named = _TASK_ID.search(text)
    job = named[1] if named else None
    film = _film_in(text)
    if film is not None:
        return Update(state=State.SUCCEEDED, external_id=job, results=(Result("video", film),))
    if job is not None and (reason := _reason_in(text)) is None:
        is_first = len(_LINK.findall(text)) == 0
        return Update(state=State.SUBMITTED if is_first else State.RUNNING, external_id=job)
    if job is None and not (ended and text.strip()):
        error = newapi_errors.complaint(reply.document).message
        raise Uncertain("unreadable", error or "the stream ended before it named a job")
    reason = _reason_in(text) or line(text[:_SHOWN])
    return Update(state=State.FAILED, external_id=job, failure=_failed(reason))


def _log(reply: Reply) -> tuple[str, bool]:
    """Return the text of a completion, and whether it came to its end."""
    if not is_stream(reply):
        choices = [fields(each) for each in items(fields(reply.document).get("choices"))]
        texts = [fields(each.get("message")).get("content") for each in choices]
        return storable("".join(text for text in texts if isinstance(text, str))), True
    events, done = events_in(reply.text)
    choices = [fields(each) for event in events for each in items(fields(event.document).get("choices"))]
    texts = [fields(each.get("delta")).get("content") for each in choices]
    stopped = done or any(word(each.get("finish_reason")) == "stop" for each in choices)
    return storable("".join(text for text in texts if isinstance(text, str))), stopped


def _film_in(text: str) -> str | None:
    """Return the link to the film; of a link to watch it and one to download it, the first."""
    found = [(label, url or plain) for label, url, plain in _LINK.findall(text)]
    films = [(label, url) for label, url in found if not _NO_RESULT.match(url)]
    watched = [url for label, url in films if _FILM.search(url) and not _DOWNLOAD.search(label + url)]
    loaded = [url for label, url in films if _FILM.search(url) or _DOWNLOAD.search(label)]
    best = watched or loaded
    return link(best[-1], relative=False) if best else None


def _reason_in(text: str) -> str | None:
    """Return the reason of a failure from a log."""
    stated = _REASON.search(text)
    return line(stated[1]) if stated else None
