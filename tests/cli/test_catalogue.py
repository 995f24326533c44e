"""Values of a JSON Schema described in plain words."""

from typing import Any

import pytest
from click.testing import CliRunner

from service.cli import exits, main
from service.cli.catalogue import describe
from service.providers.registry import FAMILIES


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string"}, "text"),
        ({"type": "string", "minLength": 1}, "text"),
        ({"type": "string", "minLength": 1, "maxLength": 9}, "text (up to 9 characters)"),
        ({"type": "string", "minLength": 2, "pattern": "^[a-z]+$"}, "text (from 2 characters)"),
        ({"type": "string", "format": "uri"}, "URL"),
        ({"type": ["integer", "null"], "minimum": 0, "maximum": 9}, "whole number (0 to 9) or none"),
        ({"type": "number", "maximum": 10}, "number (up to 10)"),
        ({"type": "array", "items": {"type": "string"}, "minItems": 1}, "list of text (from 1)"),
        ({"enum": ["a", 5, None]}, "a or 5 or none"),
        ({"const": "x"}, "x"),
        ({"anyOf": [{"type": "string"}, {"type": "object"}]}, "text or JSON object"),
        ({"type": "boolean"}, "true or false"),
        ({}, "any"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_schema_is_described_in_words(schema: dict[str, Any], words: str) -> None:
    assert describe(schema) == words


def test_no_regular_expression_of_the_catalogue_is_shown() -> None:
    for family in FAMILIES.values():
        for operation in family.operations.values():
            for schema in operation.input["properties"].values():
                assert not set(describe(schema)) & set("^$\\[]{}")


@pytest.mark.parametrize("options", [("--url", "http://other.test"), ("--json",)])
def test_options_before_a_command_of_upstreams_are_not_passed_over(options: tuple[str, ...]) -> None:
    # The command would have acted on the server of the environment.
    result = CliRunner().invoke(main, ["upstreams", *options, "pause", "elkapi"])
    assert result.exit_code == exits.USAGE
    assert "put the options behind the command: dovecote upstreams pause …" in result.stderr
