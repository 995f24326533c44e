"""The events of a whole account: one signed URL, and no token. An event names a job; its poll is made due at once."""

from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.errors import UpstreamError
from service.flows.context import Context, Upstream, log
from service.providers.capabilities import ReadsAccountEvents
from service.providers.dialect import Dialect
from service.providers.wire import Callback
from service.store import queue, submissions


def reader_of(context: Context, name: str) -> tuple[Upstream, Dialect] | None:
    """Return the upstream of an account's URL and the dialect that reads its events.

    None where there is no such upstream, or no `callback_key` that could prove an event.
    """
    upstream = context.upstreams.get(name)
    if upstream is None or upstream.settings.callback_key is None:
        return None
    reading = (dialect for dialect in upstream.dialects if isinstance(dialect, ReadsAccountEvents))
    dialect = next(reading, None)
    return None if dialect is None else (upstream, dialect)


async def receive(
    context: Context, upstream: Upstream, dialect: Dialect, headers: Mapping[str, str], body: bytes
) -> bool:
    """Make the polls of the jobs in an event due now. Return after the commit; False when the signature is not right.

    Nothing is stored: an event carries no result. One about a job that is not known yet changes nothing, and the task is
    polled as if it had not come.

    :raises StoreUnavailable: when it could not be written: the provider must be asked to send it again
    """
    key = upstream.settings.callback_key
    callback = Callback(headers, body, context.now().timestamp())
    if key is None or dialect.verify_signature(callback, key.get_secret_value()) is not True:
        log.warning("account event refused upstream=%s reason=signature", upstream.name)
        return False
    try:
        jobs = dialect.jobs_in(callback) if isinstance(dialect, ReadsAccountEvents) else []
    except UpstreamError as error:
        log.warning("account event unreadable upstream=%s error=%s", upstream.name, error)
        return True
    hastened = 0
    if jobs:
        hastened = await context.writers.requests.run(_hasten, context, upstream.name, jobs)
        context.signals.wake("poll")
    log.info("account event received upstream=%s jobs=%d tasks=%d", upstream.name, len(jobs), hastened)
    return True


async def _hasten(connection: AsyncConnection, context: Context, upstream: str, jobs: Sequence[str]) -> int:
    tasks = await submissions.tasks_of_jobs(connection, upstream, jobs)
    await queue.hasten(connection, tasks, now=context.now())
    return len(tasks)
