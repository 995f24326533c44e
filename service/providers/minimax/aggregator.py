"""MiniMax by gateways: its own bodies behind /minimax, the H3 models behind /hailuo, with answers of several shapes."""

import dataclasses
from typing import Any
from urllib.parse import quote

from service.domain.task import State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge
from service.providers.minimax import codes, newer, official, older
from service.providers.minimax.family import is_newer
from service.providers.minimax.record import task_in
from service.providers.newapi import video
from service.providers.read import fields, identifier
from service.providers.wire import Call, Exchange, Reply

_ROUTES = {name: f"/minimax{route}" for name, route in official.ROUTES.items() if name != "template_video"}
_FILES = "/minimax/v1/files/retrieve"
_NEWER = "/hailuo"


class Aggregator(Dialect):
    """MiniMax behind a gateway, without callbacks. CometAPI charges for the link to a file: it is asked for once."""

    facts = Facts(
        family="minimax",
        name="aggregator",
        operations=_ROUTES,
        typical_seconds=dict.fromkeys(_ROUTES, 180.0),
        result_lifetime=3600.0,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        del callback_url  # no page knows a field for it
        if _is_newer(task):
            body = merge(newer.body_of(task), task.options)
            return Call(method="POST", path=_NEWER + newer.ROUTES[task.operation], json=body)
        return Call(method="POST", path=_ROUTES[task.operation], json=merge(older.body_of(task), task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the task."""
        job = quote(task.external_id or "", safe="")
        if _is_newer(task):
            return Call(method="GET", path=f"{_NEWER}/v2/query/video_generation/{job}")
        return Call(method="GET", path=f"/minimax/v1/query/video_generation?task_id={job}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: MiniMax's, or an envelope with the id in ``data``."""
        said = fields(reply.document)
        update = video.read_accepted(reply.document) if reply.ok and said.get("data") is not None else None
        if update is not None:
            return update
        job = identifier(said.get("task_id"))
        if not reply.ok or fields(said.get("error")) or codes.status_code_of(said) or job is None:
            raise codes.refusal_of_newer(reply, creating=True)
        return Update(state=State.SUBMITTED, external_id=job)

    def read_status(self, reply: Reply) -> Update:
        """Read the task: MiniMax's of either generation, a file, or a gateway's record around it."""
        if reply.ok and _is_record(reply.document):
            return _with_code(video.read_task(reply.document), reply.document)
        if fields(fields(reply.document).get("error")) and task_in(reply.document) is None:
            raise codes.refusal_of_newer(reply, creating=False)
        return official.read_status(reply)

    def poll(self, task: Task) -> Exchange:
        """Request the task, and the link to its file once it names one and holds none."""
        return official.polled(self, task, _FILES)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what MiniMax's pages rule out."""
        found = super().validate(task)
        if task.operation not in _ROUTES:
            return found
        return found + (newer.mistakes_of(task) if _is_newer(task) else older.mistakes_of(task))


def _is_newer(task: Task) -> bool:
    return is_newer(task.options.get("model", task.input.get("model", "")))


def _with_code(update: Update, document: Any) -> Update:
    """Return an update whose failure has the reason that MiniMax's own code names, where the record holds one."""
    if update.state is not State.FAILED:
        return update
    for record in reversed(video.records(document)):
        base, error = fields(record.get("base_resp")), fields(record.get("error"))
        code = base.get("status_code") or error.get("code")
        if codes.is_known(code):
            text = base.get("status_msg") or error.get("message") or (update.failure and update.failure.message)
            return dataclasses.replace(update, failure=codes.failure(code, text))
    return update


def _is_record(document: Any) -> bool:
    """Return whether a document is a gateway's: a record, which has its task in ``data``, or OpenAI's video object."""
    said = fields(document)
    return (bool(fields(said.get("data"))) or said.get("object") == "video") and video.is_task(document)
