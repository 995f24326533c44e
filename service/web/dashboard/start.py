"""Getting started: the first task, the next steps, and the state of this installation."""

import dataclasses
import secrets
from collections.abc import Sequence
from typing import Final

from starlette.responses import Response

from service.flows.context import Context
from service.settings.values import is_loopback
from service.store import health
from service.store import tasks as task_store
from service.store.migrate import newest
from service.store.tasks import Filter
from service.web.dashboard import words
from service.web.dashboard.paid import Tone
from service.web.dashboard.visit import Visit

FAULTS: Final = (
    ("drop", "the callback never comes"),
    ("cut", "the connection is cut once the job exists"),
    ("twice", "every callback comes twice"),
)
"""The faults of the sandbox that a first task can try."""
_FIRST: Final = (
    ("runway", "text_to_video"),
    ("kling", "text_to_video"),
    ("veo", "text_to_video"),
    ("flux", "text_to_image"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One line on the state of this installation."""

    tone: Tone
    icon: str
    word: str
    words: str


@dataclasses.dataclass(frozen=True, slots=True)
class First:
    """The task that the page offers to submit."""

    family: str
    operation: str
    idempotency_key: str


async def start_page(visit: Visit) -> Response:
    """Return the page."""
    context = visit.context
    async with context.database.reading() as connection:
        beat = await health.last_worker(connection)
        found = await task_store.page(connection, Filter(client=visit.sees_only), most=1)
    sandbox = is_sandboxed(context)
    first = first_task(context)
    lead = "Submit one to an upstream below; the page of the task shows every step."
    if sandbox:
        lead = "Submit one to the sandbox: it costs nothing and takes a few seconds."
    elif first is None:
        lead = "Configure an upstream first: without one, no task can be served."
    silent = None if beat is None else (context.now() - beat).total_seconds()
    return visit.page(
        "start.html",
        title="Getting started",
        is_empty=not found,
        lead=lead,
        first=first,
        sandbox=sandbox,
        faults=FAULTS,
        checks=checks_of(context, silent=silent, keyless=visit.caller.is_sole),
    )


def is_sandboxed(context: Context) -> bool:
    """Return whether every upstream is on this machine, as the sandbox is."""
    hosts = [upstream.settings.base_url for upstream in context.upstreams.values()]
    return bool(hosts) and all(
        is_loopback(url.partition("://")[2].partition("/")[0].rpartition(":")[0]) for url in hosts
    )


def first_task(context: Context) -> First | None:
    """Return a task that a configured upstream can serve."""
    for family, operation in _FIRST:
        if any(each.dialect_for(family, operation) is not None for each in context.upstreams.values()):
            return First(family, operation, f"form-{secrets.token_hex(8)}")
    return None


def checks_of(context: Context, *, silent: float | None, keyless: bool) -> Sequence[Check]:
    """Return the state of this installation.

    :param silent: seconds since a worker was seen; None where there was none
    """
    found = [Check("good", "check", "well", f"Database, schema {newest()}")]
    if silent is None:
        found.append(Check("bad", "alert", "missing", "No worker runs: tasks are accepted and not submitted"))
    else:
        found.append(Check("good", "check", "well", f"Worker, seen {words.duration(silent)} ago"))
    count = len(context.upstreams)
    if is_sandboxed(context):
        found.append(Check("work", "play", "sandbox", f"{count} upstream{'s' * (count != 1)} on this machine"))
    elif count:
        found.append(Check("good", "check", "well", f"{count} upstream{'s' * (count != 1)}"))
    else:
        found.append(Check("bad", "alert", "missing", "No upstream is configured"))
    if context.settings.public_url is None:
        found.append(Check("doubt", "alert", "polls", "No public address: providers cannot call back"))
    else:
        found.append(Check("good", "check", "well", "Callbacks are expected"))
    if keyless:
        found.append(Check("doubt", "key", "open", "No API key: only this machine is served"))
    return found
