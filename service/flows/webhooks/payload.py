"""Write the body of a webhook message."""

import datetime as dt

import orjson

from service.domain.events import rfc3339
from service.domain.task import Task
from service.flows.render import show_task_briefly


def payload_of(kind: str, task: Task, at: dt.datetime, *, api_url: str | None) -> str:
    """Return the body of a message about a task.

    :param kind: the type of the message
    :param api_url: address of this installation's API, for the link to the whole of a truncated task
    """
    document = {
        "type": kind,
        "timestamp": rfc3339(at),
        "sequence": task.sequence,
        "data": show_task_briefly(task, now=at, api_url=api_url),
    }
    return orjson.dumps(document).decode()
