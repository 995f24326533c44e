"""MiniMax's own API, older generation (https://api.minimax.io/v1): errors come with HTTP 200, a result by a second call."""

import dataclasses
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from service.domain.errors import Unreadable
from service.domain.task import State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, about, merge
from service.providers.minimax import codes, older
from service.providers.minimax.record import (
    file_id_of,
    file_of,
    is_challenge,
    is_empty_file,
    read_task,
    stated,
    task_in,
)
from service.providers.read import fields, identifier
from service.providers.wire import Call, Callback, Exchange, Reply

_GENERATION, _TEMPLATE = "video_generation", "video_template_generation"
ROUTES: Mapping[str, str] = {
    "text_to_video": f"/v1/{_GENERATION}",
    "image_to_video": f"/v1/{_GENERATION}",
    "reference_to_video": f"/v1/{_GENERATION}",
    "template_video": f"/v1/{_TEMPLATE}",
}
TYPICAL = dict.fromkeys(ROUTES, 180.0)
"""Other clients see 1 to 4 minutes for 6 seconds, and up to 10 for more."""


class Official(Dialect):
    """MiniMax's own API, older generation. A callback is not signed and has no link: it only hastens a poll."""

    facts = Facts(
        family="minimax",
        name="official",
        operations=ROUTES,
        callbacks=True,
        confirms=True,
        typical_seconds=TYPICAL,
        result_lifetime=dict.fromkeys(ROUTES, 3600.0) | {"template_video": 9 * 3600.0},
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        body = {**older.body_of(task), "callback_url": callback_url}
        return Call(method="POST", path=ROUTES[task.operation], json=merge(body, task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the task."""
        kind = ROUTES[task.operation].rpartition("/")[2]
        return Call(method="GET", path=f"/v1/query/{kind}?task_id={quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: an id, without a word."""
        job = identifier(fields(reply.document).get("task_id"))
        if not reply.ok or codes.status_code_of(reply.document) or job is None:
            raise codes.refusal_of(reply, creating=True)
        return Update(state=State.SUBMITTED, external_id=job)

    def read_status(self, reply: Reply) -> Update:
        """Read the task, or its file. A code beside any word but a failure is an error of the query."""
        return read_status(reply)

    def poll(self, task: Task) -> Exchange:
        """Request the task, and the link to its file once it names one."""
        return polled(self, task, "/v1/files/retrieve")

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: a task with lower-case words, or a challenge without a task."""
        return read_callback(callback)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what MiniMax's pages rule out."""
        found = super().validate(task)
        return found + older.mistakes_of(task) if task.operation in ROUTES else found


# What the other dialects share -----------------------------------------------------------------------------------


def read_status(reply: Reply) -> Update:
    """Read a task or a file of the older generation."""
    document: Any = reply.document
    if reply.ok and (is_challenge(document) or is_empty_file(document)):
        return Update()
    if reply.ok and (found := file_of(document)) is not None:
        return found
    record = task_in(document) if reply.ok else None
    update = Update() if record is None else read_task(record)
    speaks = update.state is State.FAILED or update.unknown_word is not None
    if record is None or (codes.status_code_of(record) and not speaks):
        raise codes.refusal_of(reply, creating=False)
    return update


def read_callback(callback: Callback) -> list[Update]:
    """Read a callback of either generation."""
    record = task_in(callback.document)
    file = file_of(callback.document)
    if file is not None:
        return [file]
    if record is None and not is_challenge(callback.document):
        raise Unreadable("no task in it")
    return [Update() if record is None or stated(record) is None else read_task(record)]


def polled(dialect: Dialect, task: Task, files: str) -> Exchange:
    """Request a task and, where its success names a file, the link to it.

    A link that cannot be had is an error of the query: the task has not failed by it.
    """
    call = dialect.query(task)
    reply = yield call
    update = about(task, dialect.read_status(dataclasses.replace(reply, endpoint=call.endpoint)))
    file = file_id_of(reply.document) if update.incomplete else None
    if file is None:
        return update
    link = Call(method="GET", path=f"{files}?file_id={quote(file, safe='')}")
    reply = yield link
    if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        reply = yield link  # the next poll would begin with the task again
    found = dialect.read_status(reply)
    if found.state is not State.SUCCEEDED:
        return update
    return dataclasses.replace(update, state=found.state, results=found.results, incomplete=False)
