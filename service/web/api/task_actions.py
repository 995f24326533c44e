"""Act on one task: cancel, refresh, send input, submit again."""

import math
from typing import Any, Final

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.errors import Refused, UpstreamError
from service.domain.task import State, Task
from service.domain.validation import Invalid, Mistake
from service.flows import polling
from service.flows.context import Context
from service.flows.submission import cancel, reconcile
from service.flows.submission import input as task_input
from service.flows.upstreams.poll_rate import PolledTooOften
from service.web.api.models import ref
from service.web.api.route import MAX_SMALL_BODY, ApiRequest, Endpoint, ResponseSpec, invalid, json_response
from service.web.api.tasks import ID, LATEST, TAG, find, render
from service.web.problems import RETRY_AFTER, Problem

UNCONFIRMED: Final = (
    "must be true and the only field: the job may exist already, and a second one may be charged as well"
)


async def cancel_task(request: ApiRequest) -> Response:
    """Cancel a task."""
    task = await find(request)
    if task.state is not State.CANCELLED:
        await cancel_found(request.context, task)
        task = await find(request)
        return json_response(render(request, task), 200 if task.state.ended else 202)
    return json_response(render(request, task))


async def cancel_found(context: Context, task: Task) -> None:
    """Cancel an open task.

    :raises Problem: 409 when it has ended; 503 when the provider could not be reached
    """
    if task.state.ended:
        raise Problem(409, "already_ended", f"the task is {task.state}: it cannot be cancelled any more")
    try:
        await cancel.cancel(context, task)
    except UpstreamError as error:
        raise _not_reached(task, error) from error


async def refresh(request: ApiRequest) -> Response:
    """Query the provider now."""
    task = await find(request)
    if await refresh_found(request.context, task, client=request.client):
        task = await find(request)
    return json_response(render(request, task))


async def refresh_found(context: Context, task: Task, *, client: str) -> bool:
    """Poll a task now; return False where there is nothing to ask.

    :param client: the one that asks
    :raises Problem: 429 when the upstream is polled as often as it may be
    """
    if task.decided_by == "provider" or task.external_id is None or task.erased_at is not None:
        return False
    try:
        await polling.poll_now(context, task, client=client)
    except PolledTooOften as error:
        wait = str(max(math.ceil(error.wait), 1))
        raise Problem(429, "rate_limited", str(error), headers={"Retry-After": wait}) from None
    return True


async def send_input(request: ApiRequest) -> Response:
    """Send the input that a task waits for."""
    task = await find(request)
    await send_input_of(request.context, task, await request.read_json())
    return json_response(render(request, await find(request)))


async def send_input_of(context: Context, task: Task, document: Any) -> None:
    """Send the input that a task waits for.

    :raises Problem: 422 with every mistake; 409 when it waits for none; 503 when the provider did not take it
    """
    try:
        await task_input.send_input(context, task, document)
    except Invalid as error:
        raise invalid(error.mistakes) from None
    except task_input.NotAwaited as error:
        raise Problem(409, "not_awaited", str(error)) from None
    except Refused as error:
        detail = f"{task.upstream} refuses the input: {error.message or error.code}"
        raise invalid([Mistake("input", detail)]) from error
    except UpstreamError as error:
        detail = f"{task.upstream} did not accept the input ({error.message or error.code}); send it again"
        raise Problem(503, "upstream_unavailable", detail, headers={"Retry-After": RETRY_AFTER}) from error


async def retry(request: ApiRequest) -> Response:
    """Submit an unconfirmed task again."""
    task = await find(request)
    document = await request.read_json(MAX_SMALL_BODY)
    if not isinstance(document, dict) or document.get("confirm_double_payment") is not True or len(document) > 1:
        raise invalid([Mistake("confirm_double_payment", UNCONFIRMED)])
    await retry_found(request.context, task)
    return json_response(render(request, await find(request)), 202)


async def retry_found(context: Context, task: Task) -> None:
    """Submit an unconfirmed task again, after its client has accepted a possible second charge.

    :raises Problem: 409 when it is not unconfirmed, or follows a job that was bought elsewhere
    """
    if task.adopted:
        detail = "its job was bought elsewhere, and Dovecote never submits it; submit a new task to buy another job"
        raise Problem(409, "adopted", detail)
    try:
        await reconcile.retry(context, task)
    except reconcile.NotUnconfirmed as error:
        detail = f"{error}: only a task in `unconfirmed` can be submitted again; submit a new task"
        raise Problem(409, "not_unconfirmed", detail) from None


def _not_reached(task: Task, error: UpstreamError) -> Problem:
    detail = f"{task.upstream} could not be reached ({error.message or error.code}); the cancellation is stored, repeat the request"
    return Problem(503, "upstream_unavailable", detail, headers={"Retry-After": RETRY_AFTER})


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/tasks/{id}/cancel",
        handler=cancel_task,
        scope=Scope.SUBMIT,
        name="cancelTask",
        tag=TAG,
        summary="Cancel a task",
        description=(
            "Cancels the job at the provider where that cannot destroy a finished result. Elsewhere the task is cancelled in "
            "Dovecote only, and its explanation says so. A result that arrives later is kept."
        ),
        parameters=(ID,),
        responses={
            200: ResponseSpec(description="Cancelled, or ended in the meantime.", schema=ref("Task")),
            202: ResponseSpec(
                description="Stored: the job is cancelled when its id at the provider is known.", schema=ref("Task")
            ),
        },
        problems=(404, 409, 503),
    ),
    Endpoint(
        method="POST",
        path="/v1/tasks/{id}/input",
        handler=send_input,
        scope=Scope.SUBMIT,
        name="giveTaskInput",
        tag=TAG,
        summary="Send the input that a task waits for",
        description="For a task in `awaiting_input`. `awaits` describes the input. It is sent to the provider once.",
        parameters=(ID,),
        body={"type": "object"},
        example={"prompt": "a fox in the snow"},
        responses={200: LATEST},
        problems=(400, 404, 409, 413, 415, 422),
    ),
    Endpoint(
        method="POST",
        path="/v1/tasks/{id}/retry",
        handler=retry,
        name="retryTask",
        scope=Scope.SUBMIT,
        tag=TAG,
        summary="Submit an unconfirmed task again",
        description=(
            "For a task in `unconfirmed`: its submit got no usable response, so the job may exist and may be charged. Dovecote "
            "does not submit it again unless its `on_uncertain` allows that. If the first job appears later, the ledger shows it "
            "as a duplicate job, and Dovecote cancels it where the provider can do that."
        ),
        parameters=(ID,),
        body={
            "type": "object",
            "additionalProperties": False,
            "required": ["confirm_double_payment"],
            "properties": {
                "confirm_double_payment": {
                    "type": "boolean",
                    "const": True,
                    "description": "Confirms that you accept a possible second charge.",
                }
            },
        },
        example={"confirm_double_payment": True},
        responses={202: ResponseSpec(description="The task is submitted again.", schema=ref("Task"))},
        problems=(400, 404, 409, 413, 415, 422),
    ),
    Endpoint(
        method="POST",
        path="/v1/tasks/{id}/refresh",
        handler=refresh,
        scope=Scope.SUBMIT,
        name="refreshTask",
        tag=TAG,
        summary="Query the provider now",
        description=(
            "Polls outside the schedule. An error of the provider is noted in the task and changes nothing else. The "
            "upstream's `polls_per_second` counts, and a client may use half of it; beyond that the response is 429."
        ),
        parameters=(ID,),
        responses={200: LATEST},
        problems=(404,),
    ),
)
