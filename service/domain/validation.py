"""Check a document against a JSON Schema and report every mistake in words that help."""

import dataclasses
import difflib
import functools
import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

MAX_MISTAKES: Final = 50
"""Mistakes of one document that are reported."""
MAX_QUOTED: Final = 80
"""Characters of a client's value that a message repeats."""
MAX_NAME: Final = 128
"""Characters of a name that is compared with known names. Longer ones get no suggestion."""
MAX_PATH: Final = 200
"""Characters of a mistake's path."""

_LEAST: Final = -(2**63)
_MOST: Final = 2**64 - 1
_MASK: Final = "\ue000"
"""Stands for the rejected value in a validator's message, which would otherwise repeat all of it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Mistake:
    """One error in a request, at one place in it."""

    path: str
    """The place, as a dotted path: ``input.duration``."""
    message: str
    """The fault and the remedy."""


class Invalid(Exception):
    """A request that cannot be accepted, with everything that is wrong with it."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        """Keep every mistake."""
        super().__init__("; ".join(f"{mistake.path}: {mistake.message}" for mistake in mistakes))
        self.mistakes = list(mistakes)


@functools.lru_cache(maxsize=512)
def _validator(schema: bytes) -> Any:
    import jsonschema_rs  # noqa: PLC0415 - it takes 5 MB, and an idle server checks nothing

    return jsonschema_rs.Draft202012Validator(orjson.loads(schema), validate_formats=True, mask=_MASK)


class Schema:
    """A JSON Schema that checks documents. It is compiled when it checks the first one."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """Keep the schema."""
        self.document = schema

    @functools.cached_property
    def _validator(self) -> Any:
        return _validator(orjson.dumps(self.document))

    def mistakes(self, document: Any, *, below: str = "") -> list[Mistake]:
        """Return the mistakes of a document, up to :data:`MAX_MISTAKES`, ordered by path.

        :param below: the place of the document in the request, such as ``input``
        """
        if self._validator.is_valid(document):
            return []
        errors = itertools.islice(self._validator.iter_errors(document), MAX_MISTAKES)
        found = (mistake for error in errors for mistake in self._describe(error, document, below))
        return sorted(itertools.islice(found, MAX_MISTAKES), key=lambda mistake: mistake.path)

    def _describe(self, error: Any, document: Any, below: str) -> Iterable[Mistake]:
        parts = [str(part) for part in error.instance_path]
        path = ".".join([*([below] if below else []), *parts])
        match error.kind.name:
            case "additionalProperties":
                known = self._properties_at(error)
                for name in error.kind.unexpected[:MAX_MISTAKES]:
                    yield mistake_at(_join(path, name), f"unknown field{nearest(name, known)}")
            case "required":
                missing = str(error.message).split('"')[1]
                yield mistake_at(_join(path, missing), "is required")
            case "anyOf" | "oneOfNotValid":
                wanted = self._schema_at(error).get("description", "see its schema")
                yield mistake_at(path, f"does not fit. {wanted}")
            case "falseSchema" if "dependentSchemas" in error.schema_path:
                other = _other(error.schema_path)
                yield mistake_at(path, f"cannot be combined with {other!r}: send one of the two")
            case "pattern":
                value = quote(_value_at(document, error.instance_path))
                yield mistake_at(path, f"{value} does not have the required form{self._form(error)}")
            case "propertyNames":
                yield mistake_at(path, f"{quote(error.kind.error.instance)} is not a valid name{self._form(error)}")
            case _:
                message = str(error.message)[:500]
                yield mistake_at(path, message.replace(_MASK, quote(_value_at(document, error.instance_path)), 1))

    def _form(self, error: Any) -> str:
        """Return the nearest description of a value, as the end of a message: people do not read regular expressions."""
        found = ""
        schema: Any = self.document
        for part in list(error.schema_path)[:-1]:
            schema = schema[int(part)] if isinstance(schema, list) else schema[part]
            if isinstance(schema, Mapping) and isinstance(schema.get("description"), str):
                found = schema["description"]
        return f". {found}" if found else ""

    def _properties_at(self, error: Any) -> list[str]:
        return list(self._schema_at(error).get("properties", {}))

    def _schema_at(self, error: Any) -> Any:
        """Return the part of the schema that an error is about."""
        schema: Any = self.document
        for part in list(error.schema_path)[:-1]:
            schema = schema[int(part)] if isinstance(schema, list) else schema[part]
        return schema


def mistake_at(path: str, message: str) -> Mistake:
    """Return a mistake whose path is cut to :data:`MAX_PATH` characters."""
    return Mistake(shorten(path, MAX_PATH), message)


def unstorable(value: Any) -> str | None:
    """Return why a text or a number cannot be stored as JSON, with the remedy; None for one that can, and for anything else."""
    if isinstance(value, str):
        return "holds a NUL character: leave it out" if "\x00" in value else None
    if isinstance(value, int):
        return None if _LEAST <= value <= _MOST else "is a whole number of more than 64 bits"
    return "is no finite number" if isinstance(value, float) and not math.isfinite(value) else None


def quote(value: Any) -> str:
    """Return a short JSON text of a client's value, for a message."""
    match value:
        case str():
            return json.dumps(shorten(value, MAX_QUOTED), ensure_ascii=False)
        case list() | tuple():
            return f"a list of {len(value)}"
        case Mapping():
            return "an object"
        case _:
            return shorten(json.dumps(value), MAX_QUOTED)


def shorten(text: str, limit: int) -> str:
    """Return a text of at most ``limit`` characters; a longer one is cut and ends in ``…``."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest known name, or all of them."""
    names = list(known)
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.5) if len(word) <= MAX_NAME else []
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(sorted(names)) or 'none'}"


def without_nulls(document: Any, schema: Mapping[str, Any]) -> Any:
    """Return a document without the optional fields that are null: null means absent.

    A field keeps its null where the schema allows null.
    """
    if not isinstance(document, dict):
        return document
    properties = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    kept: dict[str, Any] = {}
    for name, value in document.items():
        if value is not None and not isinstance(value, dict):
            kept[name] = value  # most values: their schemas do not matter
            continue
        own = properties.get(name, others)
        if isinstance(value, dict):
            kept[name] = without_nulls(value, own) if isinstance(own, Mapping) else value
        elif not isinstance(own, Mapping) or _allows_null(own):
            kept[name] = value
    return kept


def _allows_null(schema: Any) -> bool:
    """Return whether a schema can accept null."""
    if not isinstance(schema, Mapping):
        return bool(schema)
    kind = schema.get("type")
    if kind is not None:
        return kind == "null" or (isinstance(kind, list) and "null" in kind)
    return any(_allows_null(each) for each in schema.get("anyOf", schema.get("oneOf", ()))) or None in schema.get(
        "enum", ()
    )


def cut_texts(document: Any, limit: int) -> Any:
    """Return a document in which every text has at most some characters. It is the same one if none is longer."""
    if isinstance(document, str):
        return document if len(document) <= limit else document[:limit]
    if isinstance(document, dict):
        cut = {name[:limit]: cut_texts(value, limit) for name, value in document.items()}
        return cut if any(cut.get(name) is not value for name, value in document.items()) else document
    if isinstance(document, list):
        items = [cut_texts(value, limit) for value in document]
        return items if any(new is not old for new, old in zip(items, document, strict=True)) else document
    return document


def _value_at(document: Any, path: Sequence[Any]) -> Any:
    for part in path:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):  # a property's name was rejected, not a value
            return part
    return document


def _other(schema_path: Sequence[Any]) -> str:
    """Return the name of the field that excludes another one."""
    where = list(schema_path)
    return str(where[where.index("dependentSchemas") + 1])


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
