"""Reading of a response object (``object: "response"``), which answers a submit, a poll and a cancel."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from service.domain.errors import Uncertain, Unreadable
from service.domain.task import Failure, Result, State, Task, Update
from service.domain.text import storable
from service.providers.openai.family import model_of
from service.providers.openai.refusals import carries_error, failure_in, refusal
from service.providers.read import fields, identifier, is_output, items, line, word
from service.providers.stream import events_in, is_stream
from service.providers.wire import Reply

STATES: Mapping[str, State] = {
    "queued": State.SUBMITTED,
    "in_progress": State.RUNNING,
    "completed": State.SUCCEEDED,
    "incomplete": State.FAILED,
    "failed": State.FAILED,
    "cancelled": State.CANCELLED,
}
"""OpenAI's SDK 3.57, ``ResponseStatus``."""
_FILTERED = "content_filter"


def body_of(task: Task) -> dict[str, Any]:
    """Return the fields of a request that both protocols share."""
    given = task.input
    return {
        "model": model_of(task),
        "input": given.get("messages") or _input(given),
        "instructions": given.get("system"),
        "max_output_tokens": given.get("max_tokens"),
        "temperature": given.get("temperature"),
    }


def _input(given: Mapping[str, Any]) -> Any:
    """Return the prompt, or with images a message of parts."""
    prompt, images = given.get("prompt"), given.get("images", ())
    if not images:
        return prompt
    parts = [{"type": "input_text", "text": prompt}] if prompt is not None else []
    return [{"role": "user", "content": [*parts, *({"type": "input_image", "image_url": url} for url in images)]}]


def is_response(document: Any) -> bool:
    """Return whether a document is a response object."""
    found = isinstance(document, dict) and identifier(document.get("id")) is not None and "status" in document
    return found and not isinstance(document.get("status"), dict | list)


def document_of(reply: Reply) -> Any:
    """Return the response object of an answer; of a stream the one in its last event that has one."""
    if not is_stream(reply):
        return reply.document
    events, _ = events_in(reply.text)
    held = [fields(event.document).get("response") for event in events]
    return next((each for each in reversed(held) if is_response(each)), None)


def read_created(reply: Reply) -> Update:
    """Read the answer to a submit: a response in its first state, or already at its end."""
    document = document_of(reply)
    if not reply.ok or (carries_error(document) and not is_response(document)):
        raise refusal(reply, creating=True)
    if not is_response(document):
        raise Uncertain("unreadable", "the answer has no id")
    update = read_response(document)
    return dataclasses.replace(update, state=update.state or State.SUBMITTED)


def read_status(reply: Reply) -> Update:
    """Read the answer to a poll or a cancel."""
    if not reply.ok or (carries_error(reply.document) and not is_response(reply.document)):
        raise refusal(reply, creating=False)
    if not is_response(reply.document):
        raise Unreadable("no response in it")
    return read_response(reply.document)


def read_response(document: Any) -> Update:
    """Read a response object."""
    response = fields(document)
    said = (word(response.get("status")) or "").lower()
    state = STATES.get(said)
    results = outputs_of(response)
    failure = None
    if state is State.SUCCEEDED and not results:
        refused = _refusal(response)
        state = State.FAILED if refused is not None else None  # a success without an output settles nothing
        failure = None if refused is None else Failure("content_policy", refused)
    elif state is State.FAILED:
        failure = _failure(said, response)
    keeps = state is State.SUCCEEDED or (state is State.FAILED and failure is not None)
    return Update(
        state=state,
        external_id=identifier(response.get("id")),
        results=results if keeps else (),
        failure=failure,
        unknown_word=said if said and said not in STATES else None,
    )


def _failure(said: str, response: Mapping[str, Any]) -> Failure:
    """Return why it failed; an incomplete one names a reason instead of an error."""
    if said != "incomplete":
        return failure_in(response.get("error"))
    reason = line(fields(response.get("incomplete_details")).get("reason"))
    return Failure("content_policy" if reason == _FILTERED else "provider_error", reason)


def outputs_of(response: Mapping[str, Any]) -> tuple[Result, ...]:
    """Return the texts and pictures, in the order of the output. Reasoning and tool calls are none."""
    found = [_output(fields(item)) for item in items(response.get("output"))]
    return tuple(each for each in found if each is not None)


def _output(item: Mapping[str, Any]) -> Result | None:
    kind = item.get("type")
    if kind == "message":
        parts = [fields(part) for part in items(item.get("content"))]
        texts = [
            text for part in parts if part.get("type") == "output_text" and isinstance(text := part.get("text"), str)
        ]
        return Result("text", text=storable("".join(texts))) if texts else None
    encoded = item.get("result")
    if kind == "image_generation_call" and isinstance(encoded, str) and encoded.strip():
        stated = (word(item.get("output_format")) or "png").lower()
        url = encoded if encoded[:5].lower() == "data:" else f"data:image/{stated};base64,{encoded.strip()}"
        return Result("image", storable(url)) if is_output(url) else None
    return None


def _refusal(response: Mapping[str, Any]) -> str | None:
    """Return the words by which the model declined; None where it did not."""
    messages = [fields(item) for item in items(response.get("output"))]
    parts = [fields(part) for message in messages for part in items(message.get("content"))]
    return next((text for part in parts if (text := line(part.get("refusal"))) is not None), None)
