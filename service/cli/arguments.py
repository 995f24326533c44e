"""Parse the arguments of a command: ``key=value`` pairs typed by a schema, spans and moments."""

import dataclasses
import datetime as dt
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

_PAIR: Final = re.compile(r"(?P<name>[^=:]+)(?P<sign>:=|=)(?P<text>.*)", re.DOTALL)
_SPAN: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[smhd]?)", re.IGNORECASE)
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_BOOLEANS: Final = {"true": True, "false": False, "yes": True, "no": False}


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """One ``key=value`` argument; the text of ``@file`` is that of the file."""

    name: str
    text: str
    is_json: bool
    """Whether it was written ``key:=value``: then the text is JSON."""


def read_pair(written: str) -> Pair:
    """Parse ``key=text``, ``key=@file``, ``key:=json`` or ``key:=@file``.

    :raises click.UsageError: for anything else
    """
    found = _PAIR.fullmatch(written)
    if found is None:
        raise click.UsageError(f"{written[:80]!r} is not of the form key=value")
    name, text = found["name"].strip(), found["text"]
    if text.startswith("@"):
        text = _file(name, text.removeprefix("@"))
    return Pair(name, text, is_json=found["sign"] == ":=")


def read_input(written: Iterable[str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Parse the input of an operation: each value as its schema requires, and a repeated key as a list.

    A value that does not fit stays text, so that the server reports it together with every other mistake.

    :param schema: JSON Schema of the input; an empty one makes everything text
    :raises click.UsageError: for an argument that is not ``key=value``, and for a repeated key that takes no list
    """
    properties: Mapping[str, Any] = schema.get("properties", {})
    read: dict[str, Any] = {}
    for name, pairs in _by_name(written).items():
        wanted = properties.get(name, {})
        if len(pairs) == 1:
            read[name] = _json_of(pairs[0]) if pairs[0].is_json else typed(pairs[0].text, wanted)
        elif "array" in _types(wanted):
            items = wanted.get("items", {})
            read[name] = [_json_of(pair) if pair.is_json else typed(pair.text, items) for pair in pairs]
        else:
            raise click.UsageError(f"{name} is given {len(pairs)} times")
    return read


def read_options(written: Iterable[str]) -> dict[str, Any]:
    """Parse pairs without a schema: ``key=text`` is text and ``key:=json`` is JSON."""
    return read_input(written, {})


def typed(text: str, schema: Mapping[str, Any]) -> Any:
    """Convert a text to the first type of a schema that it fits; else return it unchanged."""
    types = _types(schema)
    if "boolean" in types and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    if types & {"integer", "number"} and (number := _number(text)) is not None:
        return number
    if "object" in types and text.lstrip().startswith("{"):
        return _parsed(text, otherwise=text)
    if "array" in types:
        return _list(text, schema.get("items", {}))
    return None if text == "null" and "null" in types and "string" not in types else text


def read_seconds(written: str) -> float | None:
    """Parse a span to seconds: ``90``, ``90s``, ``15m``, ``2h``, ``1d``; return None for anything else."""
    found = _SPAN.fullmatch(written.strip())
    return None if found is None else float(found["number"]) * _UNITS[found["unit"].lower()]


def read_moment(written: str, *, now: dt.datetime) -> str:
    """Parse a moment to RFC 3339: a span before now (``2h``), or a time; a time without a zone is local.

    :raises click.UsageError: for anything else
    """
    seconds = read_seconds(written)
    try:
        moment = dt.datetime.fromisoformat(written) if seconds is None else now - dt.timedelta(seconds=seconds)
        return moment.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        raise click.UsageError(f"{written[:80]!r} is neither a span, such as 15m, 2h or 1d, nor a time") from None


def _by_name(written: Iterable[str]) -> dict[str, list[Pair]]:
    pairs: dict[str, list[Pair]] = {}
    for pair in map(read_pair, written):
        pairs.setdefault(pair.name, []).append(pair)
    return pairs


def _file(name: str, path: str) -> str:
    """Return the text of a file, or of standard input for ``-``, without a final line end."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{name}: {path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise click.UsageError(f"{name}: {path} is not text: pass media as a URL") from None
    return text.removesuffix("\n").removesuffix("\r")


def _json_of(pair: Pair) -> Any:
    try:
        return json.loads(pair.text)
    except ValueError as error:
        raise click.UsageError(f"{pair.name}: not JSON: {error}") from None


def _types(schema: Mapping[str, Any]) -> set[str]:
    """Return the types that a schema accepts, itself or in any of its alternatives."""
    stated = schema.get("type", ())
    types = {stated} if isinstance(stated, str) else set(stated)
    return types.union(*(_types(each) for each in _alternatives(schema)))


def _alternatives(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for word in ("anyOf", "oneOf", "allOf"):
        yield from schema.get(word, ())


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if number == number and abs(number) != float("inf") else None  # noqa: PLR0124 - only NaN differs from itself
    return None


def _list(text: str, items: Mapping[str, Any]) -> Any:
    if text.lstrip().startswith("["):
        return _parsed(text, otherwise=text)
    if text.lower().startswith("data:"):  # a data URI always has a comma
        return [text]
    return [typed(part.strip(), items) for part in text.split(",") if part.strip()]


def _parsed(text: str, *, otherwise: Any) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return otherwise
