"""Sample documents for the schemas of the OpenAPI document."""

from collections.abc import Iterator, Mapping
from typing import Any

from service.web.api.openapi import document

DOCUMENT = document()
COMPONENTS: Mapping[str, Any] = DOCUMENT["components"]["schemas"]
ID = "01a1fdfb-6590-78b2-9217-c49a4ce509c0"
_FORMATS = {"uuid": ID, "date-time": "2026-01-31T12:00:00Z", "uri": "https://example.com/a"}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the method, the path and the description of every operation."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a schema, or the component that it refers to."""
    name = schema.get("$ref", "").rpartition("/")[2]
    return resolved(COMPONENTS[name]) if name else schema


def request_schema(operation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the schema of the body of a request; None where there is no body in JSON."""
    content = operation.get("requestBody", {}).get("content", {})
    described = content.get("application/json")
    return None if described is None else resolved(described["schema"])


def success(operation: Mapping[str, Any]) -> tuple[int, Mapping[str, Any] | None]:
    """Return the status and the schema of the first success; None for a body that is not JSON."""
    status, response = next((int(code), each) for code, each in operation["responses"].items() if code.startswith("2"))
    content = response.get("content", {}).get("application/json")
    return status, None if content is None else resolved(content["schema"])


def sample(schema: Mapping[str, Any], *, text: str = "text") -> Any:
    """Return a document that a schema accepts, with every property. A nullable property gets a value.

    :param text: the value of every string that has no enum, format, pattern or example
    """
    schema = resolved(schema)
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return sample(schema[word][0], text=text)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    stated = schema.get("type", "object")
    kind = stated if isinstance(stated, str) else next(each for each in stated if each != "null")
    return _sample_of(kind, schema, text)


def _sample_of(kind: str, schema: Mapping[str, Any], text: str) -> Any:
    match kind:
        case "object":
            known = {name: sample(each, text=text) for name, each in schema.get("properties", {}).items()}
            return known or ({text: text} if schema.get("additionalProperties") != {} else {})
        case "array":
            return [sample(schema.get("items", {"type": "string"}), text=text)]
        case "string" if "format" in schema:
            return _FORMATS.get(schema["format"], text)
        case "string":
            return (schema.get("examples") or ["1"])[0] if "pattern" in schema else text
        case "integer" | "number":
            return max(schema.get("minimum", 1), 1)
        case _:
            return kind == "boolean" or None
