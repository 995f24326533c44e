"""Write the body of a webhook message."""

import datetime as dt
from typing import Final

import orjson

from service.domain.events import rfc3339
from service.domain.task import Task
from service.flows.render import show_task_briefly
from service.flows.webhooks.formats import DOVECOTE, FORMATS

MAX_BODY: Final = 1024 * 1024
"""Bytes of a message in the form of another API. A larger one, such as one with a whole picture in it, is sent in Dovecote's
own form, which is truncated."""


def payload_of(
    kind: str, task: Task, at: dt.datetime, *, sequence: int, api_url: str | None, style: str = DOVECOTE
) -> str:
    """Return the body of a message about a task.

    :param kind: the type of the message
    :param sequence: the number of the event that the message is about
    :param api_url: address of this installation's API, for links
    :param style: the form of the body, a key of ``FORMATS``
    """
    write = FORMATS.get(style)
    if write is not None:
        body = orjson.dumps(write(task, api_url or ""))
        if len(body) <= MAX_BODY:
            return body.decode()
    document = {
        "type": kind,
        "timestamp": rfc3339(at),
        "sequence": sequence,
        "data": show_task_briefly(task, now=at, api_url=api_url),
    }
    return orjson.dumps(document).decode()
