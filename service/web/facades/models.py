"""Find the family and the operation that serve a model which a client of another API names."""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from service.domain.validation import Schema
from service.flows.context import Context
from service.providers.registry import FAMILIES

_FAMILIES: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("sora", ("openai", "sora")),
    ("gpt", ("openai",)),
    ("chatgpt", ("openai",)),
    ("dall-e", ("openai",)),
    ("claude", ("anthropic",)),
    ("veo", ("veo",)),
    ("kling", ("kling",)),
    ("gen3", ("runway",)),
    ("gen4", ("runway",)),
    ("aleph", ("runway",)),
    ("act_two", ("runway",)),
    ("luma", ("luma",)),
    ("ray", ("luma",)),
    ("photon", ("luma",)),
    ("minimax", ("minimax",)),
    ("hailuo", ("minimax",)),
    ("vidu", ("vidu",)),
    ("wan", ("wan",)),
    ("seedance", ("seedance",)),
    ("seedream", ("seedance",)),
    ("doubao-seed", ("seedance",)),
    ("jimeng", ("jimeng",)),
    ("grok", ("grok",)),
    ("pika", ("pika",)),
    ("flux", ("flux",)),
    ("ideogram", ("ideogram",)),
    ("recraft", ("recraft",)),
)
"""The families of a model, by the beginning of its name, the preferred one first."""
_ANY: Final = ("any", "run")
_SIZE: Final = re.compile(r"([1-9][0-9]{1,4})\s*[x*:]\s*([1-9][0-9]{1,4})")
_SHORT_SIDES: Final = {480: "480p", 720: "720p", 1080: "1080p", 2160: "4k"}


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """The operation that serves a request, and the model by the name of its family."""

    family: str
    operation: str
    model: str | None
    """None: the family's own default."""

    @property
    def is_any(self) -> bool:
        """Whether the input is the vendor's own."""
        return (self.family, self.operation) == _ANY


def target_of(context: Context, model: Any, operations: str | Sequence[str], *, default: str) -> Target:
    """Return the operation that serves a model: of a family that an upstream serves, else of any model by its name.

    A name such as ``kling`` or ``kling/kling-v2`` names the family itself.

    :param model: a name; any other value is none
    :param operations: the operations that can serve the request; families name them differently
    :param default: the family of a model that no table knows
    """
    wanted = (operations,) if isinstance(operations, str) else operations
    model = model if isinstance(model, str) else None
    families, named = families_of(model)
    candidates = [
        (name, operation)
        for name in families or (default,)
        for operation in wanted
        if operation in FAMILIES[name].operations
    ]
    served = next((each for each in candidates if is_served(context, *each)), None)
    if served is None and model and (not families or not candidates) and is_served(context, *_ANY):
        return Target(*_ANY, model)
    family, operation = served or next(iter(candidates), (default, wanted[0]))
    return Target(family, operation, named)


def families_of(model: str | None) -> tuple[tuple[str, ...], str | None]:
    """Return the families of a model by its name, and its name within them."""
    if not model:
        return (), None
    head, slash, rest = model.partition("/")
    if head in FAMILIES:
        return (head,), rest if slash and rest else None
    plain = model.lower()
    return next((families for start, families in _FAMILIES if plain.startswith(start)), ()), model


def is_served(context: Context, family: str, operation: str) -> bool:
    """Return whether a configured upstream serves an operation."""
    return any(each.dialect_for(family, operation) is not None for each in context.upstreams.values())


def fitting(target: Target, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that an operation has and that are valid there; others are left out.

    :param given: values in our names; None is no value
    """
    schemas = _schemas(target.family, target.operation)
    return {
        name: value
        for name, value in given.items()
        if value is not None and name in schemas and (name in _ALWAYS or not schemas[name].mistakes(value))
    }


@functools.cache
def _schemas(family: str, operation: str) -> Mapping[str, Schema]:
    """Return the schema of each field of an operation."""
    found = FAMILIES[family].operations.get(operation)
    return {} if found is None else {name: Schema(field) for name, field in found.input["properties"].items()}


_ALWAYS: Final = frozenset({"prompt", "image", "images", "video", "audio", "model", "text", "messages"})
"""Fields whose mistakes are reported rather than left out."""


def shape_of(size: Any) -> tuple[str | None, str | None]:
    """Return the aspect ratio and the resolution of a size such as ``1280x720``; None where it is no size."""
    found = _SIZE.fullmatch(size.strip().lower()) if isinstance(size, str) else None
    if found is None:
        return None, None
    width, height = int(found[1]), int(found[2])
    divisor = math.gcd(width, height)
    return f"{width // divisor}:{height // divisor}", _SHORT_SIDES.get(min(width, height))


def seconds_of(value: Any) -> Any:
    """Return a duration as a number, where it is written as one or as ``8`` or ``8s``; else None."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?s?", value.strip()):
        return None
    number = float(value.strip().rstrip("s"))
    return int(number) if number.is_integer() else number
