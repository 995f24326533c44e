"""A message about a malformed value describes the form. It never contains a regular expression."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from service.domain.validation import Schema
from service.flows.submission.request import REQUEST
from service.providers.registry import FAMILIES

SCHEMA = {
    "properties": {
        "code": {"type": "string", "pattern": "^x[0-9]+$", "description": "An x and digits."},
        "list": {"description": "Digits.", "items": {"type": "string", "pattern": "^[0-9]$"}},
        "names": {"description": "Lower-case names.", "propertyNames": {"pattern": "^[a-z]$"}},
        "bare": {"type": "string", "pattern": "^y$"},
    }
}


@pytest.mark.parametrize(
    ("document", "path", "message"),
    [
        ({"code": "y"}, "code", '"y" does not have the required form. An x and digits.'),
        ({"list": ["1", "zz"]}, "list.1", '"zz" does not have the required form. Digits.'),
        ({"names": {"B C": 1}}, "names", '"B C" is not a valid name. Lower-case names.'),
        ({"bare": "n"}, "bare", '"n" does not have the required form'),
    ],
    ids=["property", "item of a list", "name of a property", "without description"],
)
def test_pattern_is_described_in_words(document: Any, path: str, message: str) -> None:
    [mistake] = Schema(SCHEMA).mistakes(document)
    assert (mistake.path, mistake.message) == (path, message)


def test_wrong_value_is_quoted_up_to_its_limit() -> None:
    [mistake] = Schema(SCHEMA).mistakes({"code": "y" * 500})
    assert len(mistake.message) < 200


def patterns(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every part of a schema that has a pattern."""
    if isinstance(schema, Mapping):
        if isinstance(schema.get("pattern"), str):
            yield schema
        for each in schema.values():
            yield from patterns(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from patterns(each)


def test_no_pattern_of_the_product_is_shown() -> None:
    schemas = [REQUEST, *(each.input for family in FAMILIES.values() for each in family.operations.values())]
    found = [part for schema in schemas for part in patterns(schema)]
    assert found
    for part in found:
        for wrong in ("\x00 wrong", " ", "\n", ""):
            for mistake in Schema(part).mistakes(wrong):
                assert part["pattern"] not in mistake.message
