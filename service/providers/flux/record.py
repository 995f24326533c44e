"""Reading of BFL's answers: of a submit, of a poll and of a callback."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from service.domain.errors import NotFound, Refused, UpstreamError
from service.domain.task import ENDED, Failure, Result, State, Update
from service.providers.dialect import accepted
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import RETRYABLE, failure_from_text
from service.providers.read import fields, identifier, items, kind_of, line, link, number, percent, word
from service.providers.wire import Reply

STATES = {
    "pending": State.RUNNING,
    "reasoning": State.RUNNING,  # FLUX 3 plans for minutes
    "generating": State.RUNNING,
    "ready": State.SUCCEEDED,
    "request moderated": State.FAILED,
    "content moderated": State.FAILED,
    "error": State.FAILED,
    "failed": State.FAILED,
}
"""``status`` of BFL's OpenAPI description and of clients, in lower case."""
_MODERATED = frozenset({"request moderated", "content moderated"})
_MISSING = "task not found"
_DOMAIN = "bfl.ai"
_HOST = re.compile(r"[a-z0-9.\-]{1,100}", re.ASCII)
_CODES = {
    "content_policy_violation": "content_policy",
    "generation_timeout": "provider_timeout",
    "invalid_image": "invalid_input",
    "internal_error": "provider_error",
}
_REASONS = "Moderation Reasons"


def is_answer(document: Any) -> bool:
    """Return whether a document is an answer about a task."""
    return isinstance(document, dict) and (_said(document) != "" or identifier(document.get("id")) is not None)


def _said(document: Mapping[str, Any]) -> str:
    return (word(document.get("status")) or word(document.get("state")) or "").lower()


def read(document: Any) -> Update:
    """Read an answer about a task. One without an output keeps the state, although its status is ``Ready``."""
    job = fields(document)
    said = _said(job)
    state = STATES.get(said)
    made = fields(job.get("result"))
    results = _results(made)
    if state is State.SUCCEEDED and not results:
        state = None
    preview = link(fields(job.get("preview")).get("sample"))
    shown = () if preview is None or state in ENDED else (Result(kind_of(preview, "image"), preview, role="preview"),)
    return Update(
        state=state,
        external_id=identifier(job.get("id")),
        progress=percent(job.get("progress"), fraction=True),
        results=results if state in ENDED else shown,
        failure=_failure(job, said) if state is State.FAILED else None,
        cost=number(job.get("cost")),
        unknown_word=said if said and said not in STATES and said != _MISSING else None,
    )


def read_poll(reply: Reply) -> Update:
    """Read the answer to a poll. An unknown task is a status with HTTP 200, and just after the submit it is lag."""
    if not reply.ok or not is_answer(reply.document):
        raise refusal_of(reply, creating=False)
    if _said(reply.document) == _MISSING:
        raise NotFound("not_found", word(reply.document.get("status")))
    return read(reply.document)


def host_of(polling_url: Any) -> str | None:
    """Return the host of a ``polling_url`` of BFL's own hosts; None for any other, which the key must not go to."""
    try:
        parts = urlsplit(polling_url if isinstance(polling_url, str) else "")
        host, plain = (parts.hostname or "").lower(), parts.port is None and parts.username is None
    except ValueError:
        return None
    if parts.scheme != "https" or not plain or _HOST.fullmatch(host) is None:
        return None
    return host if host == _DOMAIN or host.endswith(f".{_DOMAIN}") else None


def read_submitted(reply: Reply) -> Update:
    """Read the answer to a submit: an id, and with a webhook URL the first status."""
    update = read(reply.document)
    if not reply.ok or update.external_id is None:
        raise refusal_of(reply, creating=True)
    return accepted(update)


def _results(made: Mapping[str, Any]) -> tuple[Result, ...]:
    sample, draft = link(made.get("sample"), relative=False), link(made.get("draft_cache"), relative=False)
    if sample is None:
        return ()
    main = Result(kind_of(sample, "image"), sample)
    return (main,) if draft is None else (main, Result("video", draft, role="extra"))


def _failure(job: Mapping[str, Any], said: str) -> Failure:
    """Return why it failed: by the status, else by a code word, else by the text."""
    details, plain = (
        fields(job.get("details")),
        line(job.get("details")) if isinstance(job.get("details"), str) else None,
    )
    if said in _MODERATED:
        reasons = [text for each in items(details.get(_REASONS)) if (text := line(each)) is not None]
        return Failure("content_policy", ", ".join(reasons) or plain or line(details.get("message")))
    named = [word(value) for value in (job.get("error"), details.get("error"), details.get("type"))]
    text = line(job.get("message")) or line(details.get("message")) or plain
    text = text or next((each for each in named if each is not None), None)
    code = next((_CODES[each] for each in named if each in _CODES), None) or failure_from_text(text).code
    return Failure(code, text, retryable=code in RETRYABLE)


def refusal_of(reply: Reply, *, creating: bool) -> UpstreamError:
    """Return the meaning of an error. A 503 proves that nothing was created only if it mentions the load."""
    found = newapi_errors.refusal_in(reply, creating=creating)
    said = fields(reply.document)
    if found.retry_after is None:
        found.retry_after = number(said.get("retry_after"))
    if creating and isinstance(found, Refused) and isinstance(said.get("detail"), list):
        return Refused(found.code, found.message, details=_issues(said["detail"]))
    return newapi_errors.unless_overloaded(found, reply, creating=creating)


def _issues(detail: list[Any]) -> tuple[str, ...]:
    """Return each mistake in the input: where it is, and what is wrong."""
    found = [fields(each) for each in detail[:20]]
    stated = [(items(each.get("loc"))[1:], line(each.get("msg"))) for each in found]
    return tuple(f"{'.'.join(word(part) or '' for part in path)}: {text}" for path, text in stated if text is not None)
