"""Reading of Ideogram's answers: pictures, descriptions, and asynchronous generations."""

from collections.abc import Mapping
from typing import Any

from service.domain.errors import NotFound, Refused, Unreadable, UpstreamError
from service.domain.task import Failure, Result, State, Update
from service.providers.dialect import accepted
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import failure_from_text
from service.providers.read import fields, identifier, items, kind_of, line, link, number, prose, word
from service.providers.signatures import ed25519_over_digest, header
from service.providers.wire import Callback, Reply

STATES = {"pending": State.RUNNING, "completed": State.SUCCEEDED, "failed": State.FAILED}
"""``status`` of a generation, in lower case."""
_MILLION = 1_000_000
_UNSAFE = 422
_GONE = 404


def read_created(reply: Reply) -> Update:
    """Read the answer to a submit: pictures, or the id of a generation."""
    update = read(reply.document) if reply.ok else None
    if update is None or (update.state is None and update.external_id is None):
        raise refusal_of(reply, creating=True)
    return accepted(update)


def read_status(reply: Reply) -> Update:
    """Read a generation."""
    update = read(reply.document) if reply.ok else None
    if update is None:
        raise refusal_of(reply, creating=False)
    return update


def read_callback(callback: Callback) -> list[Update]:
    """Read a callback: the pictures, without a status."""
    update = read(callback.document)
    if update is None:
        raise Unreadable("no generation in it")
    return [update]


def read(document: Any) -> Update | None:
    """Read an answer: pictures, descriptions, or a generation; None for any other document.

    A picture that was refused comes without an address, in an answer that is otherwise well.
    """
    if not isinstance(document, dict):
        return None
    job, said = identifier(document.get("generation_id")), (word(document.get("status")) or "").lower()
    made = _pictures(document) or _descriptions(document)
    if job is None and not made and "data" not in document and said not in STATES:
        return None
    state, failure = _verdict(document, said, made=bool(made))
    if state is None and job is None and not said:
        return None
    micros = number(document.get("usage_cost_usd_micros"))
    return Update(
        state=state,
        external_id=job,
        results=made if state is State.SUCCEEDED else (),
        failure=failure,
        cost=None if micros is None else micros / _MILLION,
        unknown_word=said if said and said not in STATES else None,
    )


def _verdict(document: Mapping[str, Any], said: str, *, made: bool) -> tuple[State | None, Failure | None]:
    """Return the state, and why it failed. A callback states none: its pictures are the success."""
    state = STATES.get(said)
    if state is State.FAILED:
        return state, failure_from_text(line(document.get("failure_reason")))
    if said and state is not State.SUCCEEDED:
        return state, None
    if made:
        return State.SUCCEEDED, None
    if _all_unsafe(document):
        return State.FAILED, Failure("content_policy")
    return None, None


def _pictures(document: Mapping[str, Any]) -> tuple[Result, ...]:
    urls = [link(fields(each), relative=False) for each in items(document.get("data"))]
    return tuple(Result(kind_of(url, "image"), url) for url in urls if url is not None)


def _descriptions(document: Mapping[str, Any]) -> tuple[Result, ...]:
    texts = [prose(fields(each).get("text")) for each in items(document.get("descriptions"))]
    return tuple(Result("text", text=text) for text in texts if text is not None)


def _all_unsafe(document: Mapping[str, Any]) -> bool:
    """Return whether every picture is marked as unsafe. Without the mark a missing address proves nothing."""
    flags = [fields(each).get("is_image_safe") for each in items(document.get("data"))]
    return bool(flags) and all(flag is False for flag in flags)


def refusal_of(reply: Reply, *, creating: bool) -> UpstreamError:
    """Return what an error means. 422 is a refused content, also without a reason, and an empty 404 an unknown generation."""
    found = newapi_errors.refusal_in(reply, creating=creating)
    if reply.status == _UNSAFE and isinstance(found, Refused):
        return Refused("content_policy", found.message)
    if not creating and reply.status == _GONE and not reply.body.strip():
        return NotFound("not_found", None)
    return newapi_errors.unless_overloaded(found, reply, creating=creating)


def signature_is_right(callback: Callback, key_set: str) -> bool:
    """Return whether Ideogram's Ed25519 signature is right, and is about the generation of the body.

    :param key_set: Ideogram's public keys: the document at /v1/.well-known/jwks.json
    """
    named = identifier(fields(callback.document).get("generation_id"))
    stated = header(callback, "x-ideogram-webhook-generation-id")
    right = ed25519_over_digest(callback, key_set, prefix="x-ideogram-webhook-", first="generation-id")
    return right and named == stated
