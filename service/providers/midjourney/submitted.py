"""Reading of the answers to submits and to failed queries: an id, or why nothing was taken."""

import dataclasses
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from service.domain.errors import AccountProblem, NotFound, Refused, Unavailable, Uncertain, UpstreamError
from service.domain.task import Result, State, Update
from service.providers.midjourney.record import read_state
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import failure_from_text
from service.providers.newapi.lost_answers import is_lost
from service.providers.read import fields, identifier, links, word
from service.providers.wire import Reply

Record = Mapping[str, Any]

Verdict = tuple[type[UpstreamError], str]
"""The class of the error, and the code of the reason."""
_NOT_FOUND = 3
_NOT_TAKEN: Mapping[int, Verdict] = {
    _NOT_FOUND: (Unavailable, "overloaded"),  # no account is free; see _OF_A_PARENT
    4: (Refused, "invalid_input"),
    5: (Uncertain, "provider_error"),  # new-api: it asked the engine and got no usable answer
    9: (Unavailable, "provider_error"),
    23: (Unavailable, "overloaded"),  # some pages print an id here; the engine has removed the task
    24: (Refused, "content_policy"),
    30: (Unavailable, "overloaded"),
    -1: (Unavailable, ""),  # an engine's business error: the text names the code
}
"""``code`` of a submit's answer that took nothing, or may not have (5). Sources: midjourney-proxy, new-api's relay."""
_TAKEN = frozenset({1, 22})
_WAITS = 21  # now: for the modal; in older engines: the same task exists already
_REFUSALS: Mapping[str, Verdict] = {
    "prompt_is_required": (Refused, "invalid_input"),
    "custom_id_is_required": (Refused, "invalid_input"),
    "index_is_required": (Refused, "invalid_input"),
    "index_parse_failed": (Refused, "invalid_input"),
    "bind_request_body_failed": (Refused, "invalid_input"),
    "task_not_found": (Refused, "not_found"),
    "task_no_found": (Refused, "not_found"),
    "quota_not_enough": (AccountProblem, "insufficient_credit"),
    # The parent is not finished in the gateway's copy, which lags behind callbacks: nothing was created.
    "task_status_not_success": (Unavailable, "provider_error"),
    "do_request_failed": (Uncertain, "provider_error"),
    "read_response_body_failed": (Uncertain, "provider_error"),
    "unmarshal_response_body_failed": (Uncertain, "provider_error"),
    "empty_response_body": (Uncertain, "provider_error"),
    "insert_midjourney_task_failed": (Uncertain, "provider_error"),
}
"""The first word of ``description``, whatever the code: new-api has 4 for nearly everything (relay/relay-mj.go)."""
_REFUSAL_PARTS: Mapping[str, Verdict] = {
    "该任务所属渠道已被禁用": (Refused, "provider_error"),  # the account behind the parent is gone
    "unknown_action": (Refused, "invalid_input"),  # a button for which new-api has no price
}
_UNKNOWN_TASK = frozenset({"task_no_found", "task_not_found", "midjourney_task_not_found"})
_LAG = 5.0  # seconds: a gateway polls its engine every 15
_VERB = re.compile(r"/(?:submit|insight-face)/([\w-]+)|/(image-seed)\b", re.ASCII)
_OF_A_PARENT = frozenset({"action", "change", "simple-change", "modal", "video", "image-seed"})
"""The routes where code 3 means that the parent is gone, unless the text is about accounts."""
_HOOK = re.compile(rb'(notifyHook\\*"\s*:\s*\\*")(?:[^"\\]|\\[^"])*')
"""The callback URL, echoed with its token. No error message may contain it."""


def verb_of(endpoint: str) -> str:
    """Return the verb of an endpoint that creates: ``imagine`` of ``POST /mj-fast/mj/submit/imagine``; blank for any other."""
    found = _VERB.search(endpoint)
    return (found[1] or found[2]) if found else ""


def read_submit(reply: Reply) -> Update:
    """Read the answer to a submit. An id means that the job may exist, even where the answer reports an error."""
    verb = verb_of(reply.endpoint)
    said = fields(reply.document)
    code = _code(said)
    if reply.ok and code not in _NOT_TAKEN and (update := _taken(said, code, verb)) is not None:
        return update
    raise _refusal(reply, code, verb)


def _code(said: Record) -> int | None:
    text = word(said.get("code")) or ""
    return int(text) if re.fullmatch(r"-?\d{1,4}", text, re.ASCII) else None


def _taken(said: Record, code: int | None, verb: str) -> Update | None:
    """Read the result of a submit: an id, the links of uploaded images, or a seed."""
    result = said.get("result")
    if verb in {"upload-discord-images", "image-seed"} or isinstance(result, list):
        given = [Result("image", url) for url in links(result)]
        if verb == "image-seed":
            given = [Result("text", text=text) for text in [word(result)] if text is not None]
        return Update(state=State.SUCCEEDED, results=tuple(given)) if given and code in _TAKEN else None
    external_id = identifier(result)
    if external_id is None:
        return None
    there = fields(said.get("properties"))
    if code != _WAITS:
        return Update(state=State.SUBMITTED, external_id=external_id)
    if word(there.get("status")) or word(there.get("imageUrl")):
        return Update(state=State.SUBMITTED, external_id=external_id, unknown_word=read_state(there)[1])
    return Update(state=State.AWAITING_INPUT, external_id=external_id)


def _refusal(reply: Reply, code: int | None, verb: str) -> UpstreamError:
    """Return why nothing was taken, or why that is not certain."""
    reply = _without_hook(reply)
    message = newapi_errors.complaint(reply.document).message
    verdict = _by_words(message) or _by_code(reply, code, message, verb)
    if verdict is not None:
        error, reason = verdict
        if is_lost(message):  # the engine may have passed the job on before its connection broke
            error = Uncertain
        wait = _LAG if error is Unavailable and _first_word(message) == "task_status_not_success" else None
        reason = reason or failure_from_text(message).code
        return error(reason, message, retry_after=reply.retry_after or wait)
    shared = newapi_errors.refusal_in(reply, creating=True)
    if reply.ok and code is not None and isinstance(shared, Refused):
        return Uncertain("unreadable", message)  # an unknown code proves nothing
    return shared


def _first_word(message: str | None) -> str:
    return ((message or "").split(maxsplit=1) or [""])[0].lower()


def _by_words(message: str | None) -> Verdict | None:
    """Return the meaning of the message's first word, or of a cause that follows it."""
    parts = (verdict for part, verdict in _REFUSAL_PARTS.items() if part in (message or ""))
    return _REFUSALS.get(_first_word(message)) or next(parts, None)


def _by_code(reply: Reply, code: int | None, message: str | None, verb: str) -> Verdict | None:
    """Return the meaning of the code where an engine answers. Other statuses are the gateway's own."""
    verdict = _NOT_TAKEN.get(code) if code is not None else None
    about_accounts = any(part in (message or "").lower() for part in ("账号", "account"))
    if code == _NOT_FOUND and verb in _OF_A_PARENT and not about_accounts:
        verdict = (Refused, "not_found")
    if verdict is None or reply.ok or reply.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND}:
        return verdict
    return verdict if reply.status == HTTPStatus.TOO_MANY_REQUESTS and verdict[0] is Unavailable else None


def no_task(reply: Reply) -> UpstreamError:
    """Return why a query was answered without a task. For an unknown id engines send an empty answer."""
    if reply.ok and (not reply.body.strip() or reply.document in (None, [])):
        return NotFound("not_found")
    reply = _without_hook(reply)
    message = newapi_errors.complaint(reply.document).message
    if _first_word(message) in _UNKNOWN_TASK:
        return NotFound("not_found", message)
    return newapi_errors.refusal_in(reply, creating=False)


def _without_hook(reply: Reply) -> Reply:
    return dataclasses.replace(reply, body=_HOOK.sub(rb"\1", reply.body))
