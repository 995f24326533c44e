"""MiniMax's own API, newer generation (https://api.minimax.io/v2): the H3 models, with a list and a cancel."""

import dataclasses
from urllib.parse import quote

from service.domain.errors import UpstreamError
from service.domain.task import State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, about, merge
from service.providers.minimax import newer
from service.providers.minimax.codes import refusal_of_newer
from service.providers.minimax.official import read_callback
from service.providers.minimax.record import is_challenge, jobs_in, read_task, task_in
from service.providers.read import fields, identifier, moment, word
from service.providers.wire import Call, Callback, DeleteExchange, Exchange, JobsExchange, ListedJob, Reply

_QUERY = "/v2/query/video_generation"
_PAGE_SIZE, _MAX_PAGES = 50, 20
_CANCELLED = frozenset({"cancelled", "cancel"})
_DELETED = frozenset({"deleted", "delete"})
"""The words of the English page and of the Chinese one."""


class OfficialV2(Dialect):
    """MiniMax's own API, newer generation. Callbacks are not signed."""

    facts = Facts(
        family="minimax",
        name="official-v2",
        operations=newer.ROUTES,
        callbacks=True,
        typical_seconds=dict.fromkeys(newer.ROUTES, 180.0) | {"enhance_prompt": 30.0},
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        body = {**newer.body_of(task), "callback_url": callback_url}
        return Call(method="POST", path=newer.ROUTES[task.operation], json=merge(body, task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the task."""
        return Call(method="GET", path=f"{_QUERY}/{quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: an id alone. An error counts before it."""
        return read_created(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the task."""
        return read_status(reply)

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: the task with or without its wrapper, or a challenge."""
        return read_callback(callback)

    def cancel(self, task: Task) -> Exchange:
        """Cancel the task while it is queued. It is queried first: a DELETE of a finished one destroys its record."""
        seen = about(task, self.read_status((yield self.query(task))))
        if seen.state is not State.SUBMITTED:
            return seen
        reply = yield Call(method="DELETE", path=_job(task))
        return dataclasses.replace(self.read_cancelled(reply), external_id=task.external_id)

    def read_cancelled(self, reply: Reply) -> Update:
        """Read the answer to a DELETE: the task was cancelled, or its record destroyed without information about its end."""
        said = fields(reply.document)
        action = (word(said.get("action")) or "").lower()
        if not reply.ok or fields(said.get("error")) or action not in _CANCELLED | _DELETED:
            raise refusal_of_newer(reply, creating=False)
        unknown = read_task(said).unknown_word
        state = State.CANCELLED if action in _CANCELLED and unknown is None else None
        return Update(state=state, external_id=identifier(said.get("task_id")), unknown_word=unknown)

    def delete(self, task: Task) -> DeleteExchange:
        """Delete the record of an ended task."""
        self.read_cancelled((yield Call(method="DELETE", path=_job(task))))

    def find_lost_jobs(self, task: Task) -> JobsExchange:
        """List the jobs of the task's model and kind, all of them or none."""
        wanted, found, seen = _kind_of(task), [], 0
        for page in range(1, _MAX_PAGES + 1):
            reply = yield Call(method="GET", path=f"{_QUERY}?page_num={page}&page_size={_PAGE_SIZE}")
            listed = jobs_in(reply.document) if reply.ok else None
            if listed is None:
                raise refusal_of_newer(reply, creating=False)
            rows, total = listed
            for row in rows:
                job, at = identifier(row.get("id")), moment(row.get("created_at"))
                if job is None or at is None:
                    raise UpstreamError("unreadable", "a listed job has no id or no time")
                if (word(row.get("model")), word(row.get("task_type")) or wanted[1]) == wanted:
                    found.append(ListedJob(job, at.timestamp(), may_be=lambda other: _kind_of(other) == wanted))
            seen += len(rows)
            if seen >= total:
                return found
            if not rows:
                break
        raise UpstreamError("unreadable", "the list has no end")

    def validate(self, task: Task) -> list[Mistake]:
        """Return what MiniMax's pages rule out."""
        found = super().validate(task)
        return found + newer.mistakes_of(task) if task.operation in newer.ROUTES else found


def _job(task: Task) -> str:
    return f"/v2/video_generation/{quote(task.external_id or '', safe='')}"


def _kind_of(task: Task) -> tuple[str, str]:
    """Return the model and type of a listed task."""
    return str(task.input.get("model", newer.MODEL)), newer.task_type(task.operation)


def read_created(reply: Reply) -> Update:
    """Read the answer to a submit."""
    said = fields(reply.document)
    job = identifier(said.get("task_id"))
    if not reply.ok or fields(said.get("error")) or said.get("base_resp") is not None or job is None:
        raise refusal_of_newer(reply, creating=True)
    return Update(state=State.SUBMITTED, external_id=job)


def read_status(reply: Reply) -> Update:
    """Read a task; of a list the first one."""
    if reply.ok and is_challenge(reply.document):
        return Update()
    record = task_in(reply.document) if reply.ok else None
    if record is None:
        raise refusal_of_newer(reply, creating=False)
    return read_task(record)
