"""fal's queue: submit, status, result, cancel; and requests that wait for their result or stream it."""

import re
from collections.abc import Iterable
from typing import Any, Final

from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.task import State, Task
from service.flows.upstreams import status as upstream_status
from service.flows.webhooks.formats import fal
from service.flows.webhooks.formats.shapes import WAITING, code_of, reason_of
from service.web.facades.actions import cancel
from service.web.facades.body import Fields
from service.web.facades.door import DoorRequest, DoorRoute, shown
from service.web.facades.outcome import hold
from service.web.facades.stream import event, stream_of
from service.web.facades.uploads import NAME, with_uploads
from service.web.problems import Problem

LATE: Final = {"x-fal-request-timeout-type": "user"}
"""With it fal's clients do not repeat a request that was answered with 504."""
RUN: Final = "/fal-run"
"""The path of ``FAL_RUN_HOST``: requests there wait for their result."""
_STREAM: Final = "/stream"
_REALTIME: Final = "/realtime"
_EVENTS: Final = "text/event-stream"
NO_REALTIME: Final = "realtime connections are not served here: use subscribe, run or stream"
_UPLOADED: Final = re.compile(f"https?://[^/]+(?:/.*)?/storage/files/{NAME}(?:/[^/]*)?")
_BAD_INPUT: Final = frozenset({"invalid_input", "content_policy"})


class AppConvertor(Convertor[str]):
    """The name of an app: two parts or more, of which the first is no path of ours or of another API."""

    regex = r"(?!(?:v1|ent|docs|callbacks|mj|suno|runway|runwayml|openai|replicate|fal|kling|luma|jimeng|ui|results|metrics|newapi|elkapi|assets|files|storage)/)[A-Za-z0-9][\w.-]*(?:/[\w.-]+)+"

    def convert(self, value: str) -> str:
        """Return the name."""
        return value

    def to_string(self, value: str) -> str:
        """Return the part of a path."""
        return value


register_url_convertor("falapp", AppConvertor())


def is_app(name: str) -> bool:
    """Return whether a name can be that of an app."""
    return re.fullmatch(AppConvertor.regex, f"{name}") is not None


def request_of(app: str, said: Fields, webhook: str | None) -> dict[str, Any]:
    """Return our request of a model's run: the body is the model's input."""
    asked = {"family": "fal", "operation": "run", "input": {"model": app, "input": with_uploads(said, _UPLOADED)}}
    return asked if webhook is None else {**asked, "callback_url": webhook, "callback_format": "fal"}


def status_document(task: Task, position: int | None) -> dict[str, Any]:
    """Return the status of a request."""
    document: dict[str, Any] = {"request_id": str(task.id), "logs": []}
    if task.state.ended:
        seconds = (task.finished_at - task.created_at).total_seconds() if task.finished_at is not None else 0.0
        document |= {"status": "COMPLETED", "metrics": {"inference_time": max(seconds, 0.0)}}
        if task.state is not State.SUCCEEDED:
            document |= {"error": reason_of(task), "error_type": fal.error_type(task)}
    elif task.state in WAITING:
        document |= {"status": "IN_QUEUE", "queue_position": max((position or 1) - 1, 0)}
    else:
        document |= {"status": "IN_PROGRESS"}
    return document


async def submit(request: DoorRequest) -> Response:
    """Accept a request."""
    app: str = request.http.path_params["app"]
    said = await request.fields()
    query = request.http.query_params.getlist("fal_webhook") if request.http.scope["query_string"] else ()
    webhook = next(iter(query), None)
    accepted = await request.accept(request_of(app, said, webhook), said)
    task = accepted.task
    owner = "/".join(app.split("/")[: 3 if app.startswith(("workflows/", "comfy/")) else 2])
    url = f"{request.base}/{owner}/requests/{task.id}"
    links = {"response_url": url, "status_url": f"{url}/status", "cancel_url": f"{url}/cancel"}
    document = {"status": "IN_QUEUE", "request_id": str(task.id), "queue_position": 0, **links}
    return shown(document, headers=_named(task))


async def run(request: DoorRequest) -> Response:
    """Accept a request, and return its output when it is there; to a client that streams, as the only event."""
    app: str = request.http.path_params["app"]
    streams = app.endswith(_STREAM) and _EVENTS in request.headers.get("accept", "")
    said = await request.fields()
    accepted = await request.accept(request_of(app.removesuffix(_STREAM) if streams else app, said, None), said)
    task = await hold(request, accepted.task)
    if not task.state.ended:
        detail = f"the result is not ready; request {task.id} goes on"
        raise Problem(504, "provider_timeout", detail, headers=_named(task))
    if streams and task.state is State.SUCCEEDED:
        return Response(event(fal.result_document(task)), headers=_named(task), media_type=_EVENTS)
    return _result(task)


async def no_realtime(request: DoorRequest) -> Response:
    """Refuse a realtime connection, and every other GET of an app."""
    app: str = request.http.path_params["app"]
    if app.endswith(_REALTIME):
        raise Problem(404, "not_found", NO_REALTIME)
    raise Problem(405, "method_not_allowed", "an app is run by POST", headers={"Allow": "POST"})


async def status(request: DoorRequest) -> Response:
    """Return the status of a request."""
    task = await _find(request)
    position = await upstream_status.queue_position(request.context, task)
    document = status_document(task, position)
    return shown(document, 200 if task.state.ended else 202, headers=_named(task))


async def stream_status(request: DoorRequest) -> Response:
    """Return the status of a request as events, until its end."""

    async def write(latest: Task) -> Iterable[bytes]:
        position = await upstream_status.queue_position(request.context, latest)
        return [event(status_document(latest, position))]

    task = await _find(request)
    return stream_of(request, task, write, meanwhile=write, headers=_named(task))


async def result(request: DoorRequest) -> Response:
    """Return the output of a request."""
    task = await _find(request)
    if not task.state.ended:
        return shown({"detail": "Request is still in progress"}, 400, headers=_named(task))
    return _result(task)


def _result(task: Task) -> Response:
    """Return the output of a task, or the error as which the model gives it."""
    if task.state is State.SUCCEEDED:
        return shown(fal.result_document(task), headers=_named(task))
    headers = {**_named(task), "x-fal-error-type": fal.error_type(task), "x-should-retry": "false"}
    code = code_of(task)
    if code in _BAD_INPUT:
        return shown(fal.error_document(task), 422, headers=headers)
    if code == "provider_timeout":
        return shown({"detail": reason_of(task)}, 504, headers={**headers, **LATE})
    return shown({"detail": reason_of(task)}, 500, headers=headers)


async def cancel_request(request: DoorRequest) -> Response:
    """Cancel a request."""
    task = await _find(request)
    if task.state.ended:
        return shown({"status": "ALREADY_COMPLETED"}, 400, headers=_named(task))
    await cancel(request, task)
    return shown({"status": "CANCELLATION_REQUESTED"}, 202, headers=_named(task))


async def _find(request: DoorRequest) -> Task:
    return await request.find(request.http.path_params["id"])


def _named(task: Task) -> dict[str, str]:
    """Return the header by which fal's clients see that an error is no proxy's."""
    return {"x-fal-request-id": str(task.id)}


_APP: Final = "/{app:falapp}"
_JOB: Final = f"{_APP}/requests/{{id}}"
ROUTES: Final = (
    DoorRoute(method="GET", path=f"{_JOB}/status", handler=status, scope=Scope.READ),
    DoorRoute(method="GET", path=f"{_JOB}/status/stream", handler=stream_status, scope=Scope.READ),
    DoorRoute(method="PUT", path=f"{_JOB}/cancel", handler=cancel_request),
    DoorRoute(method="GET", path=_JOB, handler=result, scope=Scope.READ),
    DoorRoute(method="POST", path=f"{RUN}{_APP}", handler=run),
    DoorRoute(method="GET", path=f"{RUN}{_APP}", handler=no_realtime, scope=Scope.READ),
    DoorRoute(method="POST", path=_APP, handler=submit),
)
