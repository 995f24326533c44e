"""Reading of Midjourney's task object."""

import re
from collections.abc import Mapping
from typing import Any

from service.domain.task import Action, Failure, Result, ResultRole, State, Update
from service.providers.newapi.failure_texts import failure_from_text
from service.providers.read import fields, identifier, items, kind_of, line, link, links, percent, prose, word

WORDS: Mapping[str, State | None] = {
    "": State.SUBMITTED,  # a gateway's row before its first poll of the engine, up to 15 s
    "not_start": State.SUBMITTED,
    "submitted": State.SUBMITTED,
    "pending": State.SUBMITTED,
    "modal": State.AWAITING_INPUT,
    "in_progress": State.RUNNING,
    "running": State.RUNNING,
    "processing": State.RUNNING,
    "success": State.SUCCEEDED,
    "failure": State.FAILED,
    "failed": State.FAILED,
    "cancel": State.CANCELLED,
    "cancelled": State.CANCELLED,
    "unknown": None,
}
"""``status`` of a task object (GET /mj/task/{id}/fetch), in lower case: engines, new-api and their derivatives."""
_TEXTS = frozenset({"DESCRIBE", "SHORTEN"})
"""The actions whose output is a text, and whose image is what was given."""
_OWN_FIELDS = frozenset(
    {"action", "submitTime", "startTime", "finishTime", "progress", "imageUrl", "videoUrl", "failReason", "buttons"}
)
"""The fields that distinguish a task object without an id or a status from any other object."""
_FRESH = re.compile(r"\?rand=\d+$")
Record = Mapping[str, Any]


def only_record(document: Any) -> Any:
    """Return the first of a list, or the document itself."""
    return document[0] if isinstance(document, list) and document else document


def is_task(document: Any) -> bool:
    """Return whether a document is a task object."""
    if not isinstance(document, dict):
        return False
    named, spoken, own = _identifier(document), "status" in document, not _OWN_FIELDS.isdisjoint(document)
    return (named is not None and (spoken or own)) or (spoken and own)


def _identifier(record: Record) -> str | None:
    return identifier(record.get("id")) or identifier(record.get("taskId"))


def read_task(record: Record) -> Update:
    """Read a task object. The status alone decides: neither "100%" nor an image proves anything."""
    state, unknown_word = read_state(record)
    outputs = _outputs(record)
    if state is State.SUCCEEDED and not outputs:
        state = None  # they will come; a success without an output settles nothing
    results = outputs if state is State.SUCCEEDED else _preview(record) if state is State.RUNNING else []
    return Update(
        state=state,
        external_id=_identifier(record),
        progress=percent(record.get("progress")),
        results=tuple(results),
        failure=_failure(record, state),
        actions=_actions(record) if state is State.SUCCEEDED else (),
        unknown_word=unknown_word,
    )


def read_state(record: Record) -> tuple[State | None, str | None]:
    """Return the state that the status means; and the word where no table has it."""
    status = record.get("status")
    if status is not None and not isinstance(status, str):
        return None, word(status)
    text = (status or "").strip().lower()
    return WORDS.get(text), None if text in WORDS else word(text)


def _outputs(record: Record) -> list[Result]:
    """Return the outputs (a text, videos, single images, or one picture), and after them what goes with them."""
    there = fields(record.get("properties"))
    if _makes_text(record):
        text = prose(there.get("finalPrompt")) or prose(record.get("prompt"))
        translated = prose(there.get("finalZhPrompt"))
        beside = [Result("text", text=translated, role="extra")] if translated else []
        return [Result("text", text=text), *beside] if text else []
    picture = link(record.get("imageUrl"))
    videos, covers = _urls(record.get("videoUrls"), "url"), _urls(record.get("videoUrls"), "thumbnail")
    videos = videos or links(record.get("videoUrl"))
    images = _urls(record.get("imageUrls"), "url")
    main = videos or images or links(picture)
    covers = covers if videos else _urls(record.get("imageUrls"), "thumbnail")
    rest: list[tuple[str, ResultRole]] = [(url, "cover") for url in covers]
    rest += [(picture, "extra")] if picture and picture not in main else []
    found = [Result(kind_of(url, "video" if videos else "image"), url) for url in main]
    return found + [Result(kind_of(url, "image"), url, role=role) for url, role in rest] if found else []


def _makes_text(record: Record) -> bool:
    return (word(record.get("action")) or "").upper() in _TEXTS


def _urls(value: Any, name: str) -> list[str]:
    """Return the URLs in a list of texts or of objects with such a field."""
    found = [item.get(name) if isinstance(item, dict) else item if name == "url" else None for item in items(value)]
    return links(found)


def _preview(record: Record) -> list[Result]:
    """Return the picture of a running task. new-api adds a random query to its URL at every poll, which is no news."""
    url = link(record.get("imageUrl"))
    return [Result("image", _FRESH.sub("", url), role="preview")] if url and not _makes_text(record) else []


def _failure(record: Record, state: State | None) -> Failure | None:
    """Return why it failed, by the text: there is no code."""
    text = line(record.get("failReason"))
    if state is State.FAILED:
        return failure_from_text(text)
    return Failure("cancelled", text) if state is State.CANCELLED and text else None


def _actions(record: Record) -> tuple[Action, ...]:
    """Return the buttons, in the provider's order. Some have an emoji for a label."""
    read = [fields(button) for button in items(record.get("buttons"))]
    named = [(word(button.get("customId")), word(button.get("label")) or word(button.get("emoji"))) for button in read]
    return tuple(Action(custom_id, label or custom_id) for custom_id, label in named if custom_id)
