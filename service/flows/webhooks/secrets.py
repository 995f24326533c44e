"""Show and rotate the secret that signs messages to a client's ``callback_url``."""

import datetime as dt
from typing import Any, Final

from service.domain.validation import Invalid, Schema
from service.domain.webhook_secret import DEFAULT_OVERLAP, MAX_OVERLAP, SecretVersion
from service.flows.context import Context
from service.store.webhooks import secrets

ROTATION: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "overlap": {
            "type": "integer",
            "minimum": 0,
            "maximum": MAX_OVERLAP,
            "default": DEFAULT_OVERLAP,
            "description": "Seconds for which the previous secret still signs, too.",
        },
    },
}
"""JSON Schema of the body of ``POST /v1/webhook-secret/rotate``."""
_ROTATION = Schema(ROTATION)


async def current(context: Context, client: str) -> SecretVersion:
    """Return which of a client's secrets signs."""
    async with context.database.reading() as connection:
        return (await secrets.of_clients(connection, [client]))[client]


async def rotate(context: Context, document: Any, *, client: str) -> SecretVersion:
    """Start the next secret of a client.

    :param document: the body of the request
    :raises Invalid: with every mistake
    """
    mistakes = _ROTATION.mistakes(document)
    if mistakes:
        raise Invalid(mistakes)
    now = context.now()
    until = now + dt.timedelta(seconds=document.get("overlap", DEFAULT_OVERLAP))
    return await context.writers.requests.run(secrets.rotate, client, until=until, now=now)
