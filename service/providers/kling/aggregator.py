"""Kling by gateways: /kling/v1/* of CometAPI, of ElkAPI, and of new-api and its forks."""

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from service.domain.errors import Unreadable
from service.domain.task import State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts
from service.providers.kling import official
from service.providers.kling.record import first_task, outputs_of, read_task
from service.providers.kling.refusals import code_in, refusal_of
from service.providers.kling.request import ROUTES, mistakes_of
from service.providers.newapi import video
from service.providers.read import fields
from service.providers.wire import Call, Callback, Reply

_PREFIX = "/kling"
_PARENT_BESIDE_VIDEO = frozenset({"extend", "init_selection"})
"""Operations for which gateways want the parent's task beside its video."""


class Aggregator(Dialect):
    """Kling's older generation behind a gateway.

    CometAPI answers and calls back as Kling does. ElkAPI has a flat form, forks of new-api wrap it, and CometAPI's omni
    pages show new-api's record. The shape distinguishes them.
    """

    facts = Facts(
        family="kling",
        name="aggregator",
        operations={name: _PREFIX + route for name, route in ROUTES.items()},
        callbacks=True,
        synchronous=official.SYNCHRONOUS,
        free=official.FREE,
        reserved=official.RESERVED,
        typical_seconds=official.TYPICAL,
        result_lifetime=official.LIFETIME,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        body = official.create_body(task, callback_url)
        if task.operation in _PARENT_BESIDE_VIDEO and task.inherited.get("video_id") is not None:
            body = {"task_id": task.inherited.get("external_id"), **body}
        if task.operation == "outpaint" and "down_expansion_ratio" in body:
            body = {"bottom_expansion_ratio": body["down_expansion_ratio"], **body}  # CometAPI's word
        return Call(method="POST", path=self.facts.operations[task.operation], json=body)

    def query(self, task: Task) -> Call:
        """Return the call that queries the task, below the route where it was made."""
        route = self.facts.operations[task.operation]
        return Call(method="GET", path=f"{route}/{quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: Kling's envelope, or a flat task."""
        if reply.ok and fields(reply.document).get("code") == 0:
            return official.read_created(reply)
        update = video.read_accepted(reply.document) if reply.ok and code_in(reply) is None else None
        if update is None:
            raise refusal_of(reply, creating=True)
        return update

    def read_status(self, reply: Reply) -> Update:
        """Read the task in any of its shapes."""
        if not reply.ok or code_in(reply) is not None or not _is_task(reply.document):
            raise refusal_of(reply, creating=False)
        return _read(reply.document)

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: Kling's bare task."""
        if not _is_task(callback.document):
            raise Unreadable("no task in it")
        return [_read(callback.document)]

    def from_parent(self, task: Task, parent: Task) -> Mapping[str, Any] | list[Mistake]:
        """Return the session of the parent, or the id of its video."""
        return official.inherited_from(task, parent)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what Kling's pages rule out."""
        found = super().validate(task)
        return found + mistakes_of(task) if task.operation in ROUTES else found


def _own_task(document: Any) -> Mapping[str, Any] | None:
    """Return Kling's own task, which is known by its word."""
    record = first_task(document)
    return record if record is not None and "task_status" in record else None


def _is_task(document: Any) -> bool:
    return _own_task(document) is not None or video.is_task(document)


def _read(document: Any) -> Update:
    """Read Kling's task, or a gateway's: of the task within only the outputs are taken, with their ids."""
    record = _own_task(document)
    if record is not None:
        return read_task(record)
    update = video.read_task(document)
    outputs = next((found for each in video.records(document) if (found := outputs_of(each))), ())
    if update.state is State.SUCCEEDED and outputs:
        return dataclasses.replace(update, results=outputs)
    return update
