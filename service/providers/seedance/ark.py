"""ByteDance's own API: Volcengine Ark, and BytePlus ModelArk, which is the same on another host."""

import dataclasses
import functools
from collections.abc import Sequence
from urllib.parse import quote, urlencode

from service.domain.errors import Uncertain, Unreadable, UpstreamError
from service.domain.task import State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, about, accepted
from service.providers.read import fields, identifier, items, moment, number, word
from service.providers.seedance import record
from service.providers.seedance.family import (
    IMAGES,
    LIFETIME,
    SECONDS,
    VIDEOS,
    VOLCENGINE,
    Models,
    image_body,
    mistakes_in,
    model_of,
    video_body,
)
from service.providers.wire import (
    Call,
    Callback,
    DeleteExchange,
    Exchange,
    JobsExchange,
    ListedJob,
    ManyExchange,
    Reply,
)

_TASKS, _IMAGES = "/api/v3/contents/generations/tasks", "/api/v3/images/generations"
_BATCH, _PAGE, _MAX_PAGES = 50, 100, 20
MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of an answer with pictures: some ask for them in base64."""


_FACTS = Facts(
    family="seedance",
    name="ark",
    operations={**dict.fromkeys(VIDEOS, _TASKS), **dict.fromkeys(IMAGES, _IMAGES)},
    callbacks=True,
    batch_size=_BATCH,
    cost_unit="tokens",
    reserved=frozenset({"callback_url", "stream"}),
    synchronous=frozenset(IMAGES),
    typical_seconds=SECONDS,
    result_lifetime=LIFETIME,
    models_are_listed=False,
)


class Ark(Dialect):
    """Videos are tasks with callbacks, which are not signed. Images are synchronous: a lost answer is uncertain."""

    def __init__(self, name: str = "ark", models: Models = VOLCENGINE) -> None:
        """Make the dialect of a host, which has its own names for models."""
        self._models = models
        self.facts = dataclasses.replace(_FACTS, name=name)

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the task, or makes the images."""
        if task.operation in IMAGES:
            return Call(method="POST", path=_IMAGES, json=image_body(task, self._models), max_answer=MAX_ANSWER)
        return Call(method="POST", path=_TASKS, json=video_body(task, callback_url, self._models))

    def query(self, task: Task) -> Call:
        """Return the call that queries the task."""
        return Call(method="GET", path=f"{_TASKS}/{quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: a task's id, or the pictures."""
        return read_created(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the task; of a list the first one."""
        job = record.task_in(reply.document)
        if not reply.ok or job is None:
            raise record.refusal_of(reply, creating=False)
        return record.read(job)

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: the task."""
        job = record.task_in(callback.document)
        if job is None:
            raise Unreadable("no task in it")
        return [record.read(job)]

    def poll_many(self, tasks: Sequence[Task]) -> ManyExchange:
        """Request the state of several tasks by their ids."""
        wanted = [("filter.task_ids", task.external_id or "") for task in tasks]
        query = urlencode([("page_num", "1"), ("page_size", str(_PAGE)), *wanted])
        reply = yield Call(method="GET", path=f"{_TASKS}?{query}")
        listed = fields(reply.document).get("items")
        if not reply.ok or not isinstance(listed, list):
            raise record.refusal_of(reply, creating=False)
        updates = [record.read(job) for each in listed if (job := record.task_in(each)) is not None]
        return {update.external_id: update for update in updates if update.external_id is not None}

    def find_lost_jobs(self, task: Task) -> JobsExchange:
        """List the tasks of the model. The list shows no prompts."""
        wanted, found, seen = model_of(task, self._models), list[ListedJob](), 0
        for page in range(1, _MAX_PAGES + 1):
            query = urlencode({"page_num": page, "page_size": _PAGE, "filter.model": wanted})
            reply = yield Call(method="GET", path=f"{_TASKS}?{query}")
            said = fields(reply.document)
            total = number(said.get("total"))
            if not reply.ok or not isinstance(said.get("items"), list) or total is None:
                raise record.refusal_of(reply, creating=False)
            for each in items(said["items"]):
                job, at = identifier(fields(each).get("id")), moment(fields(each).get("created_at"))
                if job is None or at is None:
                    raise UpstreamError("unreadable", "a listed task has no id or no time")
                model = word(fields(each).get("model"))
                found.append(ListedJob(job, at.timestamp(), functools.partial(_may_be, model, self._models)))
            seen += len(said["items"])
            if seen >= total or not said["items"]:
                return found
        raise UpstreamError("unreadable", f"the list goes on after {_MAX_PAGES} pages")

    def cancel(self, task: Task) -> Exchange:
        """Cancel the task while it is queued. It is queried first: a DELETE of a finished one destroys its record."""
        seen = about(task, self.read_status((yield self.query(task))))
        if seen.state is not State.SUBMITTED:
            return seen
        reply = yield Call(method="DELETE", path=f"{_TASKS}/{quote(task.external_id or '', safe='')}")
        self.read_cancelled(reply)
        return Update(state=State.CANCELLED, external_id=task.external_id)

    def read_cancelled(self, reply: Reply) -> Update:
        """Read the answer to a DELETE: it is empty, and by itself it does not say what was done."""
        if not reply.ok or fields(fields(reply.document).get("error")):
            raise record.refusal_of(reply, creating=False)
        return Update()

    def delete(self, task: Task) -> DeleteExchange:
        """Delete the record of an ended task, and with it the address of its output."""
        self.read_cancelled((yield dataclasses.replace(self.query(task), method="DELETE")))

    def validate(self, task: Task) -> list[Mistake]:
        """Return what Ark's pages rule out."""
        found = super().validate(task)
        return found + mistakes_in(task) if task.operation in self.facts.operations else found


def _may_be(model: str | None, models: Models, task: Task) -> bool:
    wanted = task.options.get("model", model_of(task, models))
    return model is None or (task.operation in VIDEOS and model == wanted)


def read_created(reply: Reply) -> Update:
    """Read the answer to a submit: pictures, also beside an error, or the id of a task."""
    said = fields(reply.document)
    pictures = record.read_pictures(said) if reply.ok else None
    failed = not reply.ok or bool(fields(said.get("error")))
    if pictures is not None and (not failed or pictures.state is State.SUCCEEDED):
        return pictures
    if failed:
        raise record.refusal_of(reply, creating=True)
    update = record.read(said)
    if update.external_id is None:
        raise Uncertain("unreadable", "the answer has no id and no picture")
    return accepted(update)
