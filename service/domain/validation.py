"""Check a document against a JSON Schema and say everything that is wrong with it, in words that help."""

import dataclasses
import difflib
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jsonschema_rs
import orjson

MAX_MISTAKES = 50
"""How many mistakes of a document are said at most: whoever makes more is not helped by the rest."""


@dataclasses.dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong with a request, at one place in it."""

    path: str
    """Where, as a dotted path: ``input.duration``."""
    message: str
    """What is wrong and what to do."""


class Invalid(Exception):
    """A request that cannot be accepted, with everything that is wrong with it."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        """Keep every mistake."""
        super().__init__("; ".join(f"{mistake.path}: {mistake.message}" for mistake in mistakes))
        self.mistakes = list(mistakes)


@functools.lru_cache(maxsize=512)
def _validator(schema: bytes) -> Any:
    return jsonschema_rs.Draft202012Validator(orjson.loads(schema), validate_formats=True)


class Schema:
    """A JSON Schema, ready to check documents."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """Prepare."""
        self.document = schema
        self._validator = _validator(orjson.dumps(schema))

    def mistakes(self, document: Any, *, below: str = "") -> list[Mistake]:
        """Say everything that is wrong with a document.

        :param below: where the document stands in the request, such as ``input``
        """
        if self._validator.is_valid(document):
            return []
        errors = itertools.islice(self._validator.iter_errors(document), MAX_MISTAKES)
        found = [mistake for error in errors for mistake in self._say(error, below)]
        return sorted(found, key=lambda mistake: mistake.path)

    def _say(self, error: Any, below: str) -> Iterable[Mistake]:
        path = ".".join(str(part) for part in [*([below] if below else []), *error.instance_path])
        match error.kind.name:
            case "additionalProperties":
                for name in error.kind.unexpected[:MAX_MISTAKES]:
                    known = self._properties_at(error)
                    yield Mistake(_join(path, name), f"unknown field{nearest(name, known)}")
            case "required":
                missing = str(error.message).split('"')[1]
                yield Mistake(_join(path, missing), "is required")
            case "anyOf" | "oneOfNotValid":
                wanted = self._schema_at(error).get("description", "see its schema")
                yield Mistake(path, f"does not fit. {wanted}")
            case "falseSchema" if "dependentSchemas" in error.schema_path:
                yield Mistake(path, f"does not go with {_other(error.schema_path)!r}: give one or the other")
            case _:
                yield Mistake(path, str(error.message)[:500])

    def _properties_at(self, error: Any) -> list[str]:
        return list(self._schema_at(error).get("properties", {}))

    def _schema_at(self, error: Any) -> Any:
        """Find the part of the schema that the error is about."""
        schema: Any = self.document
        for part in list(error.schema_path)[:-1]:
            schema = schema[int(part)] if isinstance(schema, list) else schema[part]
        return schema


def _other(schema_path: Sequence[Any]) -> str:
    """Name the field that rules another one out."""
    where = list(schema_path)
    return str(where[where.index("dependentSchemas") + 1])


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def nearest(word: str, known: Iterable[str]) -> str:
    """End a sentence about an unknown word: with the nearest right one, or with all of them."""
    names = list(known)
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(sorted(names)) or 'none'}"
