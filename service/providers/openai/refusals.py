"""The errors of OpenAI's API, also as gateways relay them: ``{"error": {"message", "type", "param", "code"}}``."""

from collections.abc import Mapping
from typing import Any

from service.domain.errors import AccountProblem, Refused, Unavailable, Uncertain, UpstreamError
from service.domain.task import Failure
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import RETRYABLE, failure_from_text
from service.providers.read import fields, line, word
from service.providers.wire import Reply

BY_CODE: Mapping[str, tuple[type[UpstreamError], str]] = {
    "billing_hard_limit_reached": (AccountProblem, "insufficient_credit"),
    "billing_not_active": (AccountProblem, "insufficient_credit"),
    "insufficient_quota": (AccountProblem, "insufficient_credit"),
    "invalid_api_key": (AccountProblem, "unauthorized"),
    "account_deactivated": (AccountProblem, "forbidden"),
    "moderation_blocked": (Refused, "content_policy"),
    "content_policy_violation": (Refused, "content_policy"),
    "content_filter": (Refused, "content_policy"),
    "image_content_policy_violation": (Refused, "content_policy"),
    "bio_policy": (Refused, "content_policy"),
    "misalignment_policy_violation": (Refused, "content_policy"),
}
"""``error.code``, where it says more than the HTTP status (OpenAI's errors page, its SDK 3.57)."""

FAILURES: Mapping[str, str] = {
    "server_error": "provider_error",
    "vector_store_timeout": "provider_timeout",
    "rate_limit_exceeded": "rate_limited",
    **dict.fromkeys(
        (
            "invalid_prompt",
            "data_residency_mismatch",
            "invalid_image",
            "invalid_image_format",
            "invalid_base64_image",
            "invalid_image_url",
            "invalid_image_mode",
            "image_too_large",
            "image_too_small",
            "image_parse_error",
            "image_file_too_large",
            "unsupported_image_media_type",
            "empty_image_file",
            "failed_to_download_image",
            "image_file_not_found",
        ),
        "invalid_input",
    ),
    **{code: verdict for code, (_, verdict) in BY_CODE.items() if verdict == "content_policy"},
}
"""``error.code`` of a job that failed."""

_CONFLICT = 409
_DECIDED = frozenset({*range(200, 300), *range(400, 500)})
_NO_ROUTE = "invalid url"
_NOT_FOUND = 404


def refusal(reply: Reply, *, creating: bool) -> UpstreamError:
    """Return what an error means, as the error to raise: by OpenAI's code where it decides, else as at any gateway."""
    error = fields(fields(reply.document).get("error"))
    code, message = (word(error.get("code")) or "").lower(), line(error.get("message"))
    if code in BY_CODE and reply.status in _DECIDED:
        found, verdict = BY_CODE[code]
        return found(verdict, message, retry_after=reply.retry_after)
    if reply.ok and creating and not isinstance(within := _within(error, code, message), Uncertain):
        return within
    if reply.status == _NOT_FOUND and _NO_ROUTE in (message or "").lower():
        return AccountProblem("forbidden", message)  # the host has no such route: nothing is said about the job
    if reply.status == _CONFLICT and not creating:
        return Unavailable("provider_error", message)
    return newapi_errors.refusal_in(reply, creating=creating)


def carries_error(document: Any) -> bool:
    """Return whether a document is an error, with any HTTP status."""
    return bool(fields(document).get("error")) if isinstance(document, dict) else False


def refused_within(document: Any) -> UpstreamError:
    """Return what an error within a stream means, which may come after a part of the answer."""
    error = fields(fields(document).get("error")) or fields(document)
    return _within(error, (word(error.get("code")) or "").lower(), line(error.get("message")))


def _within(error: Mapping[str, Any], code: str, message: str | None) -> UpstreamError:
    """Return what an error in an answer with HTTP 200 means.

    The request had been taken by then. So only an error that names its reason settles it; anything else is uncertain.
    """
    if code in BY_CODE:
        found, verdict = BY_CODE[code]
        return found(verdict, message)
    named = f"{code} {(word(error.get('type')) or '').lower()}"
    if "rate_limit" in named:
        return Unavailable("rate_limited", message)
    if "invalid_request" in named or "user_error" in named:
        return Refused("content_policy" if _is_policy(message) else "invalid_input", message)
    return Uncertain("provider_error", message)


def _is_policy(message: str | None) -> bool:
    return failure_from_text(message).code == "content_policy"


def failure_in(error: Any) -> Failure:
    """Return why a job failed, by its code, or else by its text."""
    stated = fields(error)
    code, message = (word(stated.get("code")) or "").lower(), line(stated.get("message"))
    message = message or (line(error) if not stated else None) or code or None
    if code in FAILURES:
        return Failure(FAILURES[code], message, retryable=FAILURES[code] in RETRYABLE)
    return failure_from_text(message)
