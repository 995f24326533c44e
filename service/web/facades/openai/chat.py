"""OpenAI's chat completions. The request is held until the answer is there; a stream has its text while it comes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from starlette.responses import Response

from service.domain.task import Task
from service.flows.webhooks.formats.ids import prefixed
from service.flows.webhooks.formats.shapes import outputs, texts, unix
from service.providers.stream import Piece
from service.web.facades.body import Fields, is_one_of
from service.web.facades.door import DoorRequest, DoorRoute, shown
from service.web.facades.models import Target, target_of
from service.web.facades.openai.errors import error_document
from service.web.facades.outcome import held, rest_of, succeeded
from service.web.facades.stream import Sent, event, live_stream_of
from service.web.problems import Problem

_OWN: Final = frozenset({"model", "messages", "stream", "stream_options"})
_NOT_KEPT: Final = ("tools", "functions", "audio", "logprobs", "top_logprobs")
"""Fields whose results a task does not keep."""
_SYSTEM: Final = frozenset({"system", "developer"})
_DONE: Final = b"data: [DONE]\n\n"
_ANTHROPIC_TOKENS: Final = 4096


def request_of(target: Target, said: Fields) -> dict[str, Any]:
    """Return our request of a conversation in OpenAI's form.

    :raises Problem: 400 for what a task cannot keep
    """
    for name in _NOT_KEPT:
        if said.get(name):
            raise Problem(400, "unsupported", f"{name}: is not supported here, because its results are not kept")
    options = {name: value for name, value in said.items() if name not in _OWN and value is not None}
    given: dict[str, Any] = {"messages": said.get("messages")}
    if target.model is not None:
        given["model"] = target.model
    if target.family == "anthropic":
        given["messages"], options = _anthropic(said)
    return {"family": target.family, "operation": target.operation, "input": given, "options": options}


def _anthropic(said: Fields) -> tuple[Any, dict[str, Any]]:
    """Return the messages of a conversation, and the fields that Anthropic has in another place."""
    messages = said.get("messages")
    listed = [each for each in messages if isinstance(each, dict)] if isinstance(messages, list) else []
    system = "\n\n".join(text_of(each.get("content")) for each in listed if is_one_of(each.get("role"), _SYSTEM))
    limit = said.get("max_completion_tokens") or said.get("max_tokens") or _ANTHROPIC_TOKENS
    options: dict[str, Any] = {"max_tokens": limit}
    if system:
        options["system"] = system
    if said.get("temperature") is not None:
        options["temperature"] = said["temperature"]
    return [each for each in listed if not is_one_of(each.get("role"), _SYSTEM)] or messages, options


def text_of(content: Any) -> str:
    """Return the text of a message's content: a text, or a list of parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def contents_of(task: Task) -> list[str]:
    """Return the texts of a completion; pictures as Markdown, as gateways write them."""
    return texts(task) or ["\n".join(f"![image]({url})" for url in outputs(task))]


def completion_document(task: Task) -> dict[str, Any]:
    """Return a task as OpenAI shows a completion."""
    cut = any('"length"' in (each.text or "") for each in task.results if each.role == "extra")
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "finish_reason": "length" if cut else "stop",
            "logprobs": None,
        }
        for index, text in enumerate(contents_of(task))
    ]
    return {**_head(task, "chat.completion"), "choices": choices}


def _head(task: Task, kind: str) -> dict[str, Any]:
    return {
        "id": prefixed("chatcmpl-", task.id),
        "object": kind,
        "created": unix(task.created_at),
        "model": task.model or task.family,
    }


def chunks_of(task: Task, sent: Sent) -> Iterable[bytes]:
    """Return the last events of a streamed completion: for each choice what the client has not got yet, and its end.

    :raises Problem: 500 where the texts that the client has got are not those of the result
    """
    head = _head(task, "chat.completion.chunk")
    choices: list[Mapping[str, Any]] = completion_document(task)["choices"]
    rests = [rest_of(task, each["message"]["content"], sent.get(each["index"], "")) for each in choices]
    return [*_last_chunks(head, choices, rests, sent), _DONE]


def _last_chunks(
    head: Mapping[str, Any], choices: Sequence[Mapping[str, Any]], rests: Sequence[str], sent: Sent
) -> Iterable[bytes]:
    for each, rest in zip(choices, rests, strict=True):
        index = each["index"]
        if rest or index not in sent:
            yield event({**head, "choices": [_delta(index, rest, is_first=index not in sent)]})
        yield event({**head, "choices": [{"index": index, "delta": {}, "finish_reason": each["finish_reason"]}]})


def _delta(index: int, text: str, *, is_first: bool) -> dict[str, Any]:
    role = {"role": "assistant"} if is_first else {}
    return {"index": index, "delta": {**role, "content": text}, "finish_reason": None}


async def create(request: DoorRequest) -> Response:
    """Accept a conversation, and return its answer when it is there."""
    said = await request.fields()
    target = target_of(request.context, said.get("model"), ("chat",), default="openai")
    if target.is_any:
        target = Target("openai", "chat", target.model)
    accepted = await request.accept(request_of(target, said), said)
    if said.get("stream") is True:
        return _streamed(request, accepted.task)
    return shown(completion_document(await held(request, accepted.task)))


def _streamed(request: DoorRequest, task: Task) -> Response:
    head = _head(task, "chat.completion.chunk")

    def piece(found: Piece, is_first: bool) -> Iterable[bytes]:  # noqa: FBT001 - the caller's form
        return [event({**head, "choices": [_delta(found.index, found.text, is_first=is_first)]})]

    async def write(latest: Task, sent: Sent) -> Iterable[bytes]:
        try:
            return chunks_of(succeeded(latest), sent)
        except Problem as problem:
            return [event(error_document(problem)), _DONE]

    return live_stream_of(request, task, piece, write)


ROUTES: Final = (DoorRoute(method="POST", path="/v1/chat/completions", handler=create),)
