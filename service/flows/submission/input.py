"""Send a provider the input that it awaits for a task, once."""

from typing import Any

from service.domain.changes import InputSending, InputSent
from service.domain.errors import Uncertain, UpstreamError
from service.domain.task import State, Task
from service.domain.validation import Invalid, Schema
from service.flows.apply import Applied, settle, settle_surely
from service.flows.context import Context
from service.flows.conversation import run_exchange, tokens_of
from service.providers.capabilities import TakesInput
from service.providers.registry import FAMILIES


class NotAwaited(Exception):
    """The task awaits no input."""


async def send_input(context: Context, task: Task, given: Any) -> Applied:
    """Send the input that a task awaits. Gateways may charge for it, so it is sent once, like a submission.

    :raises Invalid: with every mistake in the input
    :raises NotAwaited: when the task awaits no input, or another request has sent it already
    :raises UpstreamError: when the provider did not take it; the task still awaits it
    """
    operation = FAMILIES[task.family].operations[task.operation]
    upstream, dialect = context.upstreams.get(task.upstream or ""), context.dialect(task)
    if task.state is not State.AWAITING_INPUT or operation.answer is None or upstream is None:
        raise NotAwaited(f"the task is {task.state} and awaits no input")
    if not isinstance(dialect, TakesInput):
        raise NotAwaited(f"{task.dialect} takes no input")
    mistakes = Schema(operation.answer).mistakes(given, below="input")
    if mistakes:
        raise Invalid(mistakes)
    sending = await settle(context, InputSending(task_id=task.id, at=context.now(), names=tuple(sorted(given))))
    if sending.task is None or sending.decision != "applied":
        raise NotAwaited("another request has sent the input already")
    try:
        exchange = dialect.send_input(upstream.in_its_names(task), given)
        update = await run_exchange(context, upstream, dialect, exchange, hidden=tokens_of(context, task))
    except Uncertain as error:
        return await settle_surely(context, InputSent(task_id=task.id, error=str(error)))
    except UpstreamError as error:
        await settle_surely(context, InputSent(task_id=task.id, error=str(error), still_awaited=True))
        raise
    return await settle_surely(context, InputSent(task_id=task.id, update=update))
