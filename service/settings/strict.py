"""The base of all settings: no unknown name, no value that is spelled wrong, and no input repeated in an error."""

import ast
import inspect
import itertools
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from service.settings import values

BLANKS_ALLOWED = frozenset(
    {
        "budgets",
        "ca_file",
        "database_listen_url",
        "database_url",
        "key_name",
        "mark_certificate",
        "mark_key",
        "prices_file",
        "webhook_ca_file",
    }
)
"""Settings whose value may contain blanks: paths and names of others."""


class Strict(BaseModel):
    """A frozen model whose values are checked before they are parsed."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    @classmethod
    def descriptions(cls) -> dict[str, str]:
        """Return the docstring of each field.

        pydantic would parse this source at every start (``use_attribute_docstrings``), which takes a tenth of it.
        """
        found: dict[str, str] = {}
        for parent in (each for each in cls.__mro__ if issubclass(each, Strict)):
            (definition,) = ast.parse(inspect.getsource(parent)).body
            for field, text in itertools.pairwise(getattr(definition, "body", [])):
                match field, text:
                    case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(words))):
                        found.setdefault(name, inspect.cleandoc(words))
        return found

    @field_validator("*", mode="before")
    @classmethod
    def _spelled_well(cls, value: Any, info: ValidationInfo) -> Any:
        if _is_section(cls.model_fields[info.field_name or ""].annotation):
            return value  # checks its own values
        blanks_allowed = info.field_name in BLANKS_ALLOWED
        for text in _texts_in(value):
            fault = values.fault_in(text, blanks_allowed=blanks_allowed)
            if fault is not None:
                raise ValueError(fault)
        return value


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Strict)


def _texts_in(value: Any) -> list[str]:
    """Return the strings of a value or of a table of values."""
    if isinstance(value, Mapping):
        return [text for each in value.values() if not isinstance(each, Mapping) for text in _texts_in(each)]
    if isinstance(value, list | tuple):
        return [text for each in value for text in _texts_in(each)]
    return [value] if isinstance(value, str) else []
