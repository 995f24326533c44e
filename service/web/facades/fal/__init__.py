"""fal's API, for its clients: ``FAL_QUEUE_RUN_HOST``, or ``proxyUrl`` of its JavaScript client."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from service.domain.repeats import Sender
from service.web.facades.door import Door
from service.web.facades.fal import proxy, queue, storage
from service.web.facades.headers import sender_of
from service.web.problems import Problem

_OWN_HEADERS: Final = "x-fal-"
"""The beginning of headers that only fal's clients send; those of a browser have no name of their own."""


def error_document(problem: Problem) -> dict[str, Any]:
    """Return an error as fal writes it."""
    if not problem.mistakes:
        return {"detail": problem.detail}
    return {
        "detail": [
            {"loc": ["body", *each.path.split(".")], "msg": each.message, "type": "value_error"}
            for each in problem.mistakes
        ]
    }


def _sender(headers: Mapping[str, str]) -> Sender:
    """Return how the sender of a request repeats it: fal's clients do, without a mark."""
    is_fal = any(name.startswith(_OWN_HEADERS) for name in headers)
    sender = sender_of(headers)
    return dataclasses.replace(sender, repeats_unmarked=True) if is_fal else sender


DOOR: Final = Door(
    name="fal",
    prefixes=("/fal", ""),
    routes=(*proxy.ROUTES, *storage.ROUTES, *queue.ROUTES),
    write_error=error_document,
    sender=_sender,
    late_headers=queue.LATE,
    invalid_status=422,
    no_room_status=403,  # as fal answers when the balance is exhausted
)
