"""The forms of messages to a ``callback_url``: Dovecote's own, and those of other APIs.

A form of another API is a pure function of the task. The door of that API shows tasks by the same function.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from service.domain.task import Task
from service.flows.webhooks.formats import elkapi, fal, midjourney_proxy, openai, replicate, runway_gateway, suno

DOVECOTE: Final = "dovecote"
Write = Callable[[Task, str], Any]
"""Returns the body of a message about a task, with the address that links begin with; it may be empty."""
FORMATS: Final[Mapping[str, Write | None]] = {
    DOVECOTE: None,
    "replicate": replicate.message,
    "fal": fal.message,
    "elkapi": elkapi.message,
    "openai": openai.message,
    "midjourney-proxy": midjourney_proxy.message,
    "runway-gateway": runway_gateway.message,
    "suno": suno.message,
}
"""Every form by its name; None: Dovecote's own, which has the type of the message around the task."""
