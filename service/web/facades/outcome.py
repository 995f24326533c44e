"""Requests that wait for a result, and the errors that say why there is none."""

import asyncio
from collections.abc import Mapping
from typing import Final

from service.domain.task import State, Task
from service.flows.submission.reconcile import may_be_settled
from service.flows.submission.repeats import note_cut_off
from service.flows.webhooks.formats.shapes import code_of, reason_of
from service.web.facades.door import MAX_HELD, DoorRequest
from service.web.facades.headers import MARK
from service.web.facades.links import with_links
from service.web.problems import Problem
from service.web.waiting import stopped, wait_for_end

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


async def hold(request: DoorRequest, task: Task, seconds: float = MAX_HELD) -> Task:
    """Return the task of a request whose answer waits for its end, after that or after some seconds.

    It returns at once when the answer of the upstream broke off and nothing can settle the task by itself. When the
    client leaves meanwhile, a repeat of its request gets the same task.
    """
    context = request.context

    def is_settled(latest: Task) -> bool:
        return latest.state.ended or (latest.state is State.UNCONFIRMED and not may_be_settled(context, latest))

    seconds = min(seconds, MAX_HELD)
    waiting = asyncio.ensure_future(wait_for_end(context, task, seconds, enough=is_settled))
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return with_links(context, waiting.result(), request.own_address)
    finally:
        await stopped(waiting)
        await stopped(leaving)
    fingerprint: str | None = getattr(request.http.state, "fingerprint", None)
    if fingerprint is not None:
        await note_cut_off(context, request.recent, task, fingerprint)
    return task


async def _left(request: DoorRequest) -> None:
    """Return when the client has closed the connection."""
    while (await request.http.receive())["type"] != "http.disconnect":
        pass


async def held(request: DoorRequest, task: Task) -> Task:
    """Return a task that has succeeded, after waiting for its end.

    :raises Problem: when it has failed, or has not ended in time
    """
    latest = await hold(request, task)
    if not latest.state.ended and request.context.signals.closed:
        # A client that marks its repeats gets the same task from the next process.
        again = "true" if MARK in request.headers else "false"
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
