"""The task that a request names as its parent: whether it fits, and what a follow-up takes from it."""

from collections.abc import Mapping
from typing import Any

from service.domain.task import State, Task
from service.domain.validation import Mistake
from service.flows.context import Context
from service.providers.media import choose
from service.providers.operation import Operation


def follows_parent(operation: Operation, *, takes_result: bool) -> bool:
    """Return whether a task continues its parent at the provider. One that may, and takes a result of it, does not."""
    return operation.parent == "required" or (operation.parent == "optional" and not takes_result)


def check_parent(
    request: Mapping[str, Any],
    operation: Operation,
    parent: Task | None,
    mistakes: list[Mistake],
    *,
    takes_result: bool,
) -> None:
    """Add what is wrong with the parent to the mistakes.

    :param takes_result: whether the input takes a result of it
    """
    if "parent_id" not in request:
        if operation.parent == "required":
            mistakes.append(Mistake("parent_id", f"is required: {operation.name} continues another task"))
    elif operation.parent is None and not takes_result:
        mistakes.append(Mistake("parent_id", f"does not fit: {operation.name} continues no other task"))
    elif parent is None:
        mistakes.append(Mistake("parent_id", "there is no task with this id"))
    elif parent.family != request["family"] and follows_parent(operation, takes_result=takes_result):
        mistakes.append(Mistake("parent_id", f"is a task of {parent.family}, not of {request['family']}"))
    elif parent.erased_at is not None:
        mistakes.append(Mistake("parent_id", "the content of the task was erased: no task can continue it"))
    elif parent.state is not State.SUCCEEDED:
        mistakes.append(Mistake("parent_id", f"the task has not succeeded: it is {parent.state}"))


def follow(
    context: Context, task: Task, parent: Task, requested: tuple[str, ...] | None, mistakes: list[Mistake]
) -> Task:
    """Route a follow-up to the upstream of its parent. Ids and buttons have no meaning elsewhere."""
    upstream, dialect = context.upstreams.get(parent.upstream or ""), context.dialect(parent)
    if upstream is None or dialect is None:
        mistakes.append(Mistake("parent_id", f"its upstream {parent.upstream!r} is not configured any more"))
        return task
    if requested is not None and upstream.name not in requested:
        mistakes.append(
            Mistake("upstream", f"leave it out: the parent is at {upstream.name}, and its follow-ups are served there")
        )
    task = task.changed(parent_id=parent.id, dialect=parent.dialect, route=(upstream.name,))
    if not dialect.offers(task.family, task.operation):
        mistakes.append(Mistake("operation", f"{parent.dialect}, which served the parent, has no {task.operation}"))
        return task
    inherited = dialect.from_parent(task, parent)
    if isinstance(inherited, list):
        mistakes += inherited
        return task
    task = task.changed(inherited=inherited)
    mistakes += choose(dialect, upstream.in_its_names(task), links=upstream.gives_links).mistakes
    return task
