"""Cancel: at the provider where it can be done without destroying a result, else here, with the truth told."""

from service.domain.errors import NotFound, UpstreamError
from service.domain.schedules import may_be_invisible
from service.domain.task import Failure, Source, State, Task, Update
from service.flows.apply import Applied, News, settle
from service.flows.context import Context
from service.flows.conversation import run_exchange
from service.providers.capabilities import CanCancel


async def cancel(context: Context, task: Task) -> Applied:
    """Cancel an open task as far as that can be done now.

    A task on its way to an upstream is marked; what may be running there is looked for and cancelled once its id is known.

    :raises UpstreamError: when the provider could not be asked; the wish stays noted
    """
    if task.state is State.QUEUED:
        update = Update(state=State.CANCELLED, failure=unsent(task))
        applied = await settle(
            context, News(task_id=task.id, source=Source.CLIENT, update=update, expects=frozenset({State.QUEUED}))
        )
        if applied.decision == "applied":
            return applied
    wish = News(
        task_id=task.id,
        source=Source.CLIENT,
        set={} if task.cancel_requested_at else {"cancel_requested_at": context.now()},
        remark=None if task.cancel_requested_at else "cancel_requested",
    )
    applied = await settle(context, wish)
    return await _at_provider(context, applied.task) if applied.task is not None else applied


def unsent(task: Task) -> Failure:
    """Say what a cancel means for the money while a task is queued."""
    if task.unconfirmed_since is None:
        return Failure("cancelled", "before it was handed over; nothing was paid")
    words = "before it was handed over once more; the job of an earlier submission may run and be charged"
    return Failure("cancelled", words)


async def _at_provider(context: Context, task: Task) -> Applied:
    upstream, dialect = context.upstreams.get(task.upstream or ""), context.dialect(task)
    if task.external_id is None or task.state.ended:
        return Applied("stale", task)
    if upstream is None or not isinstance(dialect, CanCancel):
        return await settle(context, _here(task))
    try:
        update = await run_exchange(context, upstream, dialect, dialect.cancel(task))
    except NotFound as error:
        if may_be_invisible(task, now=context.now()):
            words = f"{task.upstream} does not know job {task.external_id} yet: it is cancelled as soon as it does"
            return await settle(context, News(task_id=task.id, source=Source.CLIENT, set={"last_error": words}))
        update = Update(state=State.CANCELLED, failure=Failure("cancelled", error.message))
    return await settle(context, News(task_id=task.id, source=Source.POLL, update=update))


def _here(task: Task) -> News:
    words = (
        f"{task.upstream} has no way to cancel: the job may run on there and be charged; "
        "should a result come all the same, it is kept"
    )
    update = Update(state=State.CANCELLED, failure=Failure("cancelled", words))
    return News(task_id=task.id, source=Source.CLIENT, update=update)


def to_be_cancelled(task: Task) -> bool:
    """Whether a wish to cancel is still to be carried out, and can be."""
    return task.cancel_requested_at is not None and task.external_id is not None and not task.state.ended


async def follow_up(context: Context, task: Task) -> None:
    """Carry out a wish to cancel that had to wait until the job's id was known."""
    if to_be_cancelled(task):
        try:
            await _at_provider(context, task)
        except UpstreamError as error:
            await settle(context, News(task_id=task.id, source=Source.CLIENT, set={"last_error": str(error)}))
