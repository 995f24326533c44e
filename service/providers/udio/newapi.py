"""Udio by new-api's task protocol: /udio/submit/music and /udio/fetch. Known from sibling gateways only."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from service.domain.task import Failure, State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.errors import STATES
from service.providers.newapi.failure_texts import failure_from_text
from service.providers.read import fields, identifier, line, percent, word
from service.providers.udio.family import FAMILY, body_of, inherited_from, mistakes_in
from service.providers.udio.songs import Song, reason_of, results_of, songs_in
from service.providers.wire import Call, Reply

_SUBMIT = "/udio/submit/music"


class NewApi(Dialect):
    """POST /udio/submit/music and GET /udio/fetch/{id}."""

    facts = Facts(
        family="udio",
        name="newapi",
        operations=dict.fromkeys(FAMILY.operations, _SUBMIT),
        typical_seconds=dict.fromkeys(FAMILY.operations, 90.0),
        refunds=True,
        experimental=True,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        del callback_url
        return Call(method="POST", path=_SUBMIT, json=body_of(task))

    def query(self, task: Task) -> Call:
        """Return the call that queries the task."""
        return Call(method="GET", path=f"/udio/fetch/{quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: an id in an envelope that agrees."""
        said = fields(reply.document)
        job = identifier(said.get("data"))
        if not reply.ok or job is None or not _agrees(said):
            raise newapi_errors.refusal_in(reply, creating=True)
        return Update(state=State.SUBMITTED, external_id=job)

    def read_status(self, reply: Reply) -> Update:
        """Read the task with its songs."""
        record = fields(fields(reply.document).get("data"))
        if not reply.ok or "status" not in record:
            raise newapi_errors.refusal_in(reply, creating=False)
        return _read(record)

    def from_parent(self, task: Task, parent: Task) -> Mapping[str, Any] | list[Mistake]:
        """Return the song of the parent."""
        del task
        return inherited_from(parent)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what Udio's fields rule out."""
        found = super().validate(task)
        return found + mistakes_in(task) if task.operation in self.facts.operations else found


def _agrees(said: Mapping[str, Any]) -> bool:
    """Return whether an envelope reports success."""
    return (word(said.get("code")) or "success").lower() in {"success", "200", "1", "0"}


def _read(record: Mapping[str, Any]) -> Update:
    said = word(record.get("status"))
    state = STATES.get(said.lower()) if said is not None else None
    songs = songs_in(record.get("songs")) or songs_in(fields(record.get("data")).get("songs"))
    results = results_of(songs)
    if state is State.SUCCEEDED and not results:
        state = None  # a success without a song settles nothing
    return Update(
        state=state,
        external_id=identifier(record.get("task_id")),
        progress=percent(record.get("progress")),
        results=results if state is State.SUCCEEDED else (),
        failure=_failure(record, songs) if state is State.FAILED else None,
        unknown_word=None if said is None or said.lower() in STATES else said.lower(),
    )


def _failure(record: Mapping[str, Any], songs: list[Song]) -> Failure:
    """Return why it failed: by its reason, then by the errors of its songs."""
    text = line(record.get("fail_reason"))
    return failure_from_text(text) if text is not None else reason_of(songs) or failure_from_text(None)
