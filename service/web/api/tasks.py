"""Submit tasks, query them, and ask for something to be done about one."""

import asyncio
import datetime as dt
import re
from typing import Any
from uuid import UUID

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.errors import Refused, UpstreamError
from service.domain.task import State, Task
from service.domain.validation import Invalid, Mistake
from service.flows import polling
from service.flows.context import Context
from service.flows.render import show_event, show_task
from service.flows.submission import accept, cancel, reconcile, request
from service.flows.submission import input as task_input
from service.flows.upstreams import status as upstream_status
from service.store import events as event_store
from service.store import tasks as task_store
from service.web.api.models import STATE, TIME, ref
from service.web.api.route import BODY_CAP, Answers, Asked, Endpoint, Parameter, answer_json, invalid
from service.web.problems import Problem
from service.web.request_body import read_json

LONGEST_WAIT = 60
LONGEST_KEY = 255
MAX_ON_PAGE = 100


async def submit(asked: Asked) -> Response:
    """Accept a wish."""
    key = _idempotency_key(asked)
    wait = _preferred_wait(asked)
    wish = await read_json(asked.request, BODY_CAP)
    try:
        accepted = await accept.accept(asked.context, wish, client=asked.client, idempotency_key=key)
    except Invalid as error:
        raise invalid(error.mistakes) from None
    except accept.KeyReused as error:
        raise Problem(422, "idempotency_key_reused", str(error)) from None
    task = accepted.task if not wait else await _ended(asked.context, accepted.task, wait)
    headers = {"Location": f"/v1/tasks/{task.id}"}
    if not accepted.new:
        headers["Idempotency-Replayed"] = "true"
    return answer_json(_shown(asked, task), 202, headers)


async def get(asked: Asked) -> Response:
    """Show a task."""
    task = await _find(asked)
    wait = asked.query.get("wait", 0)
    if wait:
        task = await _ended(asked.context, task, wait)
    shown = _shown(asked, task)
    place = await upstream_status.queue_position(asked.context, task)
    return answer_json(shown if place is None else {**shown, "queue_position": place})


async def page(asked: Asked) -> Response:
    """List tasks."""
    wanted = _filter(asked)
    most = asked.query.get("limit", 50)
    async with asked.context.database.reading() as connection:
        found = await task_store.page(connection, wanted, most=most + 1)
    shown = found[:most]
    following = str(shown[-1].id) if len(found) > most else None
    return answer_json({"tasks": [_shown(asked, task) for task in shown], "next": following})


async def history(asked: Asked) -> Response:
    """Show what happened to a task."""
    task = await _find(asked)
    after = asked.query.get("after", 0)
    async with asked.context.database.reading() as connection:
        found = await event_store.of_task(connection, task.id, after=after)
    return answer_json({"events": [show_event(event) for event in found]})


async def stop(asked: Asked) -> Response:
    """Cancel a task."""
    task = await _find(asked)
    if task.state is State.CANCELLED:
        return answer_json(_shown(asked, task))
    if task.state.ended:
        raise Problem(409, "already_ended", f"the task is {task.state}: there is nothing left to cancel")
    try:
        await cancel.cancel(asked.context, task)
    except UpstreamError as error:
        raise _unasked(task, error) from error
    task = await _find(asked)
    return answer_json(_shown(asked, task), 200 if task.state.ended else 202)


async def refresh(asked: Asked) -> Response:
    """Ask the provider now."""
    task = await _find(asked)
    if task.decided_by != "provider" and task.external_id is not None:
        await polling.poll_now(asked.context, task)
        task = await _find(asked)
    return answer_json(_shown(asked, task))


async def give_input(asked: Asked) -> Response:
    """Give the input that a task waits for."""
    task = await _find(asked)
    given = await read_json(asked.request, BODY_CAP)
    try:
        await task_input.send_input(asked.context, task, given)
    except Invalid as error:
        raise invalid(error.mistakes) from None
    except task_input.NotAwaited as error:
        raise Problem(409, "not_awaited", str(error)) from None
    except Refused as error:
        detail = f"{task.upstream} refuses the input: {error.message or error.code}"
        raise invalid([Mistake("input", detail)]) from error
    except UpstreamError as error:
        detail = (
            f"{task.upstream} has not taken the input ({error.message or error.code}); the task waits on, try again"
        )
        raise Problem(503, "upstream_unavailable", detail, headers={"Retry-After": "5"}) from error
    return answer_json(_shown(asked, await _find(asked)))


async def retry(asked: Asked) -> Response:
    """Buy an unconfirmed task again."""
    task = await _find(asked)
    given = await read_json(asked.request, BODY_CAP)
    if not isinstance(given, dict) or given.get("confirm_double_payment") is not True or len(given) > 1:
        says = "nobody knows whether the job was bought: to buy it again, perhaps for the second time, send true"
        raise invalid([Mistake("confirm_double_payment", says)])
    try:
        await reconcile.retry(asked.context, task)
    except reconcile.NotUnconfirmed as error:
        detail = f"{error}: only a task whose submit got no usable answer can be bought again; submit a new one"
        raise Problem(409, "not_unconfirmed", detail) from None
    return answer_json(_shown(asked, await _find(asked)), 202)


async def _find(asked: Asked) -> Task:
    try:
        task_id = UUID(asked.request.path_params["id"])
    except ValueError:
        task_id = None
    if task_id is not None:
        async with asked.context.database.reading() as connection:
            task = await task_store.find(connection, task_id, asked.sees_only)
        if task is not None:
            return task
    raise Problem(404, "not_found", "there is no task with this id")


def _shown(asked: Asked, task: Task) -> dict[str, Any]:
    """Write a task; to who sees the tasks of all, with whose it is."""
    whose = {"client": task.client} if asked.sees_only is None else {}
    return {**show_task(task, now=asked.context.now()), **whose}


async def _ended(context: Context, task: Task, seconds: float) -> Task:
    """Wait until a task has ended, at most for some seconds, and give it as it is then."""
    until = asyncio.get_running_loop().time() + seconds
    with context.signals.watching(task.id) as changed:
        while True:
            changed.clear()
            async with context.database.reading() as connection:
                task = await task_store.find(connection, task.id) or task
            left = until - asyncio.get_running_loop().time()
            if task.state.ended or left <= 0 or context.signals.closed:
                return task
            try:  # whoever misses a bell is woken by flows/lookout.py
                await asyncio.wait_for(changed.wait(), left)
            except TimeoutError:
                continue


def _idempotency_key(asked: Asked) -> str | None:
    key = asked.request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 0 < len(key) <= LONGEST_KEY or not key.isprintable():
        raise invalid([Mistake("Idempotency-Key", f"is a text of 1 to {LONGEST_KEY} printable characters")])
    return key


def _preferred_wait(asked: Asked) -> int:
    """Read ``Prefer: wait=N`` (RFC 7240). A preference that cannot be met is ignored, never an error."""
    found = re.search(r"(?:^|[,;\s])wait=(\d{1,4})(?:$|[,;\s])", asked.request.headers.get("prefer", ""))
    return min(int(found[1]), LONGEST_WAIT) if found else 0


def _filter(asked: Asked) -> task_store.Filter:
    query = asked.query
    mistakes: list[Mistake] = []
    labels: dict[str, str] = {}
    if len(query.get("label", [])) > request.MAX_LABELS:
        raise invalid([Mistake("label", f"no task has more than {request.MAX_LABELS} labels")])
    for label in query.get("label", []):
        name, equals, value = label.partition("=")
        if not equals:
            mistakes.append(Mistake("label", f"{label!r} is not of the form name=value"))
        labels[name] = value
    after = first_id_at(query.get("created_after"), "created_after", mistakes)
    before = first_id_at(query.get("created_before"), "created_before", mistakes)
    if "cursor" in query:
        cursor = UUID(query["cursor"])
        before = cursor if before is None else min(before, cursor)
    if mistakes:
        raise invalid(mistakes)
    return task_store.Filter(
        client=_whose(asked),
        states=tuple(State(state) for state in query.get("state", [])),
        family=query.get("family"),
        labels=labels,
        after=after,
        before=before,
    )


def _whose(asked: Asked) -> str | None:
    """Say whose tasks are listed: the caller's, or those that an operator asks for."""
    wished: str | None = asked.query.get("client", asked.sees_only)
    if asked.sees_only not in {None, wished}:
        raise Problem(403, "forbidden", f"to see the tasks of others needs a key with the scope `{Scope.ADMIN}`")
    return wished


def first_id_at(time: str | None, name: str, mistakes: list[Mistake]) -> UUID | None:
    """Give the lowest id of a moment: a uuid of version 7 begins with milliseconds since 1970."""
    if time is None:
        return None
    try:
        at = dt.datetime.fromisoformat(time)
        milliseconds = (at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)
        return UUID(int=milliseconds << 80)
    except (ValueError, TypeError, OverflowError):
        mistakes.append(
            Mistake(name, "is a time with its zone, such as 2026-01-31T12:00:00Z (a + in a URL is written %2B)")
        )
        return None


def _unasked(task: Task, error: UpstreamError) -> Problem:
    detail = (
        f"{task.upstream} could not be asked ({error.message or error.code}); the wish to cancel is noted, try again"
    )
    return Problem(503, "upstream_unavailable", detail, headers={"Retry-After": "5"})


_ID = Parameter(name="id", place="path", schema={"type": "string", "format": "uuid"}, description="The task's id.")
_SHOWN = Answers(description="The task as it is now.", schema=ref("Task"))
_TAG = "Tasks"

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/tasks",
        handler=submit,
        scope=Scope.SUBMIT,
        name="submitTask",
        tag=_TAG,
        summary="Submit a task",
        description=(
            "Stores the task and answers at once; Dovecote hands it to an upstream in the background, once. With an "
            "`Idempotency-Key` the same request can be repeated without a second task: the same body gives the same task, "
            "another body is refused. One that comes while the first is still being stored waits for it and is given its task; "
            "where that takes too long it is told 503 with `Retry-After`, and the same request can be sent again."
        ),
        parameters=(
            Parameter(
                name="Idempotency-Key",
                place="header",
                schema={"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
                description="Your own name for this request. It stands for as long as the task is kept.",
            ),
            Parameter(
                name="Prefer",
                place="header",
                schema={"type": "string", "examples": ["wait=30"]},
                description=f"`wait=N`: answer when the task has ended, or after N seconds (at most {LONGEST_WAIT}).",
            ),
        ),
        body=ref("Wish"),
        answers={
            202: Answers(
                description="Accepted: the task, new or the one that the key stands for.",
                schema=ref("Task"),
                headers={"Location": "The task's address.", "Idempotency-Replayed": "`true` when the key was known."},
            )
        },
        problems=(400, 413, 415, 422),
    ),
    Endpoint(
        method="GET",
        path="/v1/tasks",
        handler=page,
        scope=Scope.READ,
        name="listTasks",
        tag=_TAG,
        summary="List tasks",
        description="Newest first. `next` is the cursor of the following page; it stays valid whatever happens meanwhile.",
        parameters=(
            Parameter(
                name="state", place="query", schema=STATE, description="Only in this state; may be repeated.", many=True
            ),
            Parameter(name="family", place="query", schema={"type": "string"}, description="Only of this family."),
            Parameter(
                name="client",
                place="query",
                schema={"type": "string"},
                description="Only of this client. An operator sees those of all; others may name themselves only.",
            ),
            Parameter(
                name="label",
                place="query",
                schema={"type": "string", "maxLength": 400, "examples": ["project=intro"]},
                description="Only with this label, as `name=value`; may be repeated, then all must match.",
                many=True,
            ),
            Parameter(
                name="created_after", place="query", schema=TIME, description="Only accepted at or after this time."
            ),
            Parameter(name="created_before", place="query", schema=TIME, description="Only accepted before this time."),
            Parameter(
                name="limit",
                place="query",
                schema={"type": "integer", "minimum": 1, "maximum": MAX_ON_PAGE, "default": 50},
                description="How many at most.",
            ),
            Parameter(
                name="cursor",
                place="query",
                schema={"type": "string", "format": "uuid"},
                description="`next` of the page before.",
            ),
        ),
        answers={
            200: Answers(
                description="A page of tasks.",
                schema={
                    "type": "object",
                    "required": ["tasks", "next"],
                    "properties": {
                        "tasks": {"type": "array", "items": ref("Task")},
                        "next": {"type": ["string", "null"]},
                    },
                },
            )
        },
        problems=(422,),
    ),
    Endpoint(
        method="GET",
        path="/v1/tasks/{id}",
        handler=get,
        scope=Scope.READ,
        name="getTask",
        tag=_TAG,
        summary="Get a task, or wait for its end",
        parameters=(
            _ID,
            Parameter(
                name="wait",
                place="query",
                schema={"type": "integer", "minimum": 0, "maximum": LONGEST_WAIT},
                description="Seconds to wait for the task to end before answering.",
            ),
        ),
        answers={200: _SHOWN},
        problems=(404, 422),
    ),
    Endpoint(
        method="GET",
        path="/v1/tasks/{id}/events",
        handler=history,
        scope=Scope.READ,
        name="listTaskEvents",
        tag=_TAG,
        summary="Get a task's history",
        parameters=(
            _ID,
            Parameter(
                name="after",
                place="query",
                schema={"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
                description="Only events with a higher sequence.",
            ),
        ),
        answers={
            200: Answers(
                description="Events, oldest first, at most 1000.",
                schema={
                    "type": "object",
                    "required": ["events"],
                    "properties": {"events": {"type": "array", "items": ref("Event")}},
                },
            )
        },
        problems=(404, 422),
    ),
    Endpoint(
        method="POST",
        path="/v1/tasks/{id}/cancel",
        handler=stop,
        scope=Scope.SUBMIT,
        name="cancelTask",
        tag=_TAG,
        summary="Cancel a task",
        description=(
            "At the provider where it can be done without destroying a finished result; else here, and the task says so. "
            "A result that comes all the same is kept."
        ),
        parameters=(_ID,),
        answers={
            200: Answers(description="Cancelled, or ended meanwhile.", schema=ref("Task")),
            202: Answers(description="Noted: it is carried out once the provider's id is known.", schema=ref("Task")),
        },
        problems=(404, 409, 503),
    ),
    Endpoint(
        method="POST",
        path="/v1/tasks/{id}/input",
        handler=give_input,
        scope=Scope.SUBMIT,
        name="giveTaskInput",
        tag=_TAG,
        summary="Give the input that a task waits for",
        description="For a task in `awaiting_input`; its `awaits` says what is wanted. It is sent to the provider once.",
        parameters=(_ID,),
        body={"type": "object"},
        answers={200: _SHOWN},
        problems=(400, 404, 409, 413, 415, 422),
    ),
    Endpoint(
        method="POST",
        path="/v1/tasks/{id}/retry",
        handler=retry,
        name="retryTask",
        scope=Scope.SUBMIT,
        tag=_TAG,
        summary="Buy an unconfirmed task again",
        description=(
            "For a task in `unconfirmed`: its submit got no usable answer, so it may have been bought. Dovecote never sends it "
            "again by itself unless its `on_uncertain` says so. Should the first job turn up after all, it is kept in the books "
            "as an extra one, and stopped where the provider can do that."
        ),
        parameters=(_ID,),
        body={
            "type": "object",
            "additionalProperties": False,
            "required": ["confirm_double_payment"],
            "properties": {
                "confirm_double_payment": {
                    "type": "boolean",
                    "const": True,
                    "description": "That you accept that it may be paid twice.",
                }
            },
        },
        answers={202: Answers(description="It is handed over again.", schema=ref("Task"))},
        problems=(400, 404, 409, 413, 415, 422),
    ),
    Endpoint(
        method="POST",
        path="/v1/tasks/{id}/refresh",
        handler=refresh,
        scope=Scope.READ,
        name="refreshTask",
        tag=_TAG,
        summary="Ask the provider now",
        description="Outside the poll schedule. An answer that cannot be had is noted in the task and changes nothing else.",
        parameters=(_ID,),
        answers={200: _SHOWN},
        problems=(404,),
    ),
)
