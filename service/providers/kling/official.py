"""Kling's own API, older generation: the model is in the body (https://api-singapore.klingai.com)."""

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from service.domain.errors import NotFound, Unavailable, Uncertain, Unreadable, UpstreamError
from service.domain.task import State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge
from service.providers.kling.keys import with_key_pair
from service.providers.kling.record import first_task, read_helper, read_task, tasks_in
from service.providers.kling.refusals import UNKNOWN_RESOURCE, code_in, refusal_of
from service.providers.kling.request import ROUTES, SESSIONS, VIDEOS, body_of, mistakes_of
from service.providers.read import fields, identifier, moment, number, word
from service.providers.signatures import standard_webhook
from service.providers.wire import Balance, BalanceExchange, Call, Callback, JobsExchange, ListedJob, Reply

_COSTS = "/account/costs?start_time=1704067200000&end_time=4102444800000"
"""The resource packs of the years 2024 to 2099: a query must state a range, in milliseconds."""
_IN_USE = "online"
LIFETIME = 30 * 86400.0
"""Seconds after which Kling deletes an output."""
FREE = frozenset({"init_selection", "add_selection", "delete_selection", "clear_selection", "preview_selection"})
SYNCHRONOUS = FREE | {"identify_face", "text_to_speech"}
RESERVED = frozenset({"callback_url", "external_task_id"})
_IMAGES = ("text_to_image", "image_to_image", "omni_image", "multi_image_to_image", "outpaint", "virtual_try_on")
TYPICAL: Mapping[str, float] = {
    **{name: 240.0 for name in ROUTES if name not in SYNCHRONOUS},
    **dict.fromkeys(_IMAGES, 30.0),
    **dict.fromkeys(("sound_effect", "video_to_audio"), 60.0),
}
"""Kling publishes none: other clients see 10 to 40 s for images, and 1 to 10 minutes for a video of 5 s."""


class Official(Dialect):
    """Kling's own API, older generation. A task can be queried below its own route only."""

    facts = Facts(
        family="kling",
        name="official",
        operations=ROUTES,
        callbacks=True,
        signs=True,
        synchronous=SYNCHRONOUS,
        free=FREE,
        reserved=RESERVED,
        typical_seconds=TYPICAL,
        result_lifetime=LIFETIME,
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job, with a reference by which it can be found."""
        return Call(method="POST", path=ROUTES[task.operation], json=create_body(task, callback_url))

    def query(self, task: Task) -> Call:
        """Return the call that queries the task, below the route where it was created."""
        return Call(method="GET", path=f"{ROUTES[task.operation]}/{quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: a task, or the result of a helper."""
        return read_created(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the task; of a list the first one."""
        return read_status(reply)

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: the bare task."""
        return read_callback(callback)

    def verify_signature(self, callback: Callback, secret: str | None) -> bool | None:
        """Return whether the signature is right, where the console's webhook secret is set."""
        return None if secret is None else standard_webhook(callback, secret)

    def sign(self, call: Call, key: str, *, host: str, content: bytes, now: float) -> Call:
        """Return the call with a token of a key pair, where the key is one."""
        del host, content
        return with_key_pair(call, key, now=now) or self.authorize(call, key)

    def from_parent(self, task: Task, parent: Task) -> Mapping[str, Any] | list[Mistake]:
        """Return the session of the parent, or the id of its video."""
        return inherited_from(task, parent)

    def find_lost_jobs(self, task: Task) -> JobsExchange:
        """Search the job by the reference of its submit."""
        if task.operation in SYNCHRONOUS:
            raise Unavailable("unknown", f"Kling keeps no record of {task.operation}")
        reply = yield Call(method="GET", path=f"{ROUTES[task.operation]}/{reference_of(task)}")
        if code_in(reply) == UNKNOWN_RESOURCE:
            return []
        found = first_task(reply.document) if reply.ok else None
        if found is None:
            raise refusal_of(reply, creating=False)
        return [listed_job(task, identifier(found.get("task_id")), found.get("created_at"))]

    def balance(self) -> BalanceExchange:
        """Request the units that are left in the resource packs."""
        return units_left()

    def validate(self, task: Task) -> list[Mistake]:
        """Return what Kling's pages rule out."""
        found = super().validate(task)
        return found + mistakes_of(task) if task.operation in ROUTES else found


# What the gateways' dialect shares -------------------------------------------------------------------------------


def create_body(task: Task, callback_url: str | None) -> dict[str, Any]:
    """Return the body of a submit. A helper makes no task, so it gets neither a callback URL nor a reference."""
    body = body_of(task)
    if task.operation not in SYNCHRONOUS:
        body |= {"callback_url": callback_url, "external_task_id": reference_of(task)}
    return merge(body, task.options)


def reference_of(task: Task) -> str:
    """Return our reference of a submission, which is unique in the account."""
    return str(task.submission_id or task.id)


def read_created(reply: Reply) -> Update:
    """Read the answer to a submit."""
    if reply.ok and fields(reply.document).get("code") == 0:
        helper = read_helper(reply)
        if isinstance(helper, UpstreamError):
            raise helper
        if helper is not None:
            return helper
        [record, *_] = tasks_in(reply.document) or [{}]
        update = read_task(record)
        if update.external_id is None:
            raise Uncertain("unreadable", "the answer names no task")
        return dataclasses.replace(update, state=update.state or State.SUBMITTED)
    raise refusal_of(reply, creating=True)


def read_status(reply: Reply) -> Update:
    """Read the answer to a query."""
    if not reply.ok or code_in(reply) is not None:
        raise refusal_of(reply, creating=False)
    if tasks_in(reply.document) == [] and fields(reply.document).get("code") == 0:
        raise NotFound("not_found")
    record = first_task(reply.document)
    if record is None:
        raise refusal_of(reply, creating=False)
    return read_task(record)


def read_callback(callback: Callback) -> list[Update]:
    """Read a callback."""
    record = first_task(callback.document)
    if record is None:
        raise Unreadable("no task in it")
    return [read_task(record)]


def inherited_from(task: Task, parent: Task) -> Mapping[str, Any] | list[Mistake]:
    """Return the values that a follow-up inherits: the session of a helper, or the id of the first video."""
    if task.operation in SESSIONS:
        return {"external_id": parent.external_id}
    video = next((each.item for each in parent.results if each.kind == "video" and each.role == "result"), None)
    if task.operation in VIDEOS and video is None:
        return [Mistake("parent_id", "the parent has no video that Kling names by an id")]
    return {"external_id": parent.external_id, "video_id": video}


def units_left() -> BalanceExchange:
    """Request the resource packs, and return the units that are left in those in use. Kling reports them 12 h late."""
    reply = yield Call(method="GET", path=_COSTS)
    data = fields(fields(reply.document).get("data"))
    packs = data.get("resource_pack_subscribe_infos")
    if not reply.ok or code_in(reply) is not None or not isinstance(packs, list):
        raise refusal_of(reply, creating=False)
    usable = [fields(each) for each in packs if (word(fields(each).get("status")) or "").lower() == _IN_USE]
    return Balance(sum(number(each.get("remaining_quantity")) or 0.0 for each in usable), "units")


def listed_job(task: Task, job: str | None, created_at: Any) -> ListedJob:
    """Return a job that was found by its reference. It belongs to no other task.

    :raises Unreadable: when it has no id or time
    """
    at = moment(created_at)
    if job is None or at is None:
        raise Unreadable("the task that was found has no id or no time")
    return ListedJob(job, at.timestamp(), may_be=lambda other: other.id == task.id)
