"""Make ``dovecote.example.toml`` from the model: every setting with its description, its default or an example."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from pydantic.fields import FieldInfo

from service.providers.registry import PROVIDERS
from service.settings.model import SECTIONS, Settings, UpstreamSettings

_WIDTH = 100
_HEADER = """\
# The settings of Dovecote. Copy this file to dovecote.toml and remove the # before what you set.
# Every line that is not set shows its default; where there is none, it shows an example.
# In the environment a setting is DOVECOTE_ and its name in capitals, and counts more than this file.
# This file is made from the code: dovecote settings --example
"""


def example() -> str:
    """Return the text of the example file. All settings in it are commented out."""
    fields = Settings.model_fields
    tables = [name for name, field in fields.items() if field.default_factory is dict]
    plain = (item for item in fields.items() if item[0] not in {*tables, *SECTIONS})
    texts = Settings.descriptions()
    blocks = [_HEADER, *("\n".join(_entry(name, field, texts[name])) for name, field in plain)]
    blocks += ["\n".join(_table(name, fields[name], texts[name])) for name in tables if name != "upstreams"]
    blocks += ["\n".join(_section(name)) for name in SECTIONS]
    blocks += ["\n".join(_upstream())]
    return "\n\n".join(block.strip("\n") for block in blocks) + "\n"


def _entry(name: str, field: FieldInfo, description: str) -> Iterator[str]:
    yield from _comment(description)
    yield f"#{name} = {_value(_shown(field))}"


def _table(name: str, field: FieldInfo, description: str) -> Iterator[str]:
    yield from _comment(description)
    yield f"#[{name}]"
    example: Mapping[str, Any] = (field.examples or [{}])[0]
    yield from (f"#{key} = {_value(value)}" for key, value in example.items())


def _section(name: str) -> Iterator[str]:
    yield from _comment(Settings.descriptions()[name])
    yield f"#[{name}]"
    texts = SECTIONS[name].descriptions()
    for each, field in SECTIONS[name].model_fields.items():
        yield ""
        yield from _entry(each, field, texts[each])


def _upstream() -> Iterator[str]:
    yield from _comment(Settings.descriptions()["upstreams"])
    yield from _comment(f"Known by name: {', '.join(PROVIDERS)}.")
    yield f"#[upstreams.{next(iter(PROVIDERS))}]"
    texts = UpstreamSettings.descriptions()
    for name, field in UpstreamSettings.model_fields.items():
        yield ""
        yield from _entry(name, field, texts[name])


def _shown(field: FieldInfo) -> Any:
    return field.examples[0] if field.examples else field.default


def _comment(text: str) -> Iterator[str]:
    yield from (f"# {line}" for line in textwrap.wrap(" ".join(text.split()), _WIDTH))


def _value(value: Any) -> str:
    """Return a value as TOML writes it: the same as JSON for the values of settings."""
    return orjson.dumps(value).decode().replace(",", ", ") if isinstance(value, list) else orjson.dumps(value).decode()
