"""Event streams (``text/event-stream``): synchronous providers and gateways answer so, also unasked."""

import codecs
import dataclasses
import re
from typing import Any

from service.providers.read import fields, first_json
from service.providers.wire import Reply

DONE = "[DONE]"
"""The end of a stream in OpenAI's form."""
MAX_STREAM = 64 * 1024 * 1024
"""Bytes of a stream that are read: each word of an answer has an event of some hundred bytes."""
_EVENT_STREAM = "text/event-stream"
_BLANK_LINE = re.compile(r"(?:\r\n|\n|\r(?!\n|$)){2}")
"""A final CR may be half of a CRLF: it ends no line yet."""
_SEAM = 3
"""Characters that a blank line has before its last one."""
_LINE = re.compile(r"(event|data)(?::[ ]?(.*))?$", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream."""

    name: str
    """By the stream, or else the ``type`` in its document; blank where neither says."""
    document: Any
    """Its JSON; ``NOTHING`` where it has none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a text that a stream has in pieces."""

    index: int
    """Which text of the answer it continues, counted from 0."""
    text: str


class Parser:
    """Parses an event stream while it comes."""

    def __init__(self) -> None:
        """Start at the beginning of a stream."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest: list[str] = []
        """What came behind the last blank line, in pieces: one event may have megabytes."""
        self._seam = ""
        """Its last characters: a blank line may begin with them."""

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that a chunk completes."""
        text = self._decoder.decode(chunk)
        self._rest.append(text)
        seam = self._seam + text
        self._seam = seam[-_SEAM:]
        if _BLANK_LINE.search(seam) is None:
            return []
        whole = "".join(self._rest)
        end = max((found.end() for found in _BLANK_LINE.finditer(whole)), default=0)
        complete, rest = whole[:end], whole[end:]
        self._rest, self._seam = [rest], rest[-_SEAM:]
        return events_in(complete)[0] if complete else []


def is_stream(reply: Reply) -> bool:
    """Return whether a body is an event stream, by its type or by its first line."""
    if reply.header("content-type").lower().startswith(_EVENT_STREAM):
        return True
    start = reply.text[:200].lstrip("\ufeff \t\r\n")
    return start.startswith(("data:", "event:", ":"))


def charged_document(reply: Reply) -> Any:
    """Return the document of an answer that may state its charges; of a stream the last one with a usage."""
    if not reply.header("content-type").lower().startswith(_EVENT_STREAM):
        return reply.document
    documents = [fields(event.document) for event in events_in(reply.text)[0]]
    usages = [each.get("usage") or fields(each.get("response")).get("usage") for each in documents]
    last = next((each for each in reversed(usages) if isinstance(each, dict)), None)
    return reply.document if last is None else {"usage": last}


def events_in(text: str) -> tuple[list[Event], bool]:
    """Return the complete events of a stream, and whether ``[DONE]`` ended it. An event without its blank line is cut off."""
    found: list[Event] = []
    name, data = "", list[str]()
    lines = re.split(r"\r\n|\r|\n", text)
    for line in lines:
        if not line:
            if data:
                if "\n".join(data).strip() == DONE:
                    return found, True
                found.append(_event(name, "\n".join(data)))
            name, data = "", []
            continue
        parsed = _LINE.match(line)
        if parsed is not None and parsed[1] == "event":
            name = (parsed[2] or "").strip()
        elif parsed is not None:
            data.append(parsed[2] or "")
    return found, "\n".join(data).strip() == DONE


def _event(name: str, data: str) -> Event:
    document = first_json(data)
    stated = document.get("type") if isinstance(document, dict) else None
    return Event(name or (stated if isinstance(stated, str) else ""), document)
