"""OpenAI's videos: create, get, list, delete, content, remix, edits and extensions."""

from typing import Any, Final
from uuid import UUID

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.task import State, Task
from service.flows.upstreams.outputs import holder_of
from service.flows.webhooks.formats.ids import prefixed, task_id_of
from service.flows.webhooks.formats.shapes import WAITING, code_of, outputs, reason_of, unix
from service.providers.registry import FAMILIES
from service.store import tasks as task_store
from service.web.facades import actions
from service.web.facades.body import Fields
from service.web.facades.door import DoorRequest, DoorRoute, shown
from service.web.facades.media import media_response
from service.web.facades.models import Target, fitting, seconds_of, shape_of, target_of
from service.web.facades.openai.errors import error_of
from service.web.problems import Problem

MAX_PAGE: Final = 100
_MAX_PAGES: Final = 5
"""Pages of tasks after which a list ends with the videos that were found, if there are any."""
_MAX_SEARCHED: Final = 50
"""Pages of tasks that are searched for a video at all."""
_OWN: Final = frozenset({"model", "prompt", "seconds", "duration", "size", "input_reference", "image", "images"})
_POLL_AFTER: Final = "2000"
"""Milliseconds after which OpenAI's SDKs ask again."""


def image_of(said: Fields) -> Any:
    """Return the picture to begin with: a file, a URL, or an object with one."""
    reference = said.get("input_reference", said.get("image"))
    if isinstance(reference, dict):
        reference = reference.get("image_url", reference.get("url"))
    if isinstance(reference, dict):
        reference = reference.get("url")
    if reference is None and isinstance(said.get("images"), list) and said["images"]:
        return said["images"][0]
    return reference


def request_of(target: Target, said: Fields) -> dict[str, Any]:
    """Return our request of a video in OpenAI's form."""
    image, size = image_of(said), said.get("size")
    seconds = seconds_of(said.get("seconds", said.get("duration")))
    others = {name: value for name, value in said.items() if name not in _OWN and value is not None}
    asked: dict[str, Any] = {"family": target.family, "operation": target.operation}
    plain = {"prompt": said.get("prompt"), "image": image, "duration": seconds}
    if target.is_any:
        vendors = {**plain, "images": said.get("images"), "size": size, **others}
        given = {name: value for name, value in vendors.items() if value is not None}
        return {**asked, "input": {"model": target.model, "input": given}}
    if target.family == "openai":
        given = fitting(target, {**plain, "model": target.model})
        return {**asked, "input": given, "options": {**others, **({} if size is None else {"size": size})}}
    ratio, resolution = shape_of(size)
    more = {name: value for name, value in others.items() if name != "metadata"}
    metadata = others["metadata"] if isinstance(others.get("metadata"), dict) else {}
    shape = {"aspect_ratio": ratio, "resolution": resolution, "model": target.model}
    return {**asked, "input": fitting(target, {**metadata, **more, **plain, **shape})}


def is_video(task: Task) -> bool:
    """Return whether a task makes a video, or may."""
    operation = FAMILIES[task.family].operations.get(task.operation)
    return operation is not None and operation.produces in {"video", "any", "json"}


def video_document(task: Task) -> dict[str, Any]:
    """Return a task as OpenAI shows a video."""
    status = "queued" if task.state in WAITING else "in_progress"
    if task.state.ended:
        status = "completed" if task.state is State.SUCCEEDED else "failed"
    given = task.input if task.family != "any" else {**task.input.get("input", {}), **task.input}
    seconds = task.options.get("seconds", given.get("duration", given.get("seconds")))
    document: dict[str, Any] = {
        "id": prefixed("video_", task.id),
        "object": "video",
        "model": task.model or task.family,
        "status": status,
        "progress": 100 if status == "completed" else task.progress or 0,
        "created_at": unix(task.created_at),
        "completed_at": unix(task.finished_at) if status == "completed" else None,
        "expires_at": unix(min((each.expires_at for each in task.results if each.expires_at), default=None)),
        "size": task.options.get("size", given.get("size", given.get("aspect_ratio"))),
        "seconds": None if seconds is None else f"{seconds:g}" if isinstance(seconds, int | float) else str(seconds),
        "prompt": given.get("prompt"),
        "remixed_from_video_id": None if task.parent_id is None else prefixed("video_", task.parent_id),
        "error": None,
    }
    if status == "completed":
        document["metadata"] = {"url": next(iter(outputs(task, "video") or outputs(task)), None)}
    if status == "failed":
        inner = error_of(code_of(task), reason_of(task) or "the video failed")
        document["error"] = {"code": inner["code"], "message": inner["message"]}
    return document


async def create(request: DoorRequest) -> Response:
    """Accept a video."""
    said = await request.fields()
    operation = "text_to_video" if image_of(said) is None else "image_to_video"
    target = target_of(request.context, said.get("model"), operation, default="openai")
    accepted = await request.accept(request_of(target, said), said)
    return _shown(request, accepted.task)


async def retrieve(request: DoorRequest) -> Response:
    """Return a video."""
    return _shown(request, await _find(request))


def _shown(request: DoorRequest, task: Task) -> Response:
    headers = {} if task.state.ended else {"openai-poll-after-ms": _POLL_AFTER}
    document = video_document(task)
    url = document.get("metadata", {}).get("url")
    if url is not None and holder_of(request.context, task, url) is not None:
        del document["metadata"]  # it opens with the upstream's key only; `/content` serves it
    return shown(document, headers=headers)


async def _find(request: DoorRequest) -> Task:
    task = await actions.find_undeleted(request, request.http.path_params["id"])
    if not is_video(task):
        raise Problem(404, "not_found", "the task with this id makes no video")
    return task


async def delete(request: DoorRequest) -> Response:
    """Delete a video with its content. One that is not done is cancelled first."""
    task = await _find(request)
    await actions.delete(request, task)
    return shown({"id": prefixed("video_", task.id), "object": "video.deleted", "deleted": True})


async def content(request: DoorRequest) -> Response:
    """Return the bytes of a video, or of its picture."""
    task = await _find(request)
    if not task.state.ended:
        detail = f"the video is not ready: its status is {video_document(task)['status']}"
        raise Problem(400, "not_ready", detail)
    variant = request.http.query_params.get("variant", "video")
    found = outputs(task, "video") or outputs(task)
    if variant != "video":
        found = [each.url for each in task.results if each.url is not None and each.role in {"cover", "preview"}]
    if not found:
        raise Problem(404, "not_found", f"the video has no {variant[:40]}")
    return await media_response(request, task, found[0])


async def list_videos(request: DoorRequest) -> Response:
    """Return a page of videos."""
    query = request.http.query_params
    stated = query.get("limit", "20")
    limit = min(int(stated[:6]), MAX_PAGE) if stated.isascii() and stated.isdecimal() else 20
    after = task_id_of(query.get("after", ""))
    found, more = await _page(request, max(limit, 1), after, oldest_first=query.get("order") == "asc")
    data = [video_document(each) for each in found]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return shown({"object": "list", "data": data, "has_more": more, **ends})


async def _page(request: DoorRequest, limit: int, after: UUID | None, *, oldest_first: bool) -> tuple[list[Task], bool]:
    """Return up to some videos, and whether there may be more: a client ends at a page without any."""
    found: list[Task] = []
    for number in range(1, _MAX_SEARCHED + 1):
        wanted = task_store.Filter(
            client=request.client,
            after=after if oldest_first else None,
            before=None if oldest_first else after,
            oldest_first=oldest_first,
        )
        async with request.context.database.reading() as connection:
            tasks = await task_store.page(connection, wanted, most=MAX_PAGE)
        deleted = await actions.deleted_among(request, tasks)
        found += [each for each in tasks if is_video(each) and each.id not in deleted]
        if len(tasks) < MAX_PAGE or len(found) > limit:
            break
        if found and number >= _MAX_PAGES:
            return found[:limit], True
        after = tasks[-1].id
    return found[:limit], len(found) > limit


def following(parent: Task, operation: str, said: Fields) -> dict[str, Any]:
    """Return our request that goes on from a video.

    :raises Problem: 400 where the family of the video has no such operation
    """
    known = FAMILIES[parent.family].operations.get(operation)
    if known is None or known.parent is None:
        raise Problem(400, "invalid_request", f"a video of {parent.family} cannot be continued by this call")
    given = {"prompt": said.get("prompt"), "duration": seconds_of(said.get("seconds"))}
    fields = fitting(Target(parent.family, operation, None), given)
    return {"family": parent.family, "operation": operation, "parent_id": str(parent.id), "input": fields}


async def remix(request: DoorRequest) -> Response:
    """Accept a remix of a video."""
    parent = await _find(request)
    said = await request.fields()
    accepted = await request.accept(following(parent, "remix", said), said)
    return _shown(request, accepted.task)


async def edit(request: DoorRequest) -> Response:
    """Accept an edit or an extension of a video: one that was made here, or a file."""
    said = await request.fields()
    operation = "extend" if request.route.path.endswith("/extensions") else "video_to_video"
    video = said.get("video")
    named = video.get("id") if isinstance(video, dict) else None
    if isinstance(named, str):
        document = following(await actions.find_undeleted(request, named), operation, said)
    else:
        source = video.get("url") if isinstance(video, dict) else video
        target = target_of(request.context, said.get("model"), operation, default="openai")
        given = {"prompt": said.get("prompt"), "video": source, "duration": seconds_of(said.get("seconds"))}
        document = {"family": target.family, "operation": operation, "input": fitting(target, given)}
    accepted = await request.accept(document, said)
    return _shown(request, accepted.task)


_PATH: Final = "/v1/videos"
ROUTES: Final[tuple[DoorRoute, ...]] = (
    DoorRoute(method="POST", path=_PATH, handler=create),
    DoorRoute(method="GET", path=_PATH, handler=list_videos, scope=Scope.READ),
    DoorRoute(method="POST", path=f"{_PATH}/edits", handler=edit),
    DoorRoute(method="POST", path=f"{_PATH}/extensions", handler=edit),
    DoorRoute(method="GET", path=f"{_PATH}/{{id}}", handler=retrieve, scope=Scope.READ),
    DoorRoute(method="DELETE", path=f"{_PATH}/{{id}}", handler=delete),
    DoorRoute(method="GET", path=f"{_PATH}/{{id}}/content", handler=content, scope=Scope.READ),
    DoorRoute(method="POST", path=f"{_PATH}/{{id}}/remix", handler=remix),
)
