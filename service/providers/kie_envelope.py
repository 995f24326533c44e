"""The envelope, the refusals and the signature that kie.ai has for all families, and sunoapi.org for the older of them."""

import base64
import dataclasses
import hashlib
import hmac
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from service.domain.errors import AccountProblem, NotFound, Refused, Unavailable, Uncertain, UpstreamError
from service.domain.task import Failure
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import RETRYABLE, failure_from_text
from service.providers.read import fields, identifier, line, number, word
from service.providers.wire import Balance, BalanceExchange, Call, Callback, Reply

FAILURES: Mapping[str, str] = {
    **dict.fromkeys(("400", "422"), "invalid_input"),  # lyrics under copyright among them
    "408": "provider_timeout",
    "413": "content_policy",  # the upload is protected by copyright
    "451": "invalid_input",  # our file could not be fetched
    **dict.fromkeys(("429", "433"), "rate_limited"),
    **dict.fromkeys(("500", "501", "531"), "provider_error"),
}
"""``errorCode`` or ``failCode`` of a record, ``code`` of an error callback."""
REFUSALS: Mapping[int, tuple[type[UpstreamError], str]] = {
    405: (Unavailable, "rate_limited"),
    430: (Unavailable, "rate_limited"),
    433: (Unavailable, "rate_limited"),
    455: (Unavailable, "overloaded"),
    505: (AccountProblem, "forbidden"),  # the feature is switched off for the account or the model
}
"""Codes in a body whose meaning differs from that of the HTTP status (sunoapi.org and kie.ai, status codes)."""
_UNSETTLED = frozenset({409, 501})
"""Codes after which a job may exist: a conflict, and a failed generation."""
_TOO_MANY = 429
_SERVER_ERROR = 500
_SIGNATURE_TOLERANCE = 300.0
"""Seconds."""
_UNKNOWN_RECORD = "recordinfo is null"


def agrees(document: Any) -> bool:
    """Return whether a body reports success. Some bodies leave the code out."""
    code = document.get("code") if isinstance(document, dict) else "no object"
    return code is None or str(code) == str(HTTPStatus.OK.value)


def refusal_of(reply: Reply, *, creating: bool, credit_is_429: bool = True) -> UpstreamError:
    """Return the meaning of a refusal: by the body's code, at any HTTP status.

    429 means no credit at sunoapi.org and too many requests at kie.ai, and a dialect does not know its host. The text
    decides; without one it reads as too many requests. Nothing was created either way. A retry is right after a limit
    and harmless without credit, while to stop using the account would be wrong after a limit.

    :param credit_is_429: whether a 429 that speaks of credit means that there is none; kie.ai's means a tighter limit
    """
    said = fields(reply.document)
    code, message = number(said.get("code")), line(said.get("msg")) or line(said.get("message"))
    if code is None or agrees(said):
        return newapi_errors.refusal_in(reply, creating=creating)
    if not creating and _UNKNOWN_RECORD in (message or "").lower():
        return NotFound("not_found", message)
    if code in _UNSETTLED:
        return (Uncertain if creating else Unavailable)("provider_error", message)
    error, name = REFUSALS.get(int(code), (None, ""))
    means = failure_from_text(message).code
    if code == _TOO_MANY and means == "insufficient_credit":
        error, name = (AccountProblem, means) if credit_is_429 else (Unavailable, "rate_limited")
    if creating and code == _SERVER_ERROR and means == "invalid_input":
        error, name = Refused, means  # it names the input: nothing was made of it
    if error is not None:
        return error(name, message, retry_after=reply.retry_after)
    return newapi_errors.refusal_in(dataclasses.replace(reply, status=int(code)), creating=creating)


def failure_of(text: str | None, code: str | None, codes: Mapping[str, str] | None = None) -> Failure:
    """Return why a job failed: by the text, or by the code if the text has no meaning.

    :param codes: meanings of codes that differ from the table
    """
    # 'Rejected' is kie.ai's word for any failure; gateways use it for refused content.
    plain = failure_from_text((text or "").lower().replace("rejected", "")).code
    named = plain if plain not in {"unknown", "provider_error"} else (codes or FAILURES).get(code or "", plain)
    return Failure(named, text, retryable=named in RETRYABLE)


def credits_left(path: str) -> BalanceExchange:
    """Request the credits of the account."""
    reply = yield Call(method="GET", path=path)
    left = number(fields(reply.document).get("data"))
    if not reply.ok or not agrees(reply.document) or left is None:
        raise refusal_of(reply, creating=False)
    return Balance(left, "credits")


def job_of(data: Mapping[str, Any]) -> str | None:
    """Return the task's id: callbacks spell it in two ways."""
    return identifier(data.get("task_id")) or identifier(data.get("taskId"))


def code_of(data: Mapping[str, Any]) -> str | None:
    """Return the code of a failure in a record."""
    return next(filter(None, (word(data.get(name)) for name in ("errorCode", "failCode"))), None)


def signature_is_right(callback: Callback, secret: str | None) -> bool | None:
    """Return whether kie.ai's signature is right: base64(HMAC-SHA256(task id + "." + timestamp, key)); None without a key."""
    if secret is None:
        return None
    stated = {name.lower(): value for name, value in callback.headers.items()}
    at, signature = stated.get("x-webhook-timestamp", ""), stated.get("x-webhook-signature", "")
    data, signed_at = fields(fields(callback.document).get("data")), number(at)
    given = signature.encode("utf-8", "replace")
    # Callbacks spell the id in two ways, and the vendor's sample takes only one of them.
    jobs = {identifier(data.get("taskId")), identifier(data.get("task_id"))} - {None}
    signed = [f"{job}.{at}".encode("utf-8", "replace") for job in jobs]
    expected = [base64.b64encode(hmac.digest(secret.encode(), each, hashlib.sha256)) for each in signed]
    if signed_at is None or not any(hmac.compare_digest(each, given) for each in expected):
        return False
    return abs((callback.received_at or signed_at) - signed_at) <= _SIGNATURE_TOLERANCE
