"""The operations of Anthropic, and of the gateways with its protocol."""

from collections.abc import Mapping

from service.providers.operation import FIELDS, Schema, family, operation
from service.providers.talk import TALK_FIELDS

MODEL = "claude-sonnet-5-5"
"""The model, where the task names none."""
_FIELDS: Mapping[str, Schema] = {**FIELDS, **TALK_FIELDS}
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
    operation("count_tokens", "json", "prompt+ messages system images model", known=_FIELDS, deadline=_QUICK),
)
for _operation in FAMILY.operations.values():
    _operation.input["properties"]["model"]["default"] = MODEL
