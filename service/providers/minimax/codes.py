"""MiniMax's error codes. The older generation delivers them with HTTP 200, the newer one within its messages."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from service.domain.errors import AccountProblem, NotFound, Refused, Unavailable, Uncertain, UpstreamError
from service.domain.task import Failure
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import RETRYABLE
from service.providers.newapi.video import video_failure
from service.providers.read import fields, line, number, word
from service.providers.wire import Reply

Verdict = tuple[type[UpstreamError], str]
CODES: Mapping[int, Verdict] = {
    **dict.fromkeys((1002, 1039, 1041, 2045), (Unavailable, "rate_limited")),
    **dict.fromkeys((1000, 1024, 1033), (Uncertain, "provider_error")),
    1001: (Uncertain, "provider_timeout"),
    **dict.fromkeys((1004, 2049), (AccountProblem, "unauthorized")),
    **dict.fromkeys((1008, 1028, 1030, 2056), (AccountProblem, "insufficient_credit")),
    **dict.fromkeys((2038, 2061), (AccountProblem, "forbidden")),
    **dict.fromkeys((1026, 1027), (Refused, "content_policy")),
    **dict.fromkeys((1042, 2013), (Refused, "invalid_input")),
}
"""The class of a submit's ``base_resp.status_code`` (MiniMax's page on error codes).

1039 is a token limit there; MiniMax's own command-line client reads it as a content filter.
"""
_INVALID = 2013
_BRACKETED = re.compile(r"\((\d{4})\)\s*$")
_STATUSES: Mapping[str, int] = {
    "bad_request_error": 400,
    "invalid_request_error": 400,
    "authorized_error": 401,
    "insufficient_balance_error": 402,
    "unprocessable_entity_error": 422,
    "rate_limit_error": 429,
    "server_error": 500,
    "overloaded_error": 529,
}
"""The HTTP status of each ``error.type`` of the newer generation, for errors that come with HTTP 200."""
_OVERLOADED = 529
_MODERATED = 422
_BAD_REQUEST = 400


def status_code_of(document: Any) -> int | None:
    """Return ``base_resp.status_code``, also in a gateway's wrapper; None where there is none."""
    stated = number(fields(fields(document).get("base_resp")).get("status_code"))
    return None if stated is None else int(stated)


def by_code(code: int, message: str | None, *, creating: bool) -> UpstreamError:
    """Return the class of a code. An unknown code in the answer to a submit may hide a job."""
    error, name = CODES.get(code, (Uncertain, "provider_error"))
    if not creating and code == _INVALID and "task_id" in (message or ""):
        return NotFound("not_found", message)
    if not creating and error is Uncertain:
        error = Unavailable
    return error(name, message, broken=error is Uncertain)


def refusal_of(reply: Reply, *, creating: bool) -> UpstreamError:
    """Return the error that a reply without a task means, in the older generation."""
    code = status_code_of(reply.document)
    if code:
        message = line(fields(fields(reply.document).get("base_resp")).get("status_msg"))
        return by_code(code, message, creating=creating)
    return newapi_errors.refusal_in(reply, creating=creating)


def refusal_of_newer(reply: Reply, *, creating: bool) -> UpstreamError:
    """Return the error that a reply without a task means, in the newer generation: by the HTTP status, or by its type."""
    error = fields(fields(reply.document).get("error"))
    if status_code_of(reply.document) or not error:
        return refusal_of(reply, creating=creating)
    message = line(error.get("message"))
    stated = number(error.get("http_code"))
    status = _STATUSES.get(word(error.get("type")) or "") or (int(stated) if stated is not None else 0)
    status = reply.status if not reply.ok else status
    found = _BRACKETED.search(message or "")
    code = int(found[1]) if found is not None else 0
    if status == _BAD_REQUEST and code in CODES:
        return by_code(code, message, creating=creating)
    if status == _MODERATED:
        return Refused("content_policy", message)
    if status == _OVERLOADED:
        return Unavailable("overloaded", message, retry_after=reply.retry_after, broken=True)
    return newapi_errors.refusal_in(dataclasses.replace(reply, status=status or reply.status), creating=creating)


def is_known(code: Any) -> bool:
    """Return whether a value is one of MiniMax's codes."""
    stated = number(code)
    return stated is not None and int(stated) in CODES


def failure(code: Any, text: Any) -> Failure:
    """Return why a job failed: by MiniMax's code where that is known, else by the text."""
    stated, message = number(code), line(text)
    verdict = CODES.get(int(stated)) if stated is not None else None
    if verdict is None:
        return video_failure(message)
    return Failure(verdict[1], message, retryable=verdict[1] in RETRYABLE)
