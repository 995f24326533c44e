"""The operations of Anthropic, and of the gateways with its protocol."""

from collections.abc import Mapping

from service.providers.operation import FIELDS, Schema, family, operation, several
from service.providers.talk import TALK_FIELDS

MODEL = "claude-sonnet-5-5"
"""The model, where the task names none."""
_FIELDS: Mapping[str, Schema] = {**FIELDS, **TALK_FIELDS}
_OF_REQUEST = ("prompt", "messages", "system", "images", "max_tokens", "temperature")
_REQUEST: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {name: _FIELDS[name] for name in _OF_REQUEST}
    | {"options": {"type": "object", "description": "Fields of Anthropic's own for this request."}},
}
_BATCH = {
    "requests": several(
        "The conversations: each has the fields of `chat`. The results are in the same order.",
        _REQUEST,
        maxItems=1000,
        examples=[[{"prompt": "Name a bird that finds its way home"}, {"prompt": "Name another one"}]],
    )
}
_DAY = 26 * 3600.0
"""Seconds: a batch ends within 24 hours."""
_QUICK = 900.0
"""Seconds: the answer is the result, and is waited for 10 minutes."""
FAMILY = family(
    "anthropic",
    "Anthropic",
    operation(
        "chat",
        "text",
        "prompt+ messages system images max_tokens temperature model",
        known=_FIELDS,
        aliases=("messages", "completion"),
        deadline=_QUICK,
    ),
    operation("batch", "text", "requests* model", known={**_FIELDS, **_BATCH}, deadline=_DAY),
    operation("count_tokens", "json", "prompt+ messages system images model", known=_FIELDS, deadline=_QUICK),
)
for _operation in FAMILY.operations.values():
    _operation.input["properties"]["model"]["default"] = MODEL
