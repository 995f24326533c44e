"""Event streams (``text/event-stream``): synchronous providers and gateways answer so, also unasked."""

import dataclasses
import re
from typing import Any

from service.providers.read import first_json
from service.providers.wire import Reply

DONE = "[DONE]"
"""The end of a stream in OpenAI's form."""
_EVENT_STREAM = "text/event-stream"
_LINE = re.compile(r"(event|data)(?::[ ]?(.*))?$", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream."""

    name: str
    """By the stream, or else the ``type`` in its document; blank where neither says."""
    document: Any
    """Its JSON; ``NOTHING`` where it has none."""


def is_stream(reply: Reply) -> bool:
    """Return whether a body is an event stream, by its type or by its first line."""
    if reply.header("content-type").lower().startswith(_EVENT_STREAM):
        return True
    start = reply.text[:200].lstrip("\ufeff \t\r\n")
    return start.startswith(("data:", "event:", ":"))


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
