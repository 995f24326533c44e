"""Reading of a relay's answers about Sora: one object in several forms, a task record, and a chat in Markdown."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from service.domain.errors import AccountProblem, Uncertain, UpstreamError
from service.domain.task import ENDED, Failure, Result, State, Update
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import failure_from_text
from service.providers.read import fields, identifier, is_output, items, kind_of, line, link, percent, word
from service.providers.stream import events_in, is_stream
from service.providers.wire import Reply

STATES: Mapping[str, State | None] = {
    **newapi_errors.STATES,
    **dict.fromkeys(("pending", "not_start", "preparing", "created", "starting", "queueing"), State.SUBMITTED),
    **dict.fromkeys(("processing", "running", "generating", "image_downloading"), State.RUNNING),
    **dict.fromkeys(("video_generating", "video_upsampling", "upsampling"), State.RUNNING),
    **dict.fromkeys(("completed", "complete", "succeeded", "finished"), State.SUCCEEDED),
    **dict.fromkeys(("failed", "fail", "error", "video_generation_failed", "video_upsampling_failed"), State.FAILED),
    **dict.fromkeys(("cancelled", "canceled"), State.CANCELLED),
}
"""The words of the relays (Veo's unified form among them), in lower case."""
_NO_MODEL = re.compile(r"\bmodel\b.{0,80}\b(not found|does not exist)|invalid model", re.IGNORECASE)
_MODEL_STATUSES = frozenset({400, 404, 410})
_PARTS = frozenset({"video_generation_completed", "video_upsampling_completed"})
"""Words of a part of the work. With a video they end it; without one it goes on."""
_TASK = re.compile(r"ID[:：]\s*\**`([^`\s]+)`", re.IGNORECASE)
_MARKDOWN = re.compile(r"(!?)\[[^\]]{0,1000}+\]\(\s{0,20}+(https?://[^\s()]++(?:(?<!\])\([^\s()]*+)*+)\s{0,20}+\)")
"""A link, whose parts have bounds: an answer may be hostile."""
_FAILED = ("生成失败", "失败原因", "generation failed")
_RUNNING = ("生成中", "进度", "开始生成", "generating", "progress")
_POLICY = (
    "content policy",
    "guardrail",
    "real person",
    "third-party similarity",
    "third party similarity",
    "违反",
    "违规",
)


def refusal(reply: Reply, *, creating: bool) -> UpstreamError:
    """Return what an error of a relay means. A relay whose model is gone is no relay any more: another upstream may be."""
    error = fields(fields(reply.document).get("error"))
    message = line(error.get("message"))
    is_about_model = word(error.get("code")) == "model_not_found" or _NO_MODEL.search(message or "") is not None
    if reply.status in _MODEL_STATUSES and is_about_model:
        return AccountProblem("forbidden", message)
    return newapi_errors.refusal_in(reply, creating=creating)


def read_created(reply: Reply) -> Update:
    """Read the answer to a submit: where there is an id, the job may exist."""
    if is_stream(reply) or _is_chat(reply.document):
        return _read_chat(reply)
    update = read_task(reply.document)
    if not reply.ok or update.external_id is None:
        raise refusal(reply, creating=True)
    return dataclasses.replace(update, state=update.state or State.SUBMITTED)


def read_status(reply: Reply) -> Update:
    """Read the answer to a poll."""
    job = _job(reply.document)
    if not reply.ok or _id_of(job) is None or "status" not in job:
        raise refusal(reply, creating=False)
    return read_task(reply.document)


def _job(document: Any) -> Mapping[str, Any]:
    """Return the job of a document: the task record within an envelope, or the object itself."""
    envelope = fields(document) if isinstance(document, dict) else {}
    inner = envelope.get("data")
    return fields(inner) if isinstance(inner, dict) and _id_of(inner) is not None else envelope


def _id_of(job: Mapping[str, Any]) -> str | None:
    return identifier(job.get("task_id")) or identifier(job.get("id"))


def read_task(document: Any) -> Update:
    """Read a job in any of its forms. The outer status overrides: a gateway may end a job that the inner record calls running."""
    job = _job(document)
    said = (word(job.get("status")) or "").lower()
    state, vendor = State.SUCCEEDED if said in _PARTS else STATES.get(said), fields(job.get("data"))
    url = _video_of(job, vendor, ended_well=state is State.SUCCEEDED)
    if state is State.SUCCEEDED and url is None:
        state = State.RUNNING if said in _PARTS else None
    results = (Result("video", url),) if url is not None and state is State.SUCCEEDED else ()
    return Update(
        state=state,
        external_id=_id_of(job),
        progress=percent(job.get("progress")),
        results=results if state in ENDED else (),
        failure=_failure(job, vendor) if state is State.FAILED else None,
        unknown_word=said if said and said not in {*STATES, *_PARTS} else None,
    )


def _video_of(job: Mapping[str, Any], vendor: Mapping[str, Any], *, ended_well: bool) -> str | None:
    """Return the video: the gateway's own field first, then the vendor's, then a URL in place of a reason."""
    metadata = fields(job.get("metadata"))
    generations = [fields(each).get("url") for each in items(vendor.get("generations"))]
    stated = [
        metadata.get("url"),
        *(job.get(name) for name in ("upsample_video_url", "video_url", "result_url", "url")),
    ]
    stated += [vendor.get("video_url"), vendor.get("url"), *generations]
    stated += [job.get("fail_reason")] if ended_well else []
    found = (link(each, relative=False) for each in stated)
    url = next((each for each in found if each is not None), None)
    if url is None and ended_well and word(job.get("object")) == "video":
        url = f"/v1/videos/{quote(_id_of(job) or '', safe='')}/content"
    return url


def _failure(job: Mapping[str, Any], vendor: Mapping[str, Any]) -> Failure:
    """Return why it failed: by the error's message, else the vendor's, else the gateway's text."""
    for holder in (job, vendor):
        error = fields(holder.get("error"))
        text = line(error.get("message")) or (line(holder.get("error")) if not error else None)
        if text is not None:
            return _failure_from(text, word(error.get("code")))
    reason = line(job.get("fail_reason")) or line(job.get("error_message"))
    text = None if reason is None or "://" in reason[:8] else reason
    if text is None and "status_update_time" in job:
        return Failure("provider_error", retryable=True)  # the unified form states no reason
    return _failure_from(text, None)


def _failure_from(text: str | None, code: str | None) -> Failure:
    plain = (text or "").lower()
    if any(part in plain for part in _POLICY):
        return Failure("content_policy", text)
    by_text = failure_from_text(text)
    if code is None or by_text.code not in {"provider_error", "unknown"}:
        return by_text
    return dataclasses.replace(failure_from_text(code), message=text)


# The chat form ---------------------------------------------------------------------------------------------------


def _is_chat(document: Any) -> bool:
    return isinstance(document, dict) and isinstance(document.get("choices"), list)


def _read_chat(reply: Reply) -> Update:
    """Read a chat in Markdown: the job's id in back-ticks, its progress, then a poster and the film."""
    if not reply.ok:
        raise refusal(reply, creating=True)
    text, finished = _streamed_text(reply) if is_stream(reply) else _text(fields(reply.document))
    named = _TASK.search(text)
    job = None if named is None else named[1]
    films = [url for mark, url in _MARKDOWN.findall(text) if not mark and _is_film(url)]
    if films:
        return Update(state=State.SUCCEEDED, external_id=job, results=(Result("video", films[0]),))
    if any(part in text.lower() for part in (*_POLICY, *_FAILED)):
        return Update(state=State.FAILED, external_id=job, failure=_failure_from(line(text), None))
    if job is not None:
        is_running = any(part in text.lower() for part in _RUNNING)
        return Update(state=State.RUNNING if is_running else State.SUBMITTED, external_id=job)
    if not text.strip() or not finished:
        raise Uncertain("unreadable", "the answer has no id")
    return Update(state=State.FAILED, failure=_failure_from(line(text), None))


def _is_film(url: str) -> bool:
    return is_output(url) and (kind_of(url, "model") == "video")


def _text(document: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the text of a chat, and whether it is marked as complete."""
    choices = [fields(each) for each in items(document.get("choices"))]
    texts = [content for each in choices if isinstance(content := fields(each.get("message")).get("content"), str)]
    return "\n".join(texts), any(word(each.get("finish_reason")) == "stop" for each in choices)


def _streamed_text(reply: Reply) -> tuple[str, bool]:
    """Return the text of a streamed chat, and whether it is marked as complete."""
    events, _ = events_in(reply.text)
    choices = [fields(each) for event in events for each in items(fields(event.document).get("choices"))]
    pieces = [fields(each.get("delta")).get("content") for each in choices]
    text = "".join(piece for piece in pieces if isinstance(piece, str))
    return text, any(word(each.get("finish_reason")) == "stop" for each in choices)
