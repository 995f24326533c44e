"""Reading of Replicate's prediction, which Cog servers and gateways send too, and of its errors."""

from collections.abc import Iterator, Mapping
from typing import Any

from service.domain.errors import AccountProblem, Refused, Unavailable, UpstreamError
from service.domain.task import ENDED, Failure, Result, State, Update
from service.domain.text import storable
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import failure_from_text
from service.providers.read import compact, fields, identifier, items, kind_of, line, link, place, word
from service.providers.wire import Reply

STATES: Mapping[str, State] = {
    "starting": State.SUBMITTED,
    "processing": State.RUNNING,
    "succeeded": State.SUCCEEDED,
    "failed": State.FAILED,
    "canceled": State.CANCELLED,
    "aborted": State.CANCELLED,  # stopped before it started
}
"""Replicate's OpenAPI description and Cog 0.23, in lower case."""
_MAX_PIECES = 200
"""More results than these a task does not keep."""
_DEPTH = 4
_TOO_MANY = 429
_NOT_ALLOWED = 405
_BUSY = 409
_OUTPUT_TYPES = (str, int, float, list, dict)


def is_prediction(document: Any) -> bool:
    """Return whether a document is a prediction or a training."""
    return isinstance(document, dict) and identifier(document.get("id")) is not None and "status" in document


def read_prediction(document: Any) -> Update:
    """Read a prediction. Its status decides: with ``Prefer: wait`` an output may stand beside ``processing``."""
    job = fields(document)
    said = (word(job.get("status")) or "").lower()
    state = STATES.get(said)
    results = () if job.get("data_removed") is True else outputs_of(job.get("output"))
    if state is State.SUCCEEDED and not results:
        state = None  # it returned nothing, or its data was deleted after an hour
    return Update(
        state=state,
        external_id=identifier(job.get("id")),
        results=results if state in ENDED else (),
        failure=_failure(state, _text_of(job.get("error"))),
        unknown_word=said if said and said not in STATES else None,
    )


def read_page(document: Any) -> Update | None:
    """Read the first prediction of a list; None for any other document. A list shows no output."""
    listed = document.get("results") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not listed or not is_prediction(listed[0]):
        return None
    return read_prediction(listed[0])


def _text_of(error: Any) -> str | None:
    """Return the text of an error: it is a text, and an object at some gateways."""
    said = fields(error)
    return line(said.get("message")) or line(said.get("detail")) if said else line(error)


def _failure(state: State | None, text: str | None) -> Failure | None:
    if state is State.FAILED:
        return failure_from_text(text)
    return Failure("cancelled", text) if state is State.CANCELLED and text is not None else None


def outputs_of(output: Any) -> tuple[Result, ...]:
    """Return the outputs of a model: a text, a URL, a list or an object of them, or another value as JSON.

    A language model gives its text in pieces. Where they are more than a task keeps, they become one text.
    """
    pieces = list(_texts(output, _DEPTH))
    links = [link(piece, relative=False) for _, piece in pieces]
    if len(pieces) > _MAX_PIECES and not any(links):
        pieces, links = [("", "".join(piece for _, piece in pieces))], [None]
    if any(piece.strip() for _, piece in pieces):
        return tuple(
            Result(kind_of(url, "image"), url, item=path or None)
            if url
            else Result("text", text=piece, item=path or None)
            for (path, piece), url in zip(pieces, links, strict=True)
        )
    if isinstance(output, bool) or (
        isinstance(output, _OUTPUT_TYPES) and not isinstance(output, str) and _holds(output)
    ):
        return (Result("json", text=compact(output)),)
    return ()


def _texts(output: Any, depth: int, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the texts in an output with their places, in its order. Numbers beside them are no results."""
    if isinstance(output, str):
        if (text := storable(output)) != "":
            yield path, text
    elif depth and isinstance(output, list | dict):
        for name, each in output.items() if isinstance(output, dict) else enumerate(output):
            yield from _texts(each, depth - 1, place(path, name))


def _holds(output: Any) -> bool:
    """Return whether a value without texts holds anything, such as a number."""
    if isinstance(output, list | dict):
        inner = output.values() if isinstance(output, dict) else output
        return any(isinstance(each, int | float) or (isinstance(each, list | dict) and bool(each)) for each in inner)
    return isinstance(output, int | float)


def refusal_of(reply: Reply, *, creating: bool) -> UpstreamError:
    """Return what an answer without a prediction means: ``{"detail", "title"}`` of Replicate, ``{"error"}`` of Cog."""
    found = newapi_errors.refusal_in(reply, creating=creating)
    said = fields(reply.document)
    if reply.status == _TOO_MANY:
        # With little credit the rate limit is lower, and its text mentions the credit.
        return Unavailable("rate_limited", found.message, retry_after=reply.retry_after)
    if reply.status == _NOT_ALLOWED:
        return AccountProblem("forbidden", found.message)
    if reply.status == _BUSY:
        return Unavailable("overloaded", found.message, retry_after=reply.retry_after)
    if creating and isinstance(found, Refused) and said.get("invalid_fields"):
        return Refused("invalid_input", found.message, details=_issues(said))
    return found


def _issues(said: Mapping[str, Any]) -> tuple[str, ...]:
    """Return each of Replicate's ``invalid_fields`` as a sentence."""
    listed = [fields(each) for each in items(said.get("invalid_fields"))[:20]]
    pairs = [(line(each.get("field")), line(each.get("description"))) for each in listed]
    return tuple(f"{name}: {text}" if name else text for name, text in pairs if text is not None)
