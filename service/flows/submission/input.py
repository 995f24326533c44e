"""Give a provider the input that it wants of a task, once."""

from collections.abc import Mapping
from typing import Any

from service.domain.errors import Uncertain, UpstreamError
from service.domain.task import Source, State, Task, Update
from service.domain.validation import Invalid, Schema
from service.flows.apply import Applied, News, settle, settle_surely
from service.flows.context import Context
from service.flows.conversation import run_exchange
from service.providers.capabilities import TakesInput
from service.providers.registry import FAMILIES


class NotAwaited(Exception):
    """The task waits for no input."""


async def answer(context: Context, task: Task, given: Any) -> Applied:
    """Send the input that a task waits for. Gateways may charge for it, so it is sent once, like a submit.

    :raises Invalid: with everything that is wrong with the input
    :raises NotAwaited: when the task waits for none, or another request has answered already
    :raises UpstreamError: when the provider has not taken it; the task waits on
    """
    operation = FAMILIES[task.family].operations[task.operation]
    upstream, dialect = context.upstreams.get(task.upstream or ""), context.dialect(task)
    if task.state is not State.AWAITING_INPUT or operation.answer is None or upstream is None:
        raise NotAwaited(f"the task is {task.state} and waits for no input")
    if not isinstance(dialect, TakesInput):
        raise NotAwaited(f"{task.dialect} takes no input")
    mistakes = Schema(operation.answer).mistakes(given, below="input")
    if mistakes:
        raise Invalid(mistakes)
    taken = await settle(context, _sending(context, task, given))
    if taken.task is None or taken.decision != "applied":
        raise NotAwaited("another request has answered already")
    try:
        update = await run_exchange(context, upstream, dialect, dialect.send_input(task, given))
    except Uncertain as error:
        return await settle_surely(context, _news(task, {"last_error": str(error)}, Update()))
    except UpstreamError as error:
        waits = Update(state=State.AWAITING_INPUT)
        await settle_surely(context, _news(task, {"answered_at": None, "last_error": str(error)}, waits))
        raise
    return await settle_surely(context, _news(task, {"last_error": None}, update))


def _sending(context: Context, task: Task, given: Mapping[str, Any]) -> News:
    """Write down, before anything is sent, that the input is on its way."""
    return News(
        task_id=task.id,
        source=Source.CLIENT,
        expects=frozenset({State.AWAITING_INPUT}),
        set={"answered_at": context.now()},
        update=Update(state=State.SUBMITTED),
        details={"input": sorted(given)},
    )


def _news(task: Task, fields: Mapping[str, Any], update: Update) -> News:
    return News(task_id=task.id, source=Source.SUBMIT, set=fields, update=update, remark="input_sent")
