"""Cancel a task: at the provider where that destroys no result, otherwise in Dovecote only. The cost is stated."""

from service.domain.changes import CancelRequested, CheckFailed, Ended, StatusReported
from service.domain.errors import NotFound, UpstreamError
from service.domain.schedules import may_be_invisible
from service.domain.task import Failure, Source, State, Task, Update
from service.flows.apply import Applied, settle
from service.flows.context import Context
from service.flows.conversation import run_exchange, tokens_of
from service.flows.submission.plan import cancelled_before_sending
from service.providers.capabilities import CanCancel


async def cancel(context: Context, task: Task) -> Applied:
    """Cancel an open task as far as possible now.

    A task on its way to an upstream is marked. A job that may exist is cancelled once its id is known.

    :raises UpstreamError: when the provider could not be asked; the request to cancel stays noted
    """
    if task.state is State.QUEUED:
        applied = await settle(
            context,
            Ended(
                task_id=task.id,
                state=State.CANCELLED,
                failure=cancelled_before_sending(task),
                source=Source.CLIENT,
                expects=frozenset({State.QUEUED}),
            ),
        )
        if applied.decision == "applied":
            return applied
    applied = await settle(
        context, CancelRequested(task_id=task.id, at=context.now(), repeated=task.cancel_requested_at is not None)
    )
    return await _cancel_at_provider(context, applied.task) if applied.task is not None else applied


async def _cancel_at_provider(context: Context, task: Task) -> Applied:
    upstream, dialect = context.upstreams.get(task.upstream or ""), context.dialect(task)
    if task.external_id is None or task.state.ended:
        return Applied("stale", task)
    if upstream is None or not isinstance(dialect, CanCancel):
        return await settle(context, _cancelled_here_only(task))
    try:
        exchange = dialect.cancel(upstream.in_its_names(task))
        update = await run_exchange(context, upstream, dialect, exchange, hidden=tokens_of(context, task))
    except NotFound as error:
        if may_be_invisible(task, now=context.now()):
            words = f"{task.upstream} does not know job {task.external_id} yet: it is cancelled as soon as it does"
            return await settle(context, CheckFailed(task_id=task.id, error=words))
        update = Update(state=State.CANCELLED, failure=Failure("cancelled", error.message))
    return await settle(
        context,
        StatusReported(task_id=task.id, source=Source.POLL, update=update, submission_id=task.submission_id),
    )


def _cancelled_here_only(task: Task) -> Ended:
    words = (
        f"{task.upstream} has no way to cancel: the job may go on and be charged; if a result still arrives, it is kept"
    )
    failure = Failure("cancelled", words)
    return Ended(task_id=task.id, state=State.CANCELLED, failure=failure, source=Source.CLIENT)


def is_cancel_pending(task: Task) -> bool:
    """Return whether a request to cancel is still to be carried out, and can be."""
    return task.cancel_requested_at is not None and task.external_id is not None and not task.state.ended


async def cancel_if_pending(context: Context, task: Task) -> None:
    """Execute a request to cancel that waited for the job's id."""
    if is_cancel_pending(task):
        try:
            await _cancel_at_provider(context, task)
        except UpstreamError as error:
            await settle(context, CheckFailed(task_id=task.id, error=str(error)))
