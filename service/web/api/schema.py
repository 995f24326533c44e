"""Build JSON Schema from response models, and the annotations that the models share."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, WithJsonSchema
from pydantic.json_schema import GenerateJsonSchema

Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""An RFC 3339 time in UTC."""
Id = Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
"""A UUID of version 7."""

_REFERENCE = "#/components/schemas/{model}"


def ref(name: str) -> dict[str, str]:
    """Return a reference to a component of the OpenAPI document."""
    return {"$ref": _REFERENCE.format(model=name)}


def about(description: str) -> Any:
    """Return the annotation that describes a field."""
    return Field(description=description)


def one_of(values: Iterable[str | None], description: str | None = None) -> Any:
    """Return the annotation that limits a field to some values."""
    return Field(
        description=description, json_schema_extra={"enum": [None if value is None else str(value) for value in values]}
    )


class _WithoutFieldTitles(GenerateJsonSchema):
    """A generator that adds no title to a field: it would repeat the field's name."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic calls it with the schema
        return False


def components(*models: type) -> dict[str, Any]:
    """Return the JSON Schema of response models and of every model that they contain, by name."""
    inputs: list[tuple[str, Any, TypeAdapter[Any]]] = [
        (model.__name__, "serialization", TypeAdapter(model)) for model in models
    ]
    _, document = TypeAdapter.json_schemas(inputs, ref_template=_REFERENCE, schema_generator=_WithoutFieldTitles)
    found: dict[str, Any] = document["$defs"]
    return found
