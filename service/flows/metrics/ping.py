"""A ping to a dead man's switch: while the installation works, one process reports it every minute, and else the reason."""

import asyncio
from urllib.parse import urlsplit

from sqlalchemy.ext.asyncio import AsyncConnection

from service.flows.context import Context, log
from service.http.client import post_briefly
from service.store import health, leases
from service.store.database import StoreUnavailable

TIMEOUT = 10.0
"""Seconds for one ping."""
MAX_ANSWER = 1024
LEASE = "ping"


async def ping(context: Context) -> bool | None:
    """Report success or failure; return which, and None where another process does it."""
    every = context.settings.observability.ping_every
    try:
        faults = await context.writers.journeys.run(_faults, context, every)
    except StoreUnavailable as error:  # no process can hold the lease: each of them reports it
        faults = [f"the database cannot be used: {error}"]
    if faults is None:
        return None
    await _send(context, "; ".join(faults))
    return not faults


async def _faults(connection: AsyncConnection, context: Context, every: float) -> list[str] | None:
    """Return what is wrong; None where another process reports it. The lease is a write: it proves that writes commit."""
    held = await leases.acquire(connection, LEASE, context.process, now=context.now(), seconds=every * 1.5)
    if not held:
        return None
    return health.queue_warnings(await health.queue_ages(connection, now=context.now()))


async def _send(context: Context, reason: str) -> None:
    """Post a ping. A failure is logged: the switch notices by itself that no ping comes."""
    secret = context.settings.observability.ping_url
    if secret is None:
        return
    url = secret.get_secret_value() if not reason else failing(secret.get_secret_value())
    try:
        answer = await post_briefly(
            context.http.questions,
            url,
            headers={"Content-Type": "text/plain; charset=utf-8"},
            content=reason.encode(),
            total_timeout=TIMEOUT,
            limit=MAX_ANSWER,
        )
    except asyncio.CancelledError:
        raise
    except Exception as error:  # noqa: BLE001 - any failure; its text may hold the URL, which is a secret
        log.warning("ping failed host=%s error=%s", urlsplit(url).hostname, type(error).__name__)
        return
    if not answer.status or answer.status >= 300:  # noqa: PLR2004 - no success
        log.warning("ping refused host=%s status=%s", urlsplit(url).hostname, answer.status)
    elif reason:
        log.warning("ping sent result=fail reason=%r", reason)
    else:
        log.debug("ping sent result=success")


def failing(url: str) -> str:
    """Return the URL that reports a failure: ``/fail`` behind the path, as healthchecks.io has it."""
    parts = urlsplit(url)
    return parts._replace(path=f"{parts.path.rstrip('/')}/fail").geturl()
