"""Chat completions (POST /v1/chat/completions): texts, and at gateways pictures within a text (GPT-4o image)."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.domain.errors import Uncertain
from service.domain.task import Failure, Result, State, Task, Update
from service.domain.text import storable
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge
from service.providers.newapi.failure_texts import failure_from_text
from service.providers.openai.family import model_of
from service.providers.openai.refusals import carries_error, refusal, refused_within
from service.providers.read import compact, fields, identifier, is_output, items, kind_of, line, link, word
from service.providers.stream import MAX_STREAM, Event, Piece, events_in, is_stream
from service.providers.talk import talk_mistakes
from service.providers.wire import Call, Exchange, Reply

_CUT_OFF = "length"
_FILTERED = "content_filter"
_IMAGE = re.compile(
    r"!\[[^\]]{0,1000}+\]\(\s{0,20}+<?(https?:[^\s()>]++(?:(?<!\])\([^\s()>]*+)*+|data:image/[^\s()>]++)(?=[\s)>])>?[^)]{0,1000}+\)",
    re.IGNORECASE,
)
"""An image in Markdown. Each part has a bound, or ends before the next image: an answer may be hostile, and has megabytes."""
_LINK = re.compile(r"https?://[^\s()<>\[\]\"']++", re.IGNORECASE)
_PICTURE = re.compile(r".+\.(?:png|jpe?g|webp|gif|avif)(?:\?.*)?", re.IGNORECASE)
"""The part of a link that is a picture's address."""
_POLICY = ("违反", "内容政策", "content policy", "moderation")
_SHOWN = 4000


class Chat(Dialect):
    """Chat completions. They are synchronous; a completion cannot be asked for again."""

    facts = Facts(
        family="openai",
        name="chat",
        operations=dict.fromkeys(("chat", "chat_image"), "/v1/chat/completions"),
        synchronous=frozenset({"chat", "chat_image"}),
        typical_seconds={"chat": 10.0, "chat_image": 90.0},
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that makes the completion."""
        del callback_url
        path = self.facts.operations[task.operation]
        return Call(method="POST", path=path, json=merge(_body(task), task.options))

    def submit(self, task: Task, callback_url: str | None) -> Exchange:
        """Request the completion, and read it as pictures where pictures are wanted."""
        call = self.facts.creating(task.operation, self.create(task, callback_url))
        reply = yield call
        return _read(reply, pictures=task.operation == "chat_image")

    def query(self, task: Task) -> Call:
        """Return a call that finds nothing: a completion is not kept."""
        del task
        return Call(method="GET", path="/v1/models")

    def read_created(self, reply: Reply) -> Update:
        """Read a completion. Its model decides whether pictures were requested."""
        return _read(reply, pictures=None)

    def read_status(self, reply: Reply) -> Update:
        """Raise the error of a poll: there is no job."""
        raise refusal(reply, creating=False)

    def streamed(self, call: Call) -> Call:
        """Return the call with a stream for its answer. Its last event states the usage, as a whole answer does."""
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        return dataclasses.replace(call, json={**call.json, **stream}, max_answer=MAX_STREAM)

    def read_pieces(self, event: Event) -> Sequence[Piece]:
        """Return the pieces of the choices in an event."""
        choices = [fields(each) for each in items(fields(event.document).get("choices"))]
        found = [Piece(_index(each), content_of({"message": fields(each.get("delta"))})) for each in choices]
        return [each for each in found if each.text]

    def validate(self, task: Task) -> list[Mistake]:
        """Return what is wrong with the words."""
        found = super().validate(task)
        return found + talk_mistakes(task) if task.operation in self.facts.operations else found


# What is sent ----------------------------------------------------------------------------------------------------


def _body(task: Task) -> dict[str, Any]:
    given = task.input
    return {
        "model": model_of(task),
        "messages": given.get("messages") or _messages(given),
        "n": given.get("count"),
        "max_completion_tokens": given.get("max_tokens"),
        "temperature": given.get("temperature"),
        "seed": given.get("seed"),
    }


def _messages(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the conversation that a prompt, instructions and images make."""
    prompt, images = given.get("prompt", ""), given.get("images", ())
    parts = [{"type": "text", "text": prompt}, *({"type": "image_url", "image_url": {"url": url}} for url in images)]
    system = [{"role": "system", "content": given["system"]}] if "system" in given else []
    return [*system, {"role": "user", "content": parts if images else prompt}]


# What is read ----------------------------------------------------------------------------------------------------


def _read(reply: Reply, *, pictures: bool | None) -> Update:
    """Read a completion, whole or as a stream.

    :param pictures: whether pictures were requested; None: the model decides
    """
    if not reply.ok or carries_error(reply.document):
        raise refusal(reply, creating=True)
    document = joined(reply) if is_stream(reply) else fields(reply.document)
    choices = [fields(each) for each in items(document.get("choices"))]
    if not choices or not any(fields(each.get("message")) for each in choices):
        raise Uncertain("unreadable", "the answer has no choices")
    model = (word(document.get("model")) or "").lower()
    wants_pictures = ("image" in model) if pictures is None else pictures
    update = _of_pictures(choices) if wants_pictures else of_texts(choices)
    return Update(
        state=update.state,
        external_id=identifier(document.get("id")),
        results=update.results,
        failure=update.failure,
        unknown_word=update.unknown_word,
    )


def of_texts(choices: Sequence[Mapping[str, Any]]) -> Update:
    """Read the texts of the choices. One that was cut off by the caller's own limit counts, with its reason beside it."""
    refused = [reason for each in choices if (reason := _refusal(each)) is not None]
    texts = [each for each in choices if _refusal(each) is None]
    if not texts:
        return Update(state=State.FAILED, failure=Failure("content_policy", refused[0]))
    ordered = sorted(texts, key=_index)
    results = [Result("text", text=content_of(each)) for each in ordered]
    reasons = [{"finish_reason": _CUT_OFF} for each in ordered if word(each.get("finish_reason")) == _CUT_OFF]
    beside = [Result("json", text=compact(reasons[0]), role="extra")] if reasons else []
    return Update(state=State.SUCCEEDED, results=(*results, *beside))


def _index(choice: Mapping[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _refusal(choice: Mapping[str, Any]) -> str | None:
    """Return why a choice has no answer; None where it has one."""
    stated = fields(choice.get("message")).get("refusal")
    refusal_text = line(stated) if isinstance(stated, str) else None
    if refusal_text is not None:
        return refusal_text
    return _FILTERED if word(choice.get("finish_reason")) == _FILTERED else None


def content_of(choice: Mapping[str, Any]) -> str:
    """Return the text of a choice: also of a list of parts, and blank where there is none."""
    content = fields(choice.get("message")).get("content") if isinstance(choice.get("message"), dict) else None
    if isinstance(content, str):
        return storable(content)
    parts = [fields(each) for each in content] if isinstance(content, list) else []
    return storable("".join(text for part in parts if isinstance(text := part.get("text"), str)))


def _of_pictures(choices: Sequence[Mapping[str, Any]]) -> Update:
    """Read the pictures in the texts of the choices. A text without any is a failure, and gives the reason."""
    text = "\n".join(content_of(each) for each in choices)
    found = pictures_in(text, choices)
    if found:
        return Update(state=State.SUCCEEDED, results=tuple(Result(kind_of(url, "image"), url) for url in found))
    refused = next(filter(None, map(_refusal, choices)), None)
    if refused is None and not any(map(_has_content, choices)):
        raise Uncertain("unreadable", "the answer has no content")
    message = refused or word(text[:_SHOWN])
    is_policy = refused is not None or any(part in text.lower() for part in _POLICY)
    code = "content_policy" if is_policy or failure_from_text(message).code == "content_policy" else "provider_error"
    return Update(state=State.FAILED, failure=Failure(code, message, retryable=code != "content_policy"))


def _has_content(choice: Mapping[str, Any]) -> bool:
    """Return whether a choice states its content, which may be blank."""
    message = fields(choice.get("message"))
    return "content" in message and (message["content"] is None or isinstance(message["content"], str | list))


def pictures_in(text: str, choices: Sequence[Mapping[str, Any]] = ()) -> list[str]:
    """Return the addresses of the pictures: images in Markdown, else parts of the content, else bare links."""
    parts = [
        fields(part)
        for each in choices
        if isinstance(content := fields(each.get("message")).get("content"), list)
        for part in content
    ]
    inline = [url for part in parts if (url := link(part.get("image_url"), relative=False)) is not None]
    found = [each[1] for each in _IMAGE.finditer(text)] or inline or list(_links_in(text))
    return [url for url in dict.fromkeys(map(storable, found)) if is_output(url)]


def _links_in(text: str) -> Iterator[str]:
    for each in _LINK.finditer(text):
        if (found := _PICTURE.match(each[0])) is not None:
            yield found[0]


def joined(reply: Reply) -> dict[str, Any]:
    """Return the completion that the pieces of a stream make.

    :raises Uncertain: when the stream ended before it was complete
    """
    events, ended = events_in(reply.text)
    choices: dict[int, dict[str, Any]] = {}
    head: dict[str, Any] = {}
    for event in events:
        if event.name == "error" or carries_error(event.document):
            raise refused_within(event.document)
        piece = fields(event.document)
        head = {**{name: piece[name] for name in ("id", "model") if name in piece}, **head}
        for each in items(piece.get("choices")):
            _append(choices, fields(each))
    finished = bool(choices) and all(each["finish_reason"] is not None for each in choices.values())
    if not choices or not (ended or finished):
        raise Uncertain("unreadable", "the stream ended before the answer was complete")
    return {**head, "choices": list(choices.values())}


def _append(choices: dict[int, dict[str, Any]], piece: Mapping[str, Any]) -> None:
    """Append a piece of a stream to its choice."""
    index = _index(piece)
    choice = choices.setdefault(index, {"index": index, "message": {"content": ""}, "finish_reason": None})
    delta = fields(piece.get("delta")) or fields(piece.get("message"))
    for name in ("content", "refusal"):
        part = delta.get(name)
        if isinstance(part, list):
            part = "".join(text for each in part if isinstance(text := fields(each).get("text"), str))
        if isinstance(part, str) and part:
            choice["message"][name] = (choice["message"].get(name) or "") + part
    choice["finish_reason"] = word(piece.get("finish_reason")) or choice["finish_reason"]
