"""Replicate's predictions: create, get, list, cancel and their events."""

import hmac
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import UUID

import orjson
from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.task import State, Task
from service.domain.webhook_events import ENDS, PROGRESS
from service.flows.webhooks.formats.ids import task_id_of
from service.flows.webhooks.formats.replicate import prediction_document
from service.store import tasks as task_store
from service.web.facades.actions import cancel
from service.web.facades.body import Fields
from service.web.facades.door import DoorRequest, DoorRoute, shown
from service.web.facades.outcome import hold
from service.web.facades.stream import stream_of
from service.web.facades.uploads import NAME, with_uploads
from service.web.problems import Problem

FAMILY: Final = "replicate"
_EVENTS: Final[Mapping[str, frozenset[str]]] = {
    "start": frozenset({"task.running"}),
    "output": frozenset({PROGRESS}),
    "logs": frozenset({PROGRESS}),
    "completed": frozenset(ENDS),
}
"""The types of messages by the name in ``webhook_events_filter``."""
_MAX_WAIT: Final = 60
_PAGE: Final = 100
_WAIT: Final = re.compile(r"(?:^|[,;\s])wait(?:=([0-9]{1,4}))?(?:$|[,;\s])")
_BARE: Final = re.compile(r"[0-9A-Za-z][\w.-]{0,127}", re.ASCII)
"""A version without the name of its model, in any length: Replicate decides whether there is one."""
_LINK: Final = re.compile(r"(?P<until>[0-9]{1,11})-(?P<proof>[0-9a-f]{64})", re.ASCII)
_UPLOADED: Final = re.compile(f"https?://[^/]+(?:/.*)?/v1/files/{NAME}")


def request_of(named: Mapping[str, str], said: Fields) -> dict[str, Any]:
    """Return our request of a prediction.

    :param named: the model or the deployment, where the path names it
    """
    given: dict[str, Any] = {"input": with_uploads(said.get("input", {}), _UPLOADED), **named}
    asked: dict[str, Any] = {"family": FAMILY, "operation": "run", "input": given}
    version = said.get("version", said.get("model"))
    if not named and isinstance(version, str) and _BARE.fullmatch(version):
        asked["options"] = {"version": version}
    elif not named:
        given["model"] = version
    if said.get("webhook") is None:
        return asked
    wanted = said.get("webhook_events_filter")
    names = [each for each in wanted if isinstance(each, str)] if isinstance(wanted, list) and wanted else list(_EVENTS)
    events = sorted(frozenset[str]().union(*(_EVENTS.get(name, frozenset()) for name in names)))
    more = {"callback_events": events} if events else {}
    return {**asked, "callback_url": said["webhook"], "callback_format": "replicate", **more}


async def create(request: DoorRequest) -> Response:
    """Accept a prediction; with ``Prefer: wait`` the answer waits for its end."""
    said = await request.fields()
    parts = request.http.path_params
    model = f"{parts['owner']}/{parts['name']}" if "owner" in parts else ""
    kind = "deployment" if request.route.path.startswith("/v1/deployments") else "model"
    accepted = await request.accept(request_of({kind: model} if model else {}, said), said)
    task, wait = accepted.task, _wait_of(request)
    if wait:
        task = await hold(request, task, wait)
    document = _document(request, task)
    if not task.state.ended:
        document["status"] = "starting"  # the SDKs take any other word for the end
    return shown(document, 201)


def _wait_of(request: DoorRequest) -> int:
    """Return the seconds of ``Prefer: wait`` or ``wait=N``."""
    found = _WAIT.search(request.headers.get("prefer", ""))
    if found is None:
        return 0
    return _MAX_WAIT if found[1] is None else min(int(found[1]), _MAX_WAIT)


async def _find(request: DoorRequest) -> Task:
    return await request.find(request.http.path_params["id"])


async def retrieve(request: DoorRequest) -> Response:
    """Return a prediction."""
    return shown(_document(request, await _find(request)))


async def cancel_prediction(request: DoorRequest) -> Response:
    """Cancel a prediction. One that has ended is returned as it is."""
    return shown(_document(request, await cancel(request, await _find(request))))


async def list_predictions(request: DoorRequest) -> Response:
    """Return a page of predictions, newest first."""
    cursor = task_id_of(request.http.query_params.get("cursor", ""))
    wanted = task_store.Filter(client=request.client, family=FAMILY, before=cursor)
    async with request.context.database.reading() as connection:
        found = await task_store.page(connection, wanted, most=_PAGE + 1)
    shown_ones = found[:_PAGE]
    following = f"{request.base}/v1/predictions?cursor={shown_ones[-1].id}" if len(found) > _PAGE else None
    results = [_document(request, each) for each in shown_ones]
    return shown({"previous": None, "next": following, "results": results})


async def stream(request: DoorRequest) -> Response:
    """Return the events of a prediction: its output comes in one piece for each result."""
    return _stream(request, await _find(request))


async def stream_by_link(request: DoorRequest) -> Response:
    """Return the events of a prediction to the holder of its link: the SDK for Node sends no key there."""
    parts = request.http.path_params
    task_id, found = task_id_of(parts["id"]), _LINK.fullmatch(parts["link"])
    if task_id is None or found is None or not _is_valid(request, task_id, int(found["until"]), found["proof"]):
        raise Problem(403, "forbidden", "the link is not valid any more: get the prediction again")
    async with request.context.database.reading() as connection:
        task = await task_store.find(connection, task_id)
    if task is None:
        raise Problem(404, "not_found", "no task has this id")
    return _stream(request, task)


def _is_valid(request: DoorRequest, task_id: UUID, until: int, proof: str) -> bool:
    """Return whether a link to the events of a task is ours, and not too old."""
    is_ours = hmac.compare_digest(proof, request.context.tokens.sign_stream(task_id, until))
    return is_ours and request.context.now().timestamp() < until


def _document(request: DoorRequest, task: Task) -> dict[str, Any]:
    """Return a task as a prediction, with a link to its events that needs no key."""
    document = prediction_document(task, request.base)
    until = math.floor(request.context.now().timestamp() + request.context.settings.results.link_seconds)
    link = f"{document['urls']['stream']}/{until}-{request.context.tokens.sign_stream(task.id, until)}"
    return document | {"urls": {**document["urls"], "stream": link}}


def _stream(request: DoorRequest, task: Task) -> Response:
    async def write(ended: Task) -> Iterable[bytes]:
        return _events(ended)

    return stream_of(request, task, write)


def _events(task: Task) -> Iterable[bytes]:
    """Yield the events of a prediction that has ended."""
    number = 0
    if task.state is State.SUCCEEDED:
        for number, each in enumerate((one for one in task.results if one.role == "result"), 1):
            yield _event("output", number, each.url or each.text or "")
        yield _event("done", number + 1, "{}")
        return
    reason = "canceled" if task.state is State.CANCELLED else "error"
    detail = prediction_document(task, "")["error"] or f"the prediction is {task.state}"
    yield _event("error", 1, orjson.dumps({"detail": detail}).decode())
    yield _event("done", 2, orjson.dumps({"reason": reason}).decode())


def _event(name: str, number: int, text: str) -> bytes:
    lines = "".join(f"data: {line}\n" for line in text.split("\n"))
    return f"event: {name}\nid: {number}\n{lines}\n".encode()


_PATH: Final = "/v1/predictions"
ROUTES: Final = (
    DoorRoute(method="POST", path=_PATH, handler=create),
    DoorRoute(method="POST", path="/v1/models/{owner}/{name}/predictions", handler=create),
    DoorRoute(method="POST", path="/v1/deployments/{owner}/{name}/predictions", handler=create),
    DoorRoute(method="GET", path=_PATH, handler=list_predictions, scope=Scope.READ),
    DoorRoute(method="GET", path=f"{_PATH}/{{id}}", handler=retrieve, scope=Scope.READ),
    DoorRoute(method="GET", path=f"{_PATH}/{{id}}/stream", handler=stream, scope=Scope.READ),
    DoorRoute(method="GET", path=f"{_PATH}/{{id}}/stream/{{link}}", handler=stream_by_link, is_open=True),
    DoorRoute(method="POST", path=f"{_PATH}/{{id}}/cancel", handler=cancel_prediction),
)
