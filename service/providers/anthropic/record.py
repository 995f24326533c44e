"""Requests and answers of Anthropic's Messages API: the same at Anthropic and at gateways."""

from collections.abc import Mapping
from typing import Any

from service.domain.errors import AccountProblem, Refused, Unavailable, Uncertain, UpstreamError
from service.domain.task import Failure, Result, State, Task, Update
from service.domain.text import storable
from service.providers.anthropic.family import MODEL
from service.providers.dialect import merge
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import RETRYABLE
from service.providers.read import compact, fields, identifier, items, line, word
from service.providers.stream import Event, events_in, is_stream
from service.providers.wire import Call, Reply

PATHS: Mapping[str, str] = {"chat": "/v1/messages", "count_tokens": "/v1/messages/count_tokens"}
VERSION: Mapping[str, str] = {"anthropic-version": "2023-06-01"}
_MAX_TOKENS = 4096
"""The default of a required field."""

REFUSALS: Mapping[str, tuple[type[UpstreamError], str]] = {
    "invalid_request_error": (Refused, "invalid_input"),
    "authentication_error": (AccountProblem, "unauthorized"),
    "billing_error": (AccountProblem, "insufficient_credit"),
    "permission_error": (AccountProblem, "forbidden"),
    "not_found_error": (Refused, "not_found"),
    "request_too_large": (Refused, "invalid_input"),
    "rate_limit_error": (Unavailable, "rate_limited"),
    "overloaded_error": (Unavailable, "overloaded"),
    "api_error": (Uncertain, "unknown"),
    "timeout_error": (Uncertain, "provider_timeout"),
}
"""``error.type`` (Anthropic's errors page, its SDK 2.14)."""
_BY_STATUS: Mapping[int, tuple[type[UpstreamError], str]] = {
    402: (AccountProblem, "insufficient_credit"),
    408: (Uncertain, "provider_timeout"),
    499: (Uncertain, "provider_timeout"),
    504: (Uncertain, "provider_timeout"),
    529: (Unavailable, "overloaded"),
}
_BY_TEXT: tuple[tuple[tuple[str, ...], type[UpstreamError], str], ...] = (
    (("credit balance is too low", "usage limits", "spend limit"), AccountProblem, "insufficient_credit"),
    (("content filtering policy",), Refused, "content_policy"),
    (("on hold", "has been disabled", "is disabled"), AccountProblem, "forbidden"),
)
"""Texts that decide, whatever the type: an account's trouble comes as ``invalid_request_error`` and as 429, too."""
_TEXT_STATUSES = frozenset({400, 403, 429})
_ENDS = frozenset({"end_turn", "stop_sequence", "max_tokens", "tool_use", "pause_turn"})
"""``stop_reason`` of an answer that counts. One that was cut off by the caller's own limit does, too."""
_SAID_BESIDE = frozenset({"max_tokens", "tool_use", "pause_turn"})
_FAILURES = {
    "overloaded_error": "overloaded",
    "rate_limit_error": "rate_limited",
    "timeout_error": "provider_timeout",
    "invalid_request_error": "invalid_input",
}
"""The failure code of an error that ended a stream, by its type."""


# What is sent ----------------------------------------------------------------------------------------------------


def create(task: Task) -> Call:
    """Return the call that creates a message, or counts its tokens."""
    body = params_of(task.input, task.model or MODEL, counts=task.operation == "count_tokens")
    return Call(method="POST", path=PATHS[task.operation], json=merge(body, task.options), headers=VERSION)


def params_of(given: Mapping[str, Any], model: str, *, counts: bool = False) -> dict[str, Any]:
    """Return the parameters of a message.

    :param counts: whether only its tokens are counted
    """
    body: dict[str, Any] = {
        "model": model,
        "messages": given.get("messages") or [{"role": "user", "content": _content(given)}],
        "system": given.get("system"),
    }
    if not counts:
        body |= {"max_tokens": given.get("max_tokens", _MAX_TOKENS), "temperature": given.get("temperature")}
    return body


def _content(given: Mapping[str, Any]) -> Any:
    """Return the prompt, or with images the blocks of a message: the images come first."""
    prompt, images = given.get("prompt", ""), given.get("images", ())
    if not images:
        return prompt
    return [*({"type": "image", "source": _source(each)} for each in images), {"type": "text", "text": prompt}]


def _source(image: str) -> dict[str, str]:
    head, _, data = image.partition(",")
    if head[:5].lower() != "data:":
        return {"type": "url", "url": image}
    return {"type": "base64", "media_type": head[5:].partition(";")[0].lower() or "image/png", "data": data}


# What is read ----------------------------------------------------------------------------------------------------


def refusal(reply: Reply, *, creating: bool) -> UpstreamError:
    """Return what an error means: by its text, its type and its HTTP status; an error of a gateway as at any gateway."""
    error = fields(fields(reply.document).get("error"))
    kind, message = (word(error.get("type")) or "").lower(), line(error.get("message"))
    plain = (message or "").lower()
    for parts, found, code in _BY_TEXT:
        if reply.status in _TEXT_STATUSES and any(part in plain for part in parts):
            return found(code, message)
    stated = _BY_STATUS.get(reply.status) or REFUSALS.get(kind)
    if stated is None or (reply.status == 503 and kind == "api_error"):  # noqa: PLR2004 - not served, by the status
        return newapi_errors.refusal_in(reply, creating=creating)
    found, code = stated
    if found is Uncertain and not creating:
        found = Unavailable
    return found(code, message, retry_after=reply.retry_after, broken=reply.status in range(500, 600))


def read_created(reply: Reply) -> Update:
    """Read a message, whole or as a stream, or the number of its tokens."""
    document = reply.document
    if not reply.ok or (isinstance(document, dict) and "error" in document):
        raise refusal(reply, creating=True)
    if reply.endpoint.endswith("/count_tokens"):
        return _count(document)
    if is_stream(reply):
        return _streamed(reply)
    update = read_message(document)
    if update is None:
        raise Uncertain("unreadable", "the answer is no message")
    return update


def read_message(document: Any) -> Update | None:
    """Read a whole message; None for any other document."""
    message = fields(document)
    if not isinstance(message.get("content"), list) or identifier(message.get("id")) is None:
        return None
    blocks = [fields(each) for each in items(message.get("content"))]
    texts = [text for each in blocks if each.get("type") == "text" and isinstance(text := each.get("text"), str)]
    return _message(message, "".join(texts))


def _count(document: Any) -> Update:
    if "input_tokens" not in fields(document):
        raise Uncertain("unreadable", "the answer has no number of tokens")
    return Update(state=State.SUCCEEDED, results=(Result("json", text=compact(document)),))


def _message(message: Mapping[str, Any], text: str) -> Update:
    """Read why a message ended; its text is one result."""
    reason, job = (word(message.get("stop_reason")) or "").lower(), identifier(message.get("id"))
    result = Result("text", text=storable(text))
    beside = (Result("json", text=compact({"stop_reason": reason}), role="extra"),) if reason in _SAID_BESIDE else ()
    if reason in _ENDS:
        return Update(state=State.SUCCEEDED, external_id=job, results=(result, *beside))
    if reason == "refusal":
        stated = line(fields(message.get("stop_details")).get("explanation"))
        return Update(state=State.FAILED, external_id=job, failure=Failure("content_policy", stated or reason))
    if reason == "model_context_window_exceeded":
        kept = (result,) if text else ()
        return Update(state=State.FAILED, external_id=job, results=kept, failure=Failure("provider_error", reason))
    return Update(external_id=job, unknown_word=reason or None)


def settled(update: Update) -> Update:
    """Return the update of a message that has ended.

    :raises Uncertain: for a reason that is not known: the message is paid, and cannot be asked for again
    """
    if update.state is None:
        raise Uncertain("unknown", f"the message ended for an unknown reason: {update.unknown_word or 'none'}")
    return update


def failure_of(error: Any) -> Failure:
    """Return why a message was not made, by the error in its place."""
    said = fields(fields(error).get("error")) or fields(error)
    code = _FAILURES.get((word(said.get("type")) or "").lower(), "provider_error")
    return Failure(code, line(said.get("message")), retryable=code in RETRYABLE)


def _streamed(reply: Reply) -> Update:
    """Read a stream. One that ends in an error fails, and keeps its text; one that is cut off is uncertain."""
    events, _ = events_in(reply.text)
    message: dict[str, Any] = {}
    texts: list[str] = []
    for event in events:
        document = fields(event.document)
        if event.name == "error" or "error" in document:
            return _broken_off(event, message, "".join(texts))
        if event.name == "message_start":
            message = dict(fields(document.get("message")))
        elif event.name == "content_block_start":
            texts += _text_of(fields(document.get("content_block")), "text")
        elif event.name == "content_block_delta":
            texts += _text_of(fields(document.get("delta")), "text_delta")
        elif event.name == "message_delta":
            delta = fields(document.get("delta"))
            message |= {name: delta[name] for name in ("stop_reason", "stop_details") if name in delta}
    if not any(event.name == "message_stop" for event in events):
        raise Uncertain("unreadable", "the stream ended before the message was complete")
    return _message(message, "".join(texts))


def _text_of(holder: Mapping[str, Any], kind: str) -> list[str]:
    text = holder.get("text")
    return [text] if holder.get("type") == kind and isinstance(text, str) else []


def _broken_off(event: Event, message: Mapping[str, Any], text: str) -> Update:
    failure = failure_of(event.document)
    kept = (Result("text", text=storable(text)),) if text else ()
    return Update(state=State.FAILED, external_id=identifier(message.get("id")), results=kept, failure=failure)
