"""The fields of a request that bound what a task may cost."""

from typing import Any, Final, get_args

from service.domain.money.terms import MAX_RETRIES, OnModerated, Prefer, WhenOver

AMOUNT: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["amount"],
    "properties": {
        "amount": {
            "type": "string",
            "pattern": r"^[0-9]{1,9}(\.[0-9]{1,9})?$",
            "description": "A decimal number in quotes, with up to 9 places.",
            "examples": ["0.50"],
        },
        "unit": {
            "type": "string",
            "pattern": r"^[A-Za-z][A-Za-z0-9 _/.-]{0,39}$",
            "default": "USD",
            "examples": ["USD"],
            "description": "A currency, or the upstream's own unit, such as `credits`.",
        },
    },
}
"""JSON Schema of an amount in a request."""

TERMS_SCHEMA: Final[dict[str, Any]] = {
    "max_cost": AMOUNT
    | {
        "description": (
            "The most that the task may cost. An upstream whose upper bound is above it is skipped; where none is left, the "
            "request is refused. Every submission of the task that may be charged counts."
        ),
        "examples": [{"amount": "0.50", "unit": "USD"}],
    },
    "prefer": {
        "type": "string",
        "enum": list(get_args(Prefer)),
        "description": "The order of the upstreams: as configured, by the quoted price, or by the usual duration.",
    },
    "when_over_budget": {
        "type": "string",
        "enum": list(get_args(WhenOver)),
        "description": "What happens when your budget has no room for it: refuse the task, or wait until there is room.",
    },
    "on_moderated": {
        "type": "string",
        "enum": list(get_args(OnModerated)),
        "description": (
            "What happens when a provider withholds the output after the job has run: fail, buy it again, or buy it at the next "
            "upstream. Each purchase is within `max_cost` and your budget."
        ),
    },
    "moderated_retries": {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_RETRIES,
        "description": "How many times it may be bought again for that reason.",
    },
}
"""JSON Schema of those fields, by name."""
