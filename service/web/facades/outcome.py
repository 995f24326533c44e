"""The errors of doors that wait for a result: why there is none."""

from collections.abc import Mapping
from typing import Final

from service.domain.task import State, Task
from service.flows.webhooks.formats.shapes import code_of, reason_of
from service.web.facades.door import DoorRequest
from service.web.facades.headers import MARK
from service.web.problems import Problem

_STATUSES: Final[Mapping[str, int]] = {
    "invalid_input": 400,
    "content_policy": 400,
    "cancelled": 400,
    "not_found": 400,
    "insufficient_credit": 429,
    "provider_timeout": 504,
}
"""HTTP status by the code of a failure; others are errors of the upstream."""
_UPSTREAM: Final = 500
_LATE: Final = 504
_FINAL: Final = {"x-should-retry": "false"}


def succeeded(task: Task) -> Task:
    """Return a task that has succeeded.

    :raises Problem: when it has failed, or has not ended while the client waited; the task goes on then
    """
    if task.state is State.SUCCEEDED:
        return task
    if task.state is State.UNCONFIRMED:
        detail = (
            f"the answer of the upstream broke off; task {task.id} may have been paid for, and is not submitted again"
        )
        raise Problem(_LATE, "provider_timeout", detail, headers=_FINAL)
    if not task.state.ended:
        detail = f"the result is not ready; task {task.id} goes on, and its result can be fetched by that id"
        raise Problem(_LATE, "provider_timeout", detail, headers=_FINAL)
    code = code_of(task)
    raise Problem(_STATUSES.get(code, _UPSTREAM), code, reason_of(task) or "the task failed", headers=_FINAL)


async def held(request: DoorRequest, task: Task) -> Task:
    """Return a task that has succeeded, after waiting for its end.

    :raises Problem: when it has failed, or has not ended in time
    """
    latest = await request.wait(task)
    if not latest.state.ended and request.context.signals.closed:
        # A client that marks its repeats gets the same task from the next process.
        again = "true" if MARK in request.http.headers else "false"
        detail = f"the server is stopping; task {task.id} goes on"
        raise Problem(_LATE, "unavailable", detail, headers={"x-should-retry": again})
    return succeeded(latest)


def rest_of(task: Task, text: str, sent: str) -> str:
    """Return the part of a text that a client has not got yet.

    :raises Problem: 500 where it has got another text: the answer was begun anew
    """
    if not text.startswith(sent):
        detail = f"the answer was begun anew; the whole answer is the result of task {task.id}"
        raise Problem(_UPSTREAM, "provider_error", detail, headers=_FINAL)
    return text[len(sent) :]
