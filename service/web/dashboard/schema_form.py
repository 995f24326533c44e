"""A form from the JSON Schema of an operation's input, and the input from the form. Pure."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import orjson

from service.domain.validation import Mistake

Kind = Literal["long", "text", "integer", "number", "switch", "choice", "json"]
LONG: Final = frozenset(
    {"prompt", "negative_prompt", "lyrics", "text", "description", "gpt_description_prompt", "system"}
)
"""Fields that take several lines."""
_KINDS: Final[Mapping[str, Kind]] = {
    "integer": "integer",
    "number": "number",
    "boolean": "switch",
    "string": "text",
    "array": "json",
    "object": "json",
}
_URL: Final = ("https://", "http://", "data:")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a form."""

    name: str
    """Its name in the form: ``input.prompt``."""
    title: str
    kind: Kind
    value: str = ""
    hint: str = ""
    required: bool = False
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    max_length: int | None = None
    example: str = ""
    mistake: str = ""


def fields_of(
    schema: Mapping[str, Any],
    given: Mapping[str, Any],
    mistakes: Sequence[Mistake] = (),
    *,
    below: str = "input",
) -> tuple[Field, ...]:
    """Return the fields of a schema: the required ones first.

    :param given: the values by name, as texts or as JSON
    """
    required = set(schema.get("required", ()))
    properties: Mapping[str, Any] = schema.get("properties", {})
    said = _by_field(mistakes, below)
    order = sorted(properties, key=lambda name: (name not in required, name not in LONG))
    return tuple(
        dataclasses.replace(
            _field(name, properties[name], given.get(name)),
            name=f"{below}.{name}",
            required=name in required,
            mistake=said.get(name, ""),
        )
        for name in order
    )


def _field(name: str, schema: Mapping[str, Any], given: Any) -> Field:
    kind: Kind = _KINDS.get(_type_of(schema), "json")
    choices = tuple(map(str, schema.get("enum", ())))
    if choices:
        kind = "choice"
    elif kind == "text" and (name in LONG or schema.get("maxLength", 0) > 300):  # noqa: PLR2004 - more than a line
        kind = "long"
    example = schema.get("examples", [""])[0]
    hint = schema.get("description", "")
    if kind == "json":
        hint = f"{hint} One URL a line, or JSON." if _type_of(schema) == "array" else f"{hint} JSON."
        kind = "long"
    return Field(
        name=name,
        title=name,
        kind=kind,
        value=_as_text(given),
        hint=hint.strip(),
        choices=choices,
        minimum=schema.get("minimum"),
        maximum=schema.get("maximum"),
        max_length=schema.get("maxLength"),
        example="" if isinstance(example, dict | list) else str(example),
    )


def _type_of(schema: Mapping[str, Any]) -> str:
    stated = schema.get("type", "")
    if isinstance(stated, list):
        return str(next((each for each in stated if each != "null"), ""))
    return str(stated)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return "\n".join(value)
    if isinstance(value, dict | list):
        return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    return str(value)


def input_from(schema: Mapping[str, Any], form: Mapping[str, Sequence[str]], *, below: str = "input") -> dict[str, Any]:
    """Return the input that a form states. Empty fields are left out; a text that does not fit its type stays a text.

    The schema is checked later, with every mistake in its field.
    """
    found: dict[str, Any] = {}
    for name, each in schema.get("properties", {}).items():
        text = next(iter(form.get(f"{below}.{name}", ())), "").strip("\n")
        if text.strip():
            found[name] = _value(each, text)
    return found


def _value(schema: Mapping[str, Any], text: str) -> Any:
    kind, plain = _type_of(schema), text.strip()
    if kind == "string":
        return plain if plain.startswith(_URL) else text
    if kind == "boolean":
        return {"true": True, "false": False}.get(plain, plain)
    try:
        if (kind == "array" or (_may_be_list(schema) and "\n" in plain)) and not plain.startswith("["):
            return _lines(plain)
        return json_in(plain)
    except ValueError:
        return plain


def json_in(text: str) -> Any:
    """Return the JSON value that a text is.

    :raises ValueError: when it is none, or one that cannot be written again
    """
    value = orjson.loads(text)
    try:
        orjson.dumps(value)
    except TypeError:
        raise ValueError("nested too deeply") from None
    return value


def _may_be_list(schema: Mapping[str, Any]) -> bool:
    """Return whether a value of several kinds may be a list."""
    alternatives = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    return any(_type_of(each) == "array" for each in alternatives)


def _lines(text: str) -> list[Any]:
    """Return a list from lines: each is a text, or JSON where items are objects."""
    items = [line.strip() for line in text.splitlines() if line.strip()]
    return [json_in(each) if each.startswith("{") else each for each in items]


def _by_field(mistakes: Sequence[Mistake], below: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for mistake in mistakes:
        head, _, rest = mistake.path.partition(".")
        if head == below and rest:
            found.setdefault(rest.partition(".")[0], mistake.message)
    return found


def elsewhere(mistakes: Sequence[Mistake], fields: Sequence[Field]) -> Iterator[Mistake]:
    """Yield the mistakes that no field of the form shows."""
    shown = {field.name for field in fields}
    for mistake in mistakes:
        if ".".join(mistake.path.split(".")[:2]) not in shown:
            yield mistake
