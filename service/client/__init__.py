"""A client of Dovecote for Python: submit, wait, stream, and verify webhooks. See docs/client.md.

It imports nothing else of this package, and needs httpx and standardwebhooks only.
"""

from service.client.asynchronous import AsyncClient
from service.client.errors import (
    DovecoteError,
    FieldError,
    NotGenuine,
    Problem,
    StillOpen,
    UnexpectedAnswer,
    Unreachable,
)
from service.client.synchronous import Client
from service.client.values import Action, Event, Failure, Message, Result, Task
from service.client.webhooks import verify_webhook

__all__ = [
    "Action",
    "AsyncClient",
    "Client",
    "DovecoteError",
    "Event",
    "Failure",
    "FieldError",
    "Message",
    "NotGenuine",
    "Problem",
    "Result",
    "StillOpen",
    "Task",
    "UnexpectedAnswer",
    "Unreachable",
    "verify_webhook",
]
