"""Links to the kept copies of results, in the documents of doors."""

import dataclasses
import math

from service.domain.task import Result, Task
from service.flows.context import Context


def with_links(context: Context, task: Task, address: str) -> Task:
    """Return a task whose results have links to their kept copies, where the provider has deleted them.

    :param address: what the links begin with
    """
    now = context.now()
    until = math.floor(now.timestamp() + context.settings.results.link_seconds)

    def linked(result: Result) -> Result:
        has_expired = result.expires_at is not None and result.expires_at <= now
        if result.kept is None or result.kept.state != "kept" or not has_expired:
            return result
        link = context.tokens.make_result_link(result.kept.asset, until)
        return dataclasses.replace(result, url=f"{address}/results/{link}")

    return dataclasses.replace(task, results=tuple(map(linked, task.results)))
