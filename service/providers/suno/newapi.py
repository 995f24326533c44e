"""Suno by the protocol of Suno-API, which new-api, CometAPI and ElkAPI share."""

import dataclasses
import functools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.domain.errors import NotFound, Unreadable
from service.domain.task import State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, about, merge
from service.providers.newapi import account
from service.providers.newapi import errors as newapi_errors
from service.providers.read import fields, identifier, link, nested
from service.providers.suno import gateway
from service.providers.suno.clips import (
    agrees,
    clips_in,
    file_result,
    job_of,
    read_any,
    read_clips,
    read_immediate,
    read_row,
    unwrapped,
)
from service.providers.suno.family import SONGS, TYPICAL_SECONDS, inherited_from
from service.providers.suno.gateway import LOOKUPS, SYNCHRONOUS_ROUTES
from service.providers.suno.refusals import refusal_of
from service.providers.wire import Call, Callback, Exchange, JobsExchange, ListedJob, ManyExchange, Reply


class NewApi(Dialect):
    """POST /suno/submit/* and /suno/fetch of CometAPI, ElkAPI and new-api (the Suno-API protocol).

    Plain new-api supports only music, lyrics and fetch, and drops most fields, including the callback's. No page
    documents the body of a callback, so it only triggers a poll.
    """

    facts = Facts(
        family="suno",
        name="newapi",
        operations={
            **dict.fromkeys(SONGS, "/suno/submit/music"),
            "lyrics": "/suno/submit/lyrics",
            "concat": "/suno/submit/concat",
            "upload": "/suno/uploads/audio-url",
            **SYNCHRONOUS_ROUTES,
        },
        callbacks=True,
        confirms=True,
        jobs_listed_by="account",
        synchronous=frozenset(SYNCHRONOUS_ROUTES),
        free=frozenset(LOOKUPS),
        queries=("/fetch",),
        refunds=True,
        models_are_listed=False,  # the list names the operation, not Suno's versions
        batch_size=100,
        reserved=frozenset({"callback_url", "notify_hook"}),
        typical_seconds=TYPICAL_SECONDS,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        hook = None if task.operation in self.facts.synchronous else callback_url
        return gateway.creation(task, self.facts.operations[task.operation], notify_hook=hook)

    def query(self, task: Task) -> Call:
        """Return the call that queries the task, or its clips where the answer to the submit named only these."""
        return gateway.query(task, "feed" if "," in (task.external_id or "") else "fetch")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: an id in an envelope, the result itself, or clips without an id for all."""
        if reply.ok and (update := _taken(reply.document)) is not None:
            return update
        raise refusal_of(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the task, in any of its shapes."""
        if reply.ok and (update := read_any(reply.document)) is not None:
            return update
        raise newapi_errors.refusal_in(reply, creating=False)

    def submit(self, task: Task, callback_url: str | None) -> Exchange:
        """Submit the task; a question about a clip is repeated until there is an answer."""
        return gateway.submit(self, task, callback_url)

    def from_parent(self, task: Task, parent: Task) -> Mapping[str, Any] | list[Mistake]:
        """Return the clip and the gateway's id of the task, which keeps a follow-up on the account that has the clip."""
        return inherited_from(task, parent)

    def poll(self, task: Task) -> Exchange:
        """Request the task."""
        return gateway.free_request(self, task, self.query(task), lambda reply: about(task, self.read_status(reply)))

    def poll_many(self, tasks: Sequence[Task]) -> ManyExchange:
        """Query several tasks: one request for each action, as CometAPI requires. Files are queried one by one."""
        by_action: dict[str, list[str]] = defaultdict(list)
        for task in tasks:
            if task.operation not in LOOKUPS and task.external_id is not None and "," not in task.external_id:
                by_action["LYRICS" if task.operation == "lyrics" else "MUSIC"].append(task.external_id)
        found: dict[str, Update] = {}
        for action, ids in by_action.items():
            reply = yield Call(method="POST", path="/suno/fetch", json={"ids": ids, "action": action})
            found |= _rows(reply)
        return found

    def find_lost_jobs(self, task: Task) -> JobsExchange:
        """List the account's jobs of the task's time and action, except those that show another input."""
        since, until = task.created_at, task.unconfirmed_since or task.updated_at
        span = {"since": since.timestamp() - _CLOCKS_APART, "until": until.timestamp() + _CLOCKS_APART}
        rows = yield from account.jobs(platform="suno", **span)
        found = [(row, functools.partial(_may_be, row)) for row in rows]
        return [ListedJob(row.task_id, row.submitted_at, may_be) for row, may_be in found if may_be(task)]

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback as the answer to a poll."""
        update = read_any(callback.document)
        if update is None:
            raise Unreadable("no task in it")
        return [update]

    def validate(self, task: Task) -> list[Mistake]:
        """Return the mistakes that the gateways' pages rule out."""
        found = super().validate(task)
        return found + gateway.mistakes_in(task) if task.operation in self.facts.operations else found


_CLOCKS_APART = 120.0
"""Seconds of the list that are read before and after a task's own time."""


def _may_be(row: account.Row, task: Task) -> bool:
    """Return whether a job in the account's list may be a task's: of its kind, and of the same input as far as shown.

    Gateways have two names for all actions. A row has clips once its gateway has polled it, and newer gateways repeat
    the text as ``properties.input``. Fields that a task leaves to Suno, such as the style, are not compared.
    """
    named = "music" if task.operation in SONGS else "lyrics" if task.operation == "lyrics" else None
    fits = row.action == named if named is not None else row.action not in {"", "music", "lyrics"}
    return (
        fits
        and row.platform in {"suno", ""}
        and all(ours == theirs for ours, theirs in _shown_input(task, row.document))
    )


def _shown_input(task: Task, row: Mapping[str, Any]) -> Iterator[tuple[str | None, str | None]]:
    """Yield our value and theirs for each part of the input that a row shows."""
    body = merge(gateway.body_of(task), task.options)
    ours = {name: _plain(body.get(name)) for name in ("gpt_description_prompt", "prompt", "tags")}
    text, theirs = ours["gpt_description_prompt"] or ours["prompt"], _plain(fields(row.get("properties")).get("input"))
    if text and theirs:
        yield text, theirs
    for clip in clips_in(row.get("data")):
        shown = fields(clip.get("metadata"))
        if described := _plain(shown.get("gpt_description_prompt")):
            yield ours["gpt_description_prompt"], described
        for name in ("prompt", "tags"):
            if ours["gpt_description_prompt"] is None and ours[name] and (theirs := _plain(shown.get(name))):
                yield ours[name], theirs


def _plain(value: Any) -> str | None:
    """Return a text with single spaces."""
    return " ".join(value.split()) or None if isinstance(value, str) else None


_ID = re.compile(r"\S{1,200}")


def _taken(document: Any) -> Update | None:
    """Read an answer that accepts a submit: the result itself, clips, or an id in an envelope that agrees."""
    said, held = fields(document), unwrapped(document)
    update = read_immediate(fields(held))
    if update is not None or ("code" in said and not agrees(said)):
        return update
    if isinstance(held, str) and (url := link(held)) is not None:
        return Update(state=State.SUCCEEDED, results=(file_result(url),))
    update, job = Update(), identifier(held) if agrees(said) else None
    if isinstance(held, list) or "clips" in fields(held):
        update = read_clips(clips_in(held))
        job = update.external_id
    elif isinstance(held, dict):
        job = job_of(held)
        update = read_row(held) if "status" in held else update  # a link without a word proves nothing
    if job is None or not _ID.fullmatch(job):
        return None
    return dataclasses.replace(update, state=update.state or State.SUBMITTED, external_id=job)


def _rows(reply: Reply) -> dict[str, Update]:
    """Read the answer for several. Unknown ids are missing; when none is known the answer is null, or an error."""
    document = reply.document
    data = nested(document.get("data")) if isinstance(document, dict) and agrees(document) else document
    if not reply.ok or not isinstance(data, list | None):
        refusal = newapi_errors.refusal_in(reply, creating=False)
        if isinstance(refusal, NotFound):
            return {}
        raise refusal
    rows = [row for row in data or () if isinstance(row, dict)]
    return {job: read_row(row) for row in rows if (job := job_of(row)) is not None}
