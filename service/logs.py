"""The log of a server: one line for each event, with fields, as text or as JSON.

A call names the event and its fields in the template: ``log.info("callback stored task=%s bytes=%d", task_id, size)``.
The text form writes ``callback stored task=… bytes=…``. The JSON form has the fields as members. Prompts, keys, tokens
and bodies are never fields, and tracebacks come without the texts of exceptions.
"""

import contextlib
import contextvars
import copy
import datetime as dt
import functools
import json
import logging
import math
import re
import sys
import traceback
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TextIO

Form = Literal["text", "json"]

MAX_VALUE = 500
"""Characters of a field's value that are written."""

request_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)
"""The id of the request that is being served. It becomes the field ``request`` of every line."""

task_id: contextvars.ContextVar[object | None] = contextvars.ContextVar("task_id", default=None)
"""The id of the task that is being worked on. It becomes the field ``task`` of every line that has none."""

_SPECIFIER = re.compile(
    r"(?:(?<=\s)|^)(?P<name>[a-z][a-z0-9_]*)=(?P<field>%[-#0 +]*\d*(?:\.\d+)?[sdrfgx])|%[-#0 +]*\d*(?:\.\d+)?[sdrfgx]|%%"
)
_PLAIN = re.compile(r"[^\s\"=\\]+")


@contextlib.contextmanager
def about(task: object) -> Iterator[None]:
    """Add the id of a task to every line that is logged in a ``with``."""
    token = task_id.set(task)
    try:
        yield
    finally:
        task_id.reset(token)


def log_to_standard_error(level: str, form: Form = "text", *, stream: TextIO | None = None) -> logging.Handler:
    """Write the log of Dovecote at a level, and of everything else warnings only.

    Libraries log what passes through them: URLs with tokens, statements, rows. None is let in by name.

    :param level: as in the settings
    :param stream: default standard error
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("dovecote").setLevel(level.upper())
    return handler


class SafeFormatter(logging.Formatter):
    """Writes tracebacks without the texts of exceptions: these quote the values that are wrong."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record. What another handler cached of its exception is not used."""
        if record.exc_text:
            record = copy.copy(record)
            record.exc_text = None
        return super().format(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the library's name
        """Return the places and the kinds of an exception and its causes."""
        return "\n".join(_traceback_of(ei[1]))


class TextFormatter(SafeFormatter):
    """Writes one line for each event: time, level, event, and the fields as ``name=value``."""

    def __init__(self) -> None:
        """Set the form of a line."""
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - the library's name
        """Return the time in UTC, as RFC 3339 has it."""
        del datefmt
        return _time_of(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        """Return the line."""
        event, fields = event_of(record)
        record.message = " ".join([event, *(f"{name}={_shown(value)}" for name, value in fields.items())])
        return super().formatMessage(record)


class JsonFormatter(SafeFormatter):
    """Writes one JSON object for each event."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object on one line."""
        event, fields = event_of(record)
        document: dict[str, Any] = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": event,
        }
        for name, value in fields.items():
            known = value is None or (isinstance(value, bool | int | float) and math.isfinite(value))
            document[name if name not in document else f"{name}_"] = value if known else str(value)[:MAX_VALUE]
        if record.exc_info and record.exc_info[1] is not None:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=True, default=str)


def event_of(record: logging.LogRecord) -> tuple[str, Mapping[str, Any]]:
    """Return the event and the fields of a record, as its template names them."""
    request, task = request_id.get(), task_id.get()
    more = {} if request is None else {"request": request}
    if task is not None:
        more = {"task": str(task), **more}
    arguments = record.args
    if not isinstance(record.msg, str) or not arguments or not isinstance(arguments, tuple):
        return _visible(record.getMessage()), more
    template, kinds = _parsed(record.msg)
    if len(kinds) != len(arguments):
        return _visible(record.getMessage()), more
    fields = {kind[0]: _value(kind[1], value) for kind, value in zip(kinds, arguments, strict=True) if kind is not None}
    rest = tuple(value for kind, value in zip(kinds, arguments, strict=True) if kind is None)
    return _visible(template % rest), fields | {name: value for name, value in more.items() if name not in fields}


@functools.lru_cache(maxsize=1024)
def _parsed(template: str) -> tuple[str, tuple[tuple[str, str] | None, ...]]:
    """Return a template without its fields, and for each argument the name and the form of its field, if it is one."""
    kinds: list[tuple[str, str] | None] = []

    def replace(found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%%"
        kinds.append((found["name"], found["field"]) if found["name"] else None)
        return "" if found["name"] else found[0]

    rest = _SPECIFIER.sub(replace, template)
    return re.sub(r"(?<=\S)\s+", " ", rest).strip(), tuple(kinds)


def _value(form: str, value: Any) -> Any:
    """Return a field's value; a number with a precision is rounded to it."""
    if isinstance(value, float) and form != "%s":
        return float(form % value)
    return value


def _shown(value: Any) -> str:
    """Return a value as text; quoted where it would not be one word."""
    text = "-" if value is None else str(value)[:MAX_VALUE]
    if _PLAIN.fullmatch(text) and text.isprintable():
        return text
    return json.dumps(text, ensure_ascii=False) if text.replace(" ", "").isprintable() else json.dumps(text)


def _visible(text: str) -> str:
    """Return a text with everything escaped that would break the line or steer a terminal."""
    if text.isprintable():
        return text
    return "".join(each if _is_visible(each) else each.encode("unicode_escape").decode() for each in text)


def _is_visible(character: str) -> bool:
    return not unicodedata.category(character).startswith(("C", "Zl", "Zp"))


def _time_of(record: logging.LogRecord) -> str:
    at = dt.datetime.fromtimestamp(record.created, dt.UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _traceback_of(error: BaseException | None) -> Iterator[str]:
    if error is None:
        return
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _traceback_of(before)
        yield "and then:"
    yield "Traceback (most recent call last):"
    yield from (line.rstrip("\n") for line in traceback.format_tb(error.__traceback__))
    yield _kind_of(error)
    for inner in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield "one of several:"
        yield from _traceback_of(inner)


def _kind_of(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    # The errors of the store consist of our own words.
    return f"{name}: {error}" if kind.__module__ == "service.store.database" else name
