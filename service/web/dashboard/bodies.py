"""Show what was sent and received: readable, bounded, and without secrets. Pure."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Final

import orjson
from markupsafe import Markup, escape

from service.domain.redaction import redact
from service.domain.text import shortened, storable

MAX_SHOWN: Final = 20_000
"""Characters of a body that are shown."""
_MAX_TEXT: Final = 2_000
"""Characters of one text in a body that are shown."""
_PARTS: Final = re.compile(
    r'"(?:[^"\\]|\\[\s\S])*+(?:"(?P<name>(?=\s*:))?|\\?\Z)|(?P<value>\b(?:true|false|null|-?\d[\d.eE+-]*)\b)'
)
"""A name, a text or another value. Each character is looked at once: a body may be hostile, and one without an end is a text."""
_CLASSES: Final = {"name": "k", "value": "v"}


@dataclasses.dataclass(frozen=True, slots=True)
class Body:
    """A body with a heading."""

    heading: str
    text: str

    @property
    def markup(self) -> Markup:
        """The text with the parts of JSON marked, escaped."""
        return Markup("").join(_marked(self.text))


def body_of(heading: str, content: bytes | str) -> Body:
    """Return a body that is shown: JSON is indented, and long texts in it are cut."""
    text = content if isinstance(content, str) else content[: 4 * MAX_SHOWN].decode("utf-8", "replace")
    return Body(heading, shortened(redact(storable(_indented(text))), MAX_SHOWN))


def json_of(heading: str, document: object) -> Body:
    """Return a document as a body that is shown."""
    return body_of(heading, orjson.dumps(document, default=str).decode())


def _indented(text: str) -> str:
    try:
        document = orjson.loads(text)
        orjson.dumps(document)  # it refuses one that is nested too deeply to be walked
    except (orjson.JSONDecodeError, TypeError):
        return text
    if not isinstance(document, dict | list):
        return text
    return orjson.dumps(_cut(document), option=orjson.OPT_INDENT_2).decode()


def _cut(value: object) -> object:
    if isinstance(value, str):
        return shortened(value, _MAX_TEXT)
    if isinstance(value, dict):
        return {name: _cut(each) for name, each in value.items()}
    return [_cut(each) for each in value] if isinstance(value, list) else value


def _marked(text: str) -> Iterator[Markup]:
    if not text.lstrip().startswith(("{", "[")):
        yield escape(text)
        return
    end = 0
    for found in _PARTS.finditer(text):
        yield escape(text[end : found.start()])
        kind = "r" if "[redacted]" in found[0] else _CLASSES.get(found.lastgroup or "", "s")
        yield Markup('<span class="{}">{}</span>').format(kind, found[0])
        end = found.end()
    yield escape(text[end:])
