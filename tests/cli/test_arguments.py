"""Command arguments are parsed as their schema requires."""

import datetime as dt
import io
from pathlib import Path
from typing import Any

import click
import pytest

from service.cli.arguments import read_input, read_moment, read_options, read_seconds, typed
from service.providers.registry import FAMILIES

NOW = dt.datetime(2026, 1, 31, 12, 0, tzinfo=dt.UTC)
SCHEMA: dict[str, Any] = {
    "properties": {
        "prompt": {"type": "string"},
        "duration": {"type": "number"},
        "seed": {"type": ["integer", "null"]},
        "loop": {"type": "boolean"},
        "images": {"type": "array", "items": {"type": "string"}},
        "sizes": {"type": "array", "items": {"type": "integer"}},
        "motion": {"type": "object"},
        "reference": {"anyOf": [{"type": "string"}, {"type": "object"}]},
    }
}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("prompt=a dove = a bird: really", "a dove = a bird: really"),
        ("prompt=5", "5"),
        ("prompt=", ""),
        ("prompt=null", "null"),
        ("duration=5", 5),
        ("duration=5.5", 5.5),
        ("duration=long", "long"),
        ("duration=nan", "nan"),
        ("seed=7", 7),
        ("seed=null", None),
        ("loop=true", True),
        ("loop=NO", False),
        ("loop=1", "1"),
        ("images=a.png, b.png", ["a.png", "b.png"]),
        ('images=["a,b.png"]', ["a,b.png"]),
        ("images=data:image/png;base64,AAAA", ["data:image/png;base64,AAAA"]),
        ("sizes=1,2", [1, 2]),
        ('motion={"x": 3}', {"x": 3}),
        ("motion={x}", "{x}"),
        ("reference=https://example.com/a.png", "https://example.com/a.png"),
        ('reference={"url": "u"}', {"url": "u"}),
        ('prompt:={"en": 1}', {"en": 1}),
        ("unheard_of=5", "5"),
    ],
)
def test_value_is_converted_to_the_type_of_its_schema(written: str, read: object) -> None:
    name = written.partition("=")[0].rstrip(":")
    given = read_input([written], SCHEMA)
    assert given == {name: read}
    assert type(given[name]) is type(read)


def test_repeated_key_is_a_list_where_the_schema_has_one() -> None:
    assert read_input(["images=a,b", "images=c"], SCHEMA) == {"images": ["a,b", "c"]}
    assert read_input(["sizes=1", "sizes:=2"], SCHEMA) == {"sizes": [1, 2]}
    with pytest.raises(click.UsageError, match="prompt is given 2 times"):
        read_input(["prompt=a", "prompt=b"], SCHEMA)


def test_option_is_text_unless_written_as_json() -> None:
    assert read_options(["seconds=10", "hd:=true", "n:=3"]) == {"seconds": "10", "hd": True, "n": 3}


def test_value_is_read_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prompt.txt").write_text("two\nlines\n", encoding="utf-8")
    (tmp_path / "motion.json").write_text('{"x": 1}', encoding="utf-8")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    assert read_input([f"prompt=@{tmp_path}/prompt.txt"], SCHEMA) == {"prompt": "two\nlines"}
    assert read_input([f"motion=@{tmp_path}/motion.json"], SCHEMA) == {"motion": {"x": 1}}
    assert read_options([f"motion:=@{tmp_path}/motion.json"]) == {"motion": {"x": 1}}
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe\n"))
    assert read_input(["prompt=@-"], SCHEMA) == {"prompt": "from a pipe"}
    with pytest.raises(click.UsageError, match=r"nothing\.txt cannot be read \(No such file"):
        read_input([f"prompt=@{tmp_path}/nothing.txt"], SCHEMA)
    with pytest.raises(click.UsageError, match="is not text"):
        read_input([f"prompt=@{tmp_path}/picture.png"], SCHEMA)


@pytest.mark.parametrize("written", ["prompt", "=x", ":=x", ""])
def test_argument_that_is_no_pair_is_refused(written: str) -> None:
    with pytest.raises(click.UsageError, match="not of the form key=value"):
        read_input([written], SCHEMA)


def test_invalid_json_is_refused() -> None:
    with pytest.raises(click.UsageError, match="seed: not JSON"):
        read_input(["seed:={"], SCHEMA)


def test_example_of_every_field_can_be_written() -> None:
    """Every example of the catalogue can be written on a command line and parses to the same value."""
    tried = 0
    for family in FAMILIES.values():
        for operation in family.operations.values():
            for name, schema in operation.input["properties"].items():
                for example in schema.get("examples", ()):
                    if isinstance(example, str | int | float):
                        tried += 1
                        assert typed(str(example), schema) == example, (operation.name, name)
    assert tried


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90", 90), ("1.5", 1.5), ("90s", 90), ("15m", 900), ("2H", 7200), ("1 d", 86_400), ("soon", None), ("-5", None)],
)
def test_span_is_parsed_to_seconds(written: str, seconds: float | None) -> None:
    assert read_seconds(written) == seconds


def test_moment_is_parsed_to_rfc3339() -> None:
    assert read_moment("2h", now=NOW) == "2026-01-31T10:00:00Z"
    assert read_moment("2026-01-31T13:00:00+02:00", now=NOW) == "2026-01-31T11:00:00Z"
    assert read_moment("2026-01-31", now=NOW).endswith("Z")
    for wrong in ("yesterday", "9999999999d"):
        with pytest.raises(click.UsageError, match="neither a span"):
            read_moment(wrong, now=NOW)
