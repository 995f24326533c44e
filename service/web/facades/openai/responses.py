"""OpenAI's responses, in the background or held until the answer is there."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.task import State, Task
from service.flows.webhooks.formats.ids import prefixed
from service.flows.webhooks.formats.shapes import code_of, reason_of, unix
from service.providers.stream import Piece
from service.web.facades import actions
from service.web.facades.body import Fields, is_one_of
from service.web.facades.door import DoorRequest, DoorRoute, shown
from service.web.facades.media import as_base64
from service.web.facades.models import families_of
from service.web.facades.openai.errors import error_document, error_of
from service.web.facades.outcome import hold, rest_of, succeeded
from service.web.facades.stream import Sent, event, live_stream_of, stream_of
from service.web.problems import Problem

_OWN: Final = frozenset(
    {
        "model",
        "input",
        "instructions",
        "max_output_tokens",
        "temperature",
        "background",
        "stream",
        "previous_response_id",
    }
)
_KEPT_TOOLS: Final = frozenset(
    {"image_generation", "web_search", "web_search_preview", "file_search", "code_interpreter"}
)
"""Tools that the provider runs itself: their results are texts and pictures."""
_STATUSES: Final[Mapping[State, str]] = {
    State.QUEUED: "queued",
    State.SUBMITTING: "queued",
    State.UNCONFIRMED: "queued",
    State.SUBMITTED: "queued",
    State.RUNNING: "in_progress",
    State.AWAITING_INPUT: "in_progress",
    State.SUCCEEDED: "completed",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.EXPIRED: "failed",
}
_OPERATION: Final = ("openai", "response")


def request_of(said: Fields, before: Task | None) -> dict[str, Any]:
    """Return our request of a response in OpenAI's form.

    :param before: the task of ``previous_response_id``: the provider knows it at the same upstream only
    :raises Problem: 400 for tools that the client would have to run
    """
    tools = said.get("tools")
    for tool in tools if isinstance(tools, list) else []:
        if isinstance(tool, dict) and not is_one_of(tool.get("type"), _KEPT_TOOLS):
            detail = f"tools: {str(tool.get('type'))[:40]} is not supported here, because its calls are not kept"
            raise Problem(400, "unsupported", detail)
    content = said.get("input")
    given: dict[str, Any] = {"messages" if isinstance(content, list) else "prompt": content}
    _, named = families_of(said.get("model") if isinstance(said.get("model"), str) else None)
    given |= {"model": named, "max_tokens": said.get("max_output_tokens"), "temperature": said.get("temperature")}
    options = {name: value for name, value in said.items() if name not in _OWN and value is not None}
    if said.get("instructions") is not None:
        # `system` and `messages` exclude each other in our names, and OpenAI takes both.
        options["instructions"] = said["instructions"]
    asked: dict[str, Any] = {"family": _OPERATION[0], "operation": _OPERATION[1]}
    if before is not None:
        options["previous_response_id"] = before.external_id
        asked["upstream"] = before.upstream
    found = {name: value for name, value in given.items() if value is not None}
    return {**asked, "input": found, "options": options}


def response_document(task: Task, pictures: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return a task as OpenAI shows a response.

    :param pictures: base64 by the URL of a result, where it is not a ``data:`` URL
    """
    failed = task.state in {State.FAILED, State.EXPIRED}
    error = error_of(code_of(task), reason_of(task) or "", 500) if failed else None
    return {
        "id": prefixed("resp_", task.id),
        "object": "response",
        "created_at": unix(task.created_at),
        "status": _STATUSES[task.state],
        "background": True,
        "error": None if error is None else {"code": error["code"], "message": error["message"]},
        "incomplete_details": None,
        "instructions": task.options.get("instructions"),
        "metadata": task.options.get("metadata", {}),
        "model": task.model or task.family,
        "output": _output(task, pictures or {}) if task.state is State.SUCCEEDED else [],
        "parallel_tool_calls": True,
        "temperature": task.input.get("temperature"),
        "tool_choice": "auto",
        "tools": task.options.get("tools", []),
    }


def _output(task: Task, pictures: Mapping[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, each in enumerate(task.results):
        if each.role != "result":
            continue
        if each.text is not None:
            found.append(message_of(task, number, each.text))
        elif each.url is not None:
            item = {"type": "image_generation_call", "result": pictures.get(each.url, each.url)}
            found.append({**item, "id": f"ig_{task.id.hex}_{number}", "status": "completed"})
    return found


def message_of(task: Task, number: int, text: str) -> dict[str, Any]:
    """Return a message of a response.

    :param number: which of the task's results it is
    """
    content = {"type": "output_text", "text": text, "annotations": []}
    item = {"type": "message", "role": "assistant", "content": [content]}
    return {**item, "id": f"msg_{task.id.hex}_{number}", "status": "completed"}


async def _document(request: DoorRequest, task: Task) -> dict[str, Any]:
    """Return a task as OpenAI shows a response, with its pictures as base64."""
    urls = [each.url for each in task.results if each.url is not None and each.role == "result"]
    encoded = {url: await as_base64(request, task, url) for url in urls}
    return response_document(task, {url: found for url, found in encoded.items() if found is not None})


async def create(request: DoorRequest) -> Response:
    """Accept a response: at once in the background, else held until its answer is there."""
    said = await request.fields()
    before = await _previous(request, said.get("previous_response_id"))
    accepted = await request.accept(request_of(said, before), said)
    if said.get("stream") is True:
        return _streamed(request, accepted.task, passes_on=not said.get("tools"))
    if said.get("background") is True:
        return shown(await _document(request, accepted.task))
    task = await hold(request, accepted.task)
    if task.state is not State.FAILED:
        succeeded(task)
    return shown({**await _document(request, task), "background": False})


async def _previous(request: DoorRequest, named: Any) -> Task | None:
    """Return the response that another one goes on from; None where none is named.

    :raises Problem: 400 or 404 where it is none that its provider has: without it, another answer would be bought
    """
    if named is None:
        return None
    if not isinstance(named, str):
        raise Problem(400, "invalid_request", "previous_response_id: must be the id of a response")
    before = await _found(request, named)
    if before.external_id is None:
        detail = (
            f"previous_response_id: the response has no id at the provider; its status is {_STATUSES[before.state]}"
        )
        raise Problem(400, "invalid_request", detail)
    return before


def _streamed(request: DoorRequest, task: Task, *, passes_on: bool) -> Response:
    """Return the events of a response.

    :param passes_on: whether its text is passed on while it comes. Where tools run, other outputs may come before it
    """
    number = itertools.count()
    first = {**response_document(task), "status": "in_progress"}
    before = [_event(number, kind, response=first) for kind in ("response.created", "response.in_progress")]

    texts: list[int] = []
    """The upstream's indexes of texts. Its reasoning has indexes, too, and is no output of ours: the first text is our first output."""

    def piece(found: Piece, is_first: bool) -> Iterable[bytes]:  # noqa: FBT001 - the caller's form
        if is_first:
            texts.append(found.index)
        if found.index == texts[0]:
            item = message_of(task, 0, "")
            yield from _begun(number, item, 0) if is_first else ()
            yield _event(number, "response.output_text.delta", **_place(item, 0), delta=found.text, logprobs=[])

    async def write(ended: Task, sent: Sent) -> Iterable[bytes]:
        try:
            if ended.state is not State.FAILED:
                succeeded(ended)
            return list(
                _last_events(number, ended, await _document(request, ended), sent.get(texts[0]) if texts else None)
            )
        except Problem as problem:
            error = error_document(problem)["error"]
            return [_event(number, "error", code=error["code"], message=error["message"], param=None)]

    if not passes_on:
        return stream_of(request, task, lambda ended: write(ended, {}), before=before)
    return live_stream_of(request, task, piece, write, before=before)


def _last_events(number: Iterator[int], task: Task, document: Mapping[str, Any], sent: str | None) -> Iterable[bytes]:
    """Yield what a client has not got yet of a response that has ended.

    :param sent: the part of its first text that it has got; None where it has got none
    """
    for index, item in enumerate(document["output"]):
        if item["type"] == "message":
            got = sent if index == 0 else None
            yield from _begun(number, {**item, "content": []}, index) if got is None else ()
            yield from _text_ended(number, task, item, index, got or "")
        else:
            yield _event(number, "response.output_item.added", output_index=index, item={**item, "result": None})
        yield _event(number, "response.output_item.done", output_index=index, item=item)
    ends = {"completed": "response.completed", "failed": "response.failed"}
    yield _event(number, ends.get(document["status"], "response.incomplete"), response=document)


def _begun(number: Iterator[int], item: Mapping[str, Any], index: int) -> Iterable[bytes]:
    begun = {**item, "content": [], "status": "in_progress"}
    yield _event(number, "response.output_item.added", output_index=index, item=begun)
    part = {"type": "output_text", "text": "", "annotations": []}
    yield _event(number, "response.content_part.added", **_place(item, index), part=part)


def _text_ended(number: Iterator[int], task: Task, item: Mapping[str, Any], index: int, sent: str) -> Iterable[bytes]:
    part = item["content"][0]
    rest = rest_of(task, part["text"], sent)
    if rest:
        yield _event(number, "response.output_text.delta", **_place(item, index), delta=rest, logprobs=[])
    yield _event(number, "response.output_text.done", **_place(item, index), text=part["text"], logprobs=[])
    yield _event(number, "response.content_part.done", **_place(item, index), part=part)


def _place(item: Mapping[str, Any], index: int) -> dict[str, Any]:
    return {"item_id": item["id"], "output_index": index, "content_index": 0}


def _event(number: Iterator[int], kind: str, **more: Any) -> bytes:
    return event({"type": kind, "sequence_number": next(number), **more}, kind)


async def retrieve(request: DoorRequest) -> Response:
    """Return a response."""
    return shown(await _document(request, await _find(request)))


async def _find(request: DoorRequest) -> Task:
    return await _found(request, request.http.path_params["id"])


async def _found(request: DoorRequest, named: str) -> Task:
    task = await actions.find_undeleted(request, named)
    if (task.family, task.operation) != _OPERATION:
        raise Problem(404, "not_found", "the task with this id is no response")
    return task


async def cancel_response(request: DoorRequest) -> Response:
    """Cancel a response. One that has ended is returned as it is."""
    return shown(await _document(request, await actions.cancel(request, await _find(request))))


async def delete(request: DoorRequest) -> Response:
    """Delete a response with its content. One that is not done is cancelled first."""
    task = await _find(request)
    await actions.delete(request, task)
    return shown({"id": prefixed("resp_", task.id), "object": "response", "deleted": True})


_PATH: Final = "/v1/responses"
ROUTES: Final = (
    DoorRoute(method="POST", path=_PATH, handler=create),
    DoorRoute(method="GET", path=f"{_PATH}/{{id}}", handler=retrieve, scope=Scope.READ),
    DoorRoute(method="DELETE", path=f"{_PATH}/{{id}}", handler=delete),
    DoorRoute(method="POST", path=f"{_PATH}/{{id}}/cancel", handler=cancel_response),
)
