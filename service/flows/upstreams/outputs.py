"""Fetch an output that its upstream gives only to the holder of the key."""

from collections.abc import Generator
from typing import Final

from service.domain.errors import NotFound, Unavailable
from service.domain.task import Task
from service.flows.context import Context, Upstream
from service.flows.conversation import run_exchange
from service.http.target import path_below
from service.providers.wire import Call, Reply

MAX_OUTPUT: Final = 64 * 1024 * 1024
"""Bytes of an output that is fetched."""
_SILENCE: Final = 60.0


def holder_of(context: Context, task: Task, url: str) -> Upstream | None:
    """Return the upstream whose key opens a URL; None where the URL is at another host."""
    upstream = context.upstreams.get(task.upstream or "")
    return None if upstream is None or path_below(upstream.settings.base_url, url) is None else upstream


async def fetch(context: Context, task: Task, url: str) -> tuple[bytes, str]:
    """Return an output and its type.

    :raises UpstreamError: when it cannot be had now
    """
    upstream, dialect = holder_of(context, task, url), context.dialect(task)
    if upstream is None or dialect is None:
        raise Unavailable("not_found", "the upstream of the task is not configured any more")
    async with context.large.downloads:
        reply: Reply = await run_exchange(
            context, upstream, dialect, _get(path_below(upstream.settings.base_url, url) or "")
        )
    if not reply.ok or not reply.body:
        raise NotFound("not_found", f"{upstream.name} has no such file any more (HTTP {reply.status})")
    return reply.body, reply.header("content-type").partition(";")[0].strip() or "application/octet-stream"


def _get(path: str) -> Generator[Call, Reply, Reply]:
    return (
        yield Call(method="GET", path=path, max_answer=MAX_OUTPUT, read_timeout=_SILENCE, headers={"Accept": "*/*"})
    )
