"""Adopt a job that was bought elsewhere: a task follows it to its end, and is never submitted."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.task import Outcome, State, Submission, Task
from service.domain.validation import Mistake, nearest
from service.flows.context import Context, Upstream
from service.flows.submission.routes import not_configured, not_served, quoted
from service.flows.submission.send import callback_url
from service.providers.dialect import Dialect
from service.store import submissions
from service.store import tasks as task_store
from service.store.database import StoreUnavailable

_NOT_WITH_A_JOB: Final = ("parent_id", "route", "on_uncertain")
"""Fields that say how to buy a job."""


class JobTaken(Exception):
    """Another client follows the job."""

    def __init__(self, task: Task) -> None:
        """Compose the message of the conflict."""
        super().__init__(f"another client follows job {quoted(task.external_id or '')} of {task.upstream} already")


def as_adopted(context: Context, task: Task, request: Mapping[str, Any], mistakes: list[Mistake]) -> Task:
    """Return a new task as one that follows the job of ``external_id``.

    :param mistakes: what is wrong with the request is added here
    """
    mistakes += [
        Mistake(name, "leave it out: the job was bought already") for name in _NOT_WITH_A_JOB if name in request
    ]
    external_id = request["external_id"]
    if isinstance(external_id, str) and (external_id != external_id.strip() or not external_id.isprintable()):
        mistakes.append(Mistake("external_id", "must be the provider's id exactly, without spaces around it"))
    elif external_id in {".", ".."}:  # in a path it would lead to another route of the provider
        mistakes.append(Mistake("external_id", "is no id of a job"))
    found = _speaker(context, task, request, mistakes)
    if mistakes or found is None:
        return task
    upstream, dialect = found
    adopted = dataclasses.replace(
        task,
        adopted=True,
        on_uncertain="hold",
        state=State.SUBMITTED,
        route=(upstream.name,),
        upstream=upstream.name,
        dialect=dialect.facts.key,
        external_id=external_id,
        submission_id=context.new_id(),
        submitted_at=task.created_at,
    )
    if not _can_be_asked_about(dialect, adopted):
        words = f"lacks what {dialect.facts.key} needs to ask for the job, such as its model: give the input of the purchase"
        mistakes.append(Mistake("input", words))
    return adopted


def _speaker(
    context: Context, task: Task, request: Mapping[str, Any], mistakes: list[Mistake]
) -> tuple[Upstream, Dialect] | None:
    """Return the upstream that has the job, and the dialect in which it is followed."""
    name = request.get("upstream")
    if not isinstance(name, str):
        mistakes.append(Mistake("upstream", "is required with an external_id: name the upstream that has the job"))
        return None
    upstream = context.upstreams.get(name)
    if upstream is None:
        mistakes.append(not_configured(context, name))
        return None
    able = {each.facts.key: each for each in upstream.dialects if each.offers(task.family, task.operation)}
    if not able:
        mistakes.append(not_served(task, (name,), requested=True))
        return None
    key = request.get("dialect", next(iter(able)))
    dialect = able.get(key)
    if dialect is None:
        has = f"{name} has {task.operation} in {', '.join(able)}"
        mistakes.append(Mistake("dialect", f"{quoted(str(key))} does not fit: {has}{nearest(str(key), able)}"))
        return None
    if task.operation in dialect.facts.synchronous:
        mistakes.append(Mistake("operation", "has no job to follow: the answer to its submit is its result"))
        return None
    return upstream, dialect


def _can_be_asked_about(dialect: Dialect, task: Task) -> bool:
    """Return whether the task's input has the fields that its dialect needs to query the job."""
    try:
        call = next(dialect.poll(task))
    except Exception:  # noqa: BLE001 - whatever it lacks, the job cannot be followed
        return False
    return "//" not in call.path  # a part of the path that the input names, such as the model, is missing


async def adopt(context: Context, task: Task) -> task_store.Accepted:
    """Store a task that follows a job, or return the client's task that follows it already.

    :raises JobTaken: when another client follows it
    :raises StoreUnavailable: when it could not be written; nothing has been accepted
    """
    accepted = await context.writers.requests.run(_adopt, task)
    if accepted.task.client != task.client:
        raise JobTaken(task)
    return accepted


async def _adopt(connection: AsyncConnection, task: Task) -> task_store.Accepted:
    known = await _known(connection, task)
    if known is None and await task_store.adopt(connection, task):
        await submissions.begin(connection, [_submission(task)])
        return task_store.Accepted(task_store.stored(task), new=True)
    known = known or await _known(connection, task)  # another process has adopted it at the same time
    if known is None:
        raise StoreUnavailable("the job was adopted and is not there")
    return task_store.Accepted(known, new=False)


async def _known(connection: AsyncConnection, task: Task) -> Task | None:
    """Return the task of the same idempotency key, or the one that has the job."""
    if task.idempotency_key is not None:
        same = await task_store.find_by_key(connection, task.client, task.idempotency_key)
        if same is not None:
            return same
    owner = await submissions.task_of_job(connection, task.upstream or "", task.external_id or "")
    return None if owner is None else await task_store.find(connection, owner)


def _submission(task: Task) -> Submission:
    """Return the submission that represents the external purchase. Forwarded callbacks name it."""
    assert task.submission_id is not None  # noqa: S101 - for the type checker
    return Submission(
        id=task.submission_id,
        task_id=task.id,
        upstream=task.upstream or "",
        dialect=task.dialect or "",
        outcome=Outcome.TAKEN,
        external_id=task.external_id,
        sent_at=task.created_at,
        settled_at=task.created_at,
    )


def forwarding_url(context: Context, task: Task) -> str | None:
    """Return the URL to which the provider's callbacks about an adopted job may be forwarded; None where none can come."""
    upstream, dialect = context.upstreams.get(task.upstream or ""), context.dialect(task)
    if not task.adopted or upstream is None or dialect is None or task.submission_id is None:
        return None
    return callback_url(context, upstream, dialect, task, task.submission_id)
