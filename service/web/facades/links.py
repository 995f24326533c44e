"""Links to the kept copies of results, in the documents of doors."""

import dataclasses
import math

from service.domain.task import Task
from service.flows.context import Context


def with_links(context: Context, task: Task, address: str) -> Task:
    """Return a task whose results have links to their kept copies, where the provider has deleted them.

    :param address: what the links begin with
    """
    now = context.now()
    if not any(
        each.kept is not None and each.expires_at is not None and each.expires_at <= now for each in task.results
    ):
        return task
    until = math.floor(now.timestamp() + context.settings.results.link_seconds)
    results = tuple(
        dataclasses.replace(each, url=f"{address}/results/{context.tokens.make_result_link(each.kept.asset, until)}")
        if each.kept is not None
        and each.kept.state == "kept"
        and each.expires_at is not None
        and each.expires_at <= now
        else each
        for each in task.results
    )
    return dataclasses.replace(task, results=results)
