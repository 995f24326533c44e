"""Reading of fal's requests: their status, their results, their callbacks and their errors."""

from collections.abc import Iterator, Mapping
from typing import Any

from service.domain.errors import AccountProblem, Unreadable, UpstreamError
from service.domain.task import Failure, Result, ResultKind, ResultRole, State, Update
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import RETRYABLE, failure_from_text
from service.providers.read import compact, fields, identifier, items, kind_of, line, link, nested, place, prose, word
from service.providers.wire import Reply

STATES: Mapping[str, State | None] = {
    "in_queue": State.SUBMITTED,
    "in_progress": State.RUNNING,
    "completed": None,  # an answer exists, good or bad: the result tells
    "ok": State.SUCCEEDED,  # a callback's
    "error": State.FAILED,
}
"""``status`` of a request and of a callback (fal's pages on its queue and its webhooks), in lower case."""
_INVALID = "invalid_input"
_CODES: Mapping[str, str] = {
    "content_policy_violation": "content_policy",
    "no_media_generated": "provider_error",
    "generation_timeout": "provider_timeout",
    "internal_server_error": "provider_error",
    "downstream_service_error": "provider_error",
    "downstream_service_unavailable": "overloaded",
    "request_timeout": "provider_timeout",
    "startup_timeout": "provider_timeout",
    "internal_error": "provider_error",
    "client_disconnected": "cancelled",
    "client_cancelled": "cancelled",
    "bad_request": _INVALID,
    "feature_not_supported": _INVALID,
    "invalid_archive": _INVALID,
    "face_detection_error": _INVALID,
    "missing": _INVALID,
    "one_of": _INVALID,
    "multiple_of": _INVALID,
}
"""``type`` of a model error and ``error_type`` of a request error (fal's page on errors)."""
_PREFIXES: tuple[tuple[str, str], ...] = (
    ("runner_", "provider_error"),
    ("image_", _INVALID),
    ("file_", _INVALID),
    ("audio_", _INVALID),
    ("video_", _INVALID),
    ("unsupported_", _INVALID),
    ("greater_than", _INVALID),
    ("less_than", _INVALID),
    ("sequence_too_", _INVALID),
    ("value_error", _INVALID),
    ("type_error", _INVALID),
)
_SUFFIXES = ("_duration_too_long", "_duration_too_short", "_parsing", "_type", "_too_long", "_too_short")
"""The ends of types of mistakes in the input, also those of pydantic."""
_OUTPUTS: tuple[tuple[str, ResultKind], ...] = (
    ("images", "image"),
    ("image", "image"),
    ("video", "video"),
    ("videos", "video"),
    ("audio", "audio"),
    ("audio_file", "audio"),
    ("audio_url", "audio"),
    ("model_mesh", "model"),
    ("model_glb", "model"),
)
"""The fields that hold a model's main outputs, in their order."""
_TEXTS = ("output", "text")
_OF_A_REQUEST = frozenset({"status_url", "response_url", "gateway_request_id", "payload"})
"""Fields that a status or a callback has, and no output."""
_BESIDE: tuple[tuple[str, ResultRole, ResultKind], ...] = (("thumbnail", "cover", "image"), ("mask", "extra", "image"))
_NO_OUTPUT = frozenset(
    {"seed", "timings", "prompt", "has_nsfw_concepts", "request_id", "status", "detail", "error", "logs", "metrics"}
    | {name for name, _ in _OUTPUTS}
    | {name for name, _, _ in _BESIDE}
    | set(_TEXTS)
)
"""Fields that make no output by themselves."""
_BAD_INPUT = frozenset({400, 413, 422})
_DENIED = frozenset({401, 403, 429})
_GONE = 404
_IN_PROGRESS = "still in progress"


def read(document: Any) -> Update | None:
    """Read a status, a callback or a result, by its form; None for what is no object."""
    if not isinstance(document, dict):
        return None
    job, said = identifier(document.get("request_id")), (word(document.get("status")) or "").lower()
    if job is None and _OF_A_REQUEST.isdisjoint(document):
        return read_result(document)
    if "payload" in document or said in {"ok", "error"}:
        return _read_callback(document, job, said)
    state = STATES.get(said)
    failure = _failure_in(document) if said == "completed" else None
    if failure is not None:
        state = State.CANCELLED if failure.code == "cancelled" else State.FAILED
    unknown = said if said and said not in STATES else None
    return Update(state=state, external_id=job, failure=failure, unknown_word=unknown)


def is_completed(update: Update, document: Any) -> bool:
    """Return whether a status reports a result, without its outcome."""
    return update.state is None and (word(fields(document).get("status")) or "").lower() == "completed"


def _read_callback(document: Mapping[str, Any], job: str | None, said: str) -> Update:
    """Read a callback: the result, or why there is none. Without a payload the result must be fetched."""
    payload = fields(document.get("payload"))
    if said == "ok":
        made = read_result(payload, whole=True)
        return Update(state=made.state, external_id=job, results=made.results)
    if said != "error":
        return Update(external_id=job, unknown_word=said or None)
    failure = _failure_in(payload) or failure_from_text(line(document.get("error")))
    state = State.CANCELLED if failure.code == "cancelled" else State.FAILED
    return Update(state=state, external_id=job, failure=failure)


def read_result(document: Mapping[str, Any], *, whole: bool = False) -> Update:
    """Read a model's output. It names neither its request nor a status; one without an output settles nothing.

    :param whole: whether the document is known to be an output, so that one without files or texts counts as JSON
    """
    results = tuple(_results(document, whole=whole))
    return Update(state=State.SUCCEEDED, results=results) if results else Update()


def _results(document: Mapping[str, Any], *, whole: bool) -> Iterator[Result]:
    found = [
        Result(kind_of(url, kind), url, item=item)
        for name, kind in _OUTPUTS
        for item, url in _links(name, document.get(name))
    ]
    found += [made for name in _TEXTS for made in _written(name, document.get(name))]
    if not found:
        others = {name: value for name, value in document.items() if name not in _NO_OUTPUT}
        files = {name: value for name, value in others.items() if whole or isinstance(value, dict | list)}
        others_found = [each for name, value in files.items() for each in _links(name, value)]
        found = [Result(kind_of(url, "image"), url, item=item) for item, url in others_found]
        if not found and whole and any(value not in (None, "", [], {}) for value in others.values()):
            found = [Result("json", text=compact(dict(document)))]
    if found:
        yield from found
        for name, role, kind in _BESIDE:
            links = _links(name, document.get(name))
            yield from (Result(kind, url, role=role, item=item) for item, url in links)


def _placed(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the values of a field with their places: several of a list."""
    several = isinstance(nested(value), list)
    for number, each in enumerate(items(value)):
        yield place(name, number) if several else name, each


def _links(name: str, value: Any) -> Iterator[tuple[str, str]]:
    for item, each in _placed(name, value):
        if (url := link(each, relative=False)) is not None:
            yield item, url


def _written(name: str, value: Any) -> Iterator[Result]:
    """Yield what ``output`` or ``text`` holds: an address, or a text."""
    for item, each in _placed(name, value):
        url = link(each, relative=False)
        if url is not None:
            yield Result(kind_of(url, "image"), url, item=item)
        elif (text := prose(each)) is not None:
            yield Result("text", text=text, item=item)


def read_verdict(reply: Reply) -> Update | None:
    """Read the error with which a result is answered, as the model's verdict; None where it is not the model's."""
    said = fields(reply.document)
    if reply.status in _DENIED or reply.status == _GONE:
        return None
    if not said and reply.header("x-fal-error-type"):
        raise Unreadable("the error is cut off")
    if _IN_PROGRESS in reply.text[:200].lower():
        return Update()
    stated = word(said.get("error_type")) or word(reply.header("x-fal-error-type"))
    failure = _failure_in(said, stated)
    if failure is None and reply.status in _BAD_INPUT and said:
        text = line(said.get("detail")) or line(said.get("error"))
        failure = None if text is None else failure_from_text(text)
    if failure is None:
        return None
    return Update(state=State.CANCELLED if failure.code == "cancelled" else State.FAILED, failure=failure)


def _failure_in(said: Mapping[str, Any], stated: str | None = None) -> Failure | None:
    """Return the failure that an error states: a list of model errors, a type, or a text; None where there is none."""
    detail = said.get("detail")
    listed = [fields(each) for each in detail[:20]] if isinstance(detail, list) else []
    first = next((each for each in listed if each), {})
    text = line(first.get("msg")) or (line(detail) if not listed else None) or line(said.get("error"))
    kind = word(first.get("type")) or word(said.get("error_type")) or stated
    if kind is None:
        return failure_from_text(text) if first or text is not None else None
    return _typed(kind.lower(), text, of_input="loc" in first)


def _typed(kind: str, text: str | None, *, of_input: bool) -> Failure:
    code = _CODES.get(kind) or next((code for prefix, code in _PREFIXES if kind.startswith(prefix)), None)
    if code is None and kind.endswith(_SUFFIXES):
        code = _INVALID
    if code is None:
        code = failure_from_text(text).code
        code = _INVALID if of_input and code in {"unknown", "provider_error"} else code
    return Failure(code, text or kind, retryable=code in RETRYABLE)


def refusal_of(reply: Reply, *, creating: bool) -> UpstreamError:
    """Return what an answer without a request means. A model that does not exist is a mistake in the settings."""
    found = newapi_errors.refusal_in(reply, creating=creating)
    if creating and reply.status == _GONE:
        return AccountProblem("not_found", found.message)
    return found
