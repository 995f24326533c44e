"""Suno by the raw protocol that some gateways have beside: no envelope, and clip ids for task ids."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from service.domain.task import ENDED, State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, about
from service.providers.newapi import errors as newapi_errors
from service.providers.newapi.failure_texts import failure_from_text
from service.providers.read import fields, identifier, word
from service.providers.suno import gateway
from service.providers.suno.clips import WORDS, Record, clips_in, read_any, read_clips, translated
from service.providers.suno.family import SONGS, TYPICAL_SECONDS, inherited_from
from service.providers.suno.gateway import LOOKUPS, SYNCHRONOUS_ROUTES
from service.providers.suno.refusals import refusal_of
from service.providers.wire import Call, Exchange, Reply


class NewApiRaw(Dialect):
    """POST /suno/generate and GET /suno/feed, which some gateways have beside: no envelope, and clip ids for task ids.

    An upload of bytes (POST /suno/uploads/audio) is read but not offered: it is a form that goes to another host.
    """

    facts = Facts(
        family="suno",
        name="newapi-raw",
        operations={
            **dict.fromkeys(SONGS, "/suno/generate"),
            "lyrics": "/suno/generate/lyrics/",
            "concat": "/suno/generate/concat",
            **SYNCHRONOUS_ROUTES,
            "persona": "/suno/persona/create/",
        },
        synchronous=frozenset(SYNCHRONOUS_ROUTES),
        free=frozenset(LOOKUPS),
        refunds=True,
        models_are_listed=False,  # the list names the operation, not Suno's versions
        typical_seconds={name: seconds for name, seconds in TYPICAL_SECONDS.items() if name != "upload"},
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        del callback_url  # there is no field for it
        described = task.operation == "music" and "prompt" in task.input
        return gateway.creation(
            task, self.facts.operations[task.operation] + ("/description-mode" if described else "")
        )

    def query(self, task: Task) -> Call:
        """Return the call that queries the clips, or the lyrics."""
        return gateway.query(task, "lyrics" if task.operation == "lyrics" else "feed")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: clips, whose ids are the job's; or an id alone; or the result itself."""
        update = _read_raw(reply.document) if reply.ok else None
        if update is None or (update.external_id is None and update.state is None):
            raise refusal_of(reply)
        return dataclasses.replace(update, state=update.state or State.SUBMITTED)

    def read_status(self, reply: Reply) -> Update:
        """Read the clips, or the lyrics."""
        if reply.ok and (update := _read_raw(reply.document)) is not None:
            return update
        raise newapi_errors.refusal_in(reply, creating=False)

    def submit(self, task: Task, callback_url: str | None) -> Exchange:
        """Submit the task; a question about a clip is repeated until there is an answer."""
        return gateway.submit(self, task, callback_url)

    def from_parent(self, task: Task, parent: Task) -> Mapping[str, Any] | list[Mistake]:
        """Return the clip; there are no ids of tasks."""
        found = inherited_from(task, parent)
        return found if isinstance(found, list) else {**found, "task_id": None}

    def poll(self, task: Task) -> Exchange:
        """Request the clips. While one of them is missing from the answer, the others decide nothing."""

        def read(reply: Reply) -> Update:
            update, asked = self.read_status(reply), set((task.external_id or "").split(","))
            answered = set((update.external_id or "").split(",")) - {""}
            if answered and asked.isdisjoint(answered):
                return about(task, update)
            missing = asked - answered
            return read_clips(clips_in(reply.document), whole=False) if update.state in ENDED and missing else update

        return gateway.free_request(self, task, self.query(task), read)

    def validate(self, task: Task) -> list[Mistake]:
        """Return the mistakes that the gateways' pages rule out."""
        found = super().validate(task)
        return found + gateway.mistakes_in(task) if task.operation in self.facts.operations else found


def _read_raw(document: Any) -> Update | None:
    """Read the raw protocol: the same shapes, an unfinished upload, or an id alone."""
    said = fields(document)
    job = None if said.get("error") else identifier(said.get("id"))
    if "s3_id" in said and job is not None:
        return _of_upload(said, job)
    update = read_any(document, raw=True)
    return Update(external_id=job) if update is None and job is not None else update


def _of_upload(said: Record, job: str) -> Update:
    """Read an upload: complete means that the file has arrived, and the clip comes with the last step."""
    state, unknown = translated(said.get("status"), WORDS)
    return Update(
        state=State.RUNNING if state is State.SUCCEEDED else state,
        external_id=job,
        failure=failure_from_text(word(said.get("error_message"))) if state is State.FAILED else None,
        unknown_word=unknown,
    )
